"""`epsim trace show`."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Epsim = Callable[..., Any]


def test_show_prints_and_draws(epsim: Epsim, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    path, rows = trace_file(".npz"), tmp_path / "layers.csv"
    outcome = epsim("trace", "show", str(path), "--draw", str(tmp_path / "load.png"), "--csv", str(rows))
    assert outcome.code == 0, outcome.err
    assert "x 64 experts x top-6" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert {"load.png", "load-time.png"} <= {file.name for file in tmp_path.iterdir()}
    with rows.open() as file:
        layers = list(csv.DictReader(file))
    assert [row["layer"] for row in layers] == [str(number) for number in range(len(layers))]
    assert layers[-1]["cross_layer_share"] == ""


def test_show_as_json(epsim: Epsim, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    said = epsim("trace", "show", str(trace_file(".parquet")), "--draw", str(tmp_path / "x.svg"), "--json")
    told = json.loads(said.out)
    assert told["routed_experts"] == 64
    assert told["skew"][-1]["tokens"] == told["tokens"]
    assert 1 <= told["skew"][-1]["expert_mean"] <= 64
    assert len(told["layers"]) == told["moe_layers"]


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_what_is_no_trace_is_one_line(epsim: Epsim, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    outcome = epsim("trace", "show", str(path))
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {path}: ")
    assert len(outcome.err.splitlines()) == 1


def test_an_unknown_command_is_answered_with_the_nearest(epsim: Epsim) -> None:
    assert "did you mean 'show'" in epsim("trace", "shaw").err
