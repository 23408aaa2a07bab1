"""`epsim goodput`: what it prints, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
Files = Callable[..., Path]


def test_figures_fit_together(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim("goodput", small_file("training"), "--tokens", "1e12", "--json", "--out", tmp_path / "o")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["sizes"]
    assert row["undisturbed_days"] == pytest.approx(1e12 / row["tokens_per_s"] / 86_400)
    assert row["goodput_p10"] <= row["goodput_median"] <= row["goodput_p90"] < 1
    assert row["days_median"] == pytest.approx(row["undisturbed_days"] / row["goodput_median"], rel=1e-3)
    assert row["chip_hours_median"] == pytest.approx(row["days_median"] * 24 * (row["chips"] + row["spare_chips"]))
    assert sum(row[f"{part}_share"] for part in PARTS) == pytest.approx(1)
    assert (tmp_path / "o" / "interval.png").stat().st_size > 5_000


PARTS = ("useful", "slowed", "lost", "checkpoint", "detection", "restart", "waiting")


def test_sizes_and_intervals_are_tables_of_their_own(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim(
        "goodput",
        small_file("training"),
        *("--chips", "16,32,17", "--intervals", "600,3600", "--histories", "5", "--csv", tmp_path / "rows.csv"),
    )
    assert outcome.code == 0, outcome.err
    assert "Goodput over size" in outcome.out
    assert "Goodput over checkpoint interval" in outcome.out
    assert "17 chips: " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 3 + 4


def test_a_recorded_history_is_replayed(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    (tmp_path / "failures.csv").write_text("hours,component\n5,network\n1,gpu\n")
    history = f"reliability.history={tmp_path / 'failures.csv'}"
    outcome = epsim("goodput", small_file("training"), "--tokens", "1e12", "--json", "--set", history)
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["sizes"]
    assert row["interruptions_median"] == 2
    assert row["histories"] == 1
    assert row["goodput_p10"] == row["goodput_p90"]


def test_same_seed_same_bytes(epsim: Command, small_file: Files) -> None:
    path = small_file("training")
    assert epsim("goodput", path, "--json").out == epsim("goodput", path, "--json").out
    assert epsim("goodput", path, "--json").out != epsim("goodput", path, "--json", "--set", "seed=1").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "reliability.fleet=llama3"], "did you mean 'llama-3'"),
        (["--set", "reliability.detection_s=-1"], "reliability.detection_s"),
        (["--chips", "16,many"], "'many' is not a whole number"),
        (["--intervals", "5,zero,-3"], "'zero' is not a positive number"),
        (["--set", "reliability.history=none.csv"], "none.csv: can't be read"),
        (["--chips", "17"], "17 chips"),
    ],
)
def test_bad_input_is_refused(epsim: Command, small_file: Files, arguments: list[str], said: str) -> None:
    outcome = epsim("goodput", small_file("training"), *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_only_training_has_a_goodput(epsim: Command, small_file: Files) -> None:
    outcome = epsim("goodput", small_file("decode"))
    assert outcome.code == 2
    assert "use a training scenario" in outcome.err


def test_every_bad_row_of_a_history_is_named(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("hours\n1\nsoon\n-4\n")
    outcome = epsim("goodput", small_file("training"), "--set", f"reliability.history={tmp_path / 'bad.csv'}")
    assert outcome.code == 2
    assert "row 3: hours = soon" in outcome.err
    assert "row 4: hours = -4" in outcome.err
