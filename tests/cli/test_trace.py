"""`epsim trace show`, `import` and `export`."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.cli import trace_export, trace_import
from workloads.routing.exporters import EXPORTS
from workloads.routing.importers import KINDS

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


def weights(path: Path, experts: int = 64, layers: int = 26) -> Path:
    np.save(path, np.random.default_rng(0).integers(1, 99, (layers, experts)))
    return path


def test_import_takes_dimensions_from_the_catalogue(epsim: Epsim, tmp_path: Path) -> None:
    wanted = ["trace", "import", "eplb-weight", str(weights(tmp_path / "w.npy")), "-o", str(tmp_path / "t.npz")]
    said = epsim(*wanted, "--model", "DeepSeek-V2-Lite", "--licence", "MIT")
    assert said.code == 0, said.err
    assert "deepseek-v2-lite, 1 step, 26 MoE layers x 64 experts x top-6" in said.out
    assert "tokens per expert only" in said.out
    shown = epsim("trace", "show", str(tmp_path / "t.npz"), "--draw", str(tmp_path / "t.png"))
    assert shown.code == 0, shown.err
    assert "needs each token's experts" in shown.out
    told = json.loads(epsim("trace", "show", str(tmp_path / "t.npz"), "--draw", str(tmp_path / "t.png"), "--json").out)
    assert (told["steps"], told["tokens"], told["licence"]) == (1, None, "MIT")
    assert told["source"] == "eplb-weight: w.npy"


def test_import_says_what_does_not_fit(epsim: Epsim, tmp_path: Path) -> None:
    start = [
        "trace",
        "import",
        "eplb-weight",
        str(weights(tmp_path / "w.npy", layers=5)),
        "-o",
        str(tmp_path / "t.npz"),
    ]
    said = epsim(*start, "--model", "deepseek-v2-lite")
    assert "note: 5 MoE layers recorded, but deepseek-v2-lite has 26" in said.out
    said = epsim(*start, "--model", "deepseek-v2-light")
    assert "did you mean 'DeepSeek-V2-Lite'" in said.out or "did you mean 'deepseek-v2-lite'" in said.out
    assert "kept as a name only" in said.out
    assert "no experts" in epsim(*start, "--model", "qwen2.5-7b").err
    said = epsim(*start, "--model", "deepseek-v3")
    assert said.code == 2
    assert "64 experts per layer, but 256 stated" in said.err
    told = json.loads(epsim(*start, "--model", "x", "--json").out)
    assert (told["steps"], told["moe_layers"], told["top_k"]) == (1, 5, None)


def test_import_finds_the_kind(epsim: Epsim, tmp_path: Path) -> None:
    path, out = weights(tmp_path / "w.npy"), tmp_path / "t.npz"
    rest = ["--model", "deepseek-v2-lite", "-o", str(out)]
    said = epsim("trace", "import", str(path), *rest)
    assert said.code == 0, said.err
    assert "note: read as eplb-weight" in said.out
    assert "did you mean 'eplb-weight'" in epsim("trace", "import", "eplb-weights", str(path), *rest).err
    assert "FILE: missing" in epsim("trace", "import", "sglang", *rest).err
    assert "no such file" in epsim("trace", "import", str(tmp_path / "x.npy"), *rest).err


def test_other_files_are_answered_with_the_import(epsim: Epsim, tmp_path: Path) -> None:
    bare, text = tmp_path / "bare.npz", tmp_path / "r.json"
    np.savez(bare, experts=np.zeros((3, 1, 1), dtype=np.uint8), gen_tokens=np.array([3]))
    text.write_text("{}")
    for path in (bare, text):
        for command in (["trace", "show"], ["place", "--ranks", "2"]):
            said = epsim(*command, str(path))
            assert said.code == 2
            assert "`epsim trace import FILE --model NAME -o TRACE.npz`" in said.err
            assert len(said.err.splitlines()) == 1


def test_export_and_import_are_inverse(epsim: Epsim, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    path, out = trace_file(".npz"), tmp_path / "out.csv"
    assert epsim("trace", "export", "llama-csv", str(path), "-o", str(out)).code == 0
    dimensions = ["--model", "small", "--experts", "64", "--top-k", "6"]
    again = tmp_path / "again.parquet"
    said = epsim("trace", "import", "llama-csv", str(out), *dimensions, "-o", str(again))
    assert said.code == 0, said.err
    assert epsim("trace", "export", "native", str(again), "-o", str(tmp_path / "again.npz")).code == 0
    with np.load(path) as old, np.load(tmp_path / "again.npz") as new:
        assert np.array_equal(old["experts"], new["experts"])


def test_kinds_of_the_help_are_those_of_the_library() -> None:
    assert tuple(KINDS) == trace_import.KINDS
    assert ("native", *EXPORTS) == trace_export.KINDS
    assert all(kind in str(trace_import.import_.epilog) for kind in KINDS)
    assert all(kind in str(trace_export.export.epilog) for kind in EXPORTS)


def test_show_of_a_serving_log(epsim: Epsim, tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    line = "INFO [eplb_state.py:390] EPLB step: avg_tokens={}, max_tokens={}, balancedness={}\n"
    path.write_text(line.format("50.00", 80, "0.6250") + "other\n" + line.format("30.00", 60, "0.5000"))
    said = epsim("trace", "show", str(path), "--csv", str(tmp_path / "steps.csv"))
    assert said.code == 0, said.err
    assert "1.80" in said.out
    with (tmp_path / "steps.csv").open() as file:
        assert [row["busiest_over_mean"] for row in csv.DictReader(file)] == ["1.6", "2.0"]
    told = json.loads(epsim("trace", "show", str(path), "--json").out)
    assert told["busiest_over_mean"]["steps"] == 2
    path.write_text("nothing\n")
    assert "serve.log: no line 'EPLB step" in epsim("trace", "show", str(path)).err
