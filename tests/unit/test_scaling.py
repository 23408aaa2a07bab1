"""Strong and weak scaling: growth of parts against efficiency."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import UserError
from simulator.result import PARTS
from simulator.study.scaling import scaling_rows, with_growth

Command = Callable[..., Any]
Files = Callable[..., Path]


def rows(path: Path, kind: Any, *chips: int) -> list[dict[str, Any]]:
    return with_growth(list(scaling_rows(str(path), (), chips, kind, jobs=1)))


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_what_parts_grow_by_is_what_efficiency_lacks(small_file: Files, kind: str) -> None:
    found = rows(small_file("training"), kind, 16, 32, 64)
    assert found[0]["efficiency"] == 1.0
    for row in found:
        assert sum(row[f"growth_{part}"] for part in PARTS) == pytest.approx(1 / row["efficiency"] - 1)
        expected = row["tokens_per_s"] / found[0]["tokens_per_s"] / (row["chips"] / found[0]["chips"])
        assert row["efficiency"] == pytest.approx(expected)
        assert (row["stopped_by"] == "") == (row["efficiency"] >= 1)


def test_strong_scaling_ends_in_the_bubble_and_weak_scaling_does_not(small_file: Files) -> None:
    """64 sequences on 2 stages: 8 micro-batches on 16 chips, one on 128."""
    strong, weak = (rows(small_file("training"), kind, 16, 128)[1] for kind in ("strong", "weak"))
    assert strong["growth_bubble"] > 0.1
    assert weak["growth_bubble"] < 0.25 * strong["growth_bubble"]
    assert strong["efficiency"] < weak["efficiency"]
    assert weak["workload.global_batch_sequences"] == 512


def test_sizes_that_do_not_tile_are_rows(small_file: Files) -> None:
    found = rows(small_file("training"), "strong", 16, 17)
    assert [row["feasible"] for row in found] == [True, False]
    assert "efficiency" not in found[1]


def test_weak_batches_must_be_whole(small_file: Files) -> None:
    """40 sequences on 16 chips."""
    batch = ["workload.global_batch_sequences=40"]
    with pytest.raises(UserError) as refused:
        scaling_rows(str(small_file("training")), batch, [15, 16, 17, 18], "weak", jobs=1)
    assert [line.split(":")[1].strip() for line in refused.value.problems] == ["15", "17"]


def test_the_command_says_what_grew(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    path = small_file("training")
    outcome = epsim("scale", path, "--chips", "16,32,...,128,17", "--jobs", "1", "--csv", tmp_path / "rows.csv")
    assert outcome.code == 0, outcome.err
    assert "pipeline bubble +" in outcome.out
    assert "17 chips: " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 6
    assert {each.name for each in (tmp_path / "out").glob("scale-*/*")} == {"scaling.png", "parts.png"}


def test_the_command_prints_json_without_gaps(epsim: Command, small_file: Files) -> None:
    outcome = epsim("scale", small_file("training"), "--chips", "16,17", "--weak", "--jobs", "1", "--json")
    assert [row["efficiency"] for row in json.loads(outcome.out)] == [1.0, None]


@pytest.mark.parametrize(
    ("phase", "chips", "said"),
    [
        ("training", "16,x,0", "'x' is not a whole number"),
        ("training", "16,32,...,100", "does not reach 100"),
        ("training", ",", "no sizes"),
        ("training", "17", "17 chips: "),
        ("decode", "16", "use epsim sweep"),
    ],
)
def test_bad_input_is_refused(epsim: Command, small_file: Files, phase: str, chips: str, said: str) -> None:
    outcome = epsim("scale", small_file(phase), "--chips", chips, "--jobs", "1")
    assert outcome.code == 2
    assert said in outcome.err
