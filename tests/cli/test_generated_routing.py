"""`epsim trace fit`, `epsim trace sample` and `epsim validate routing`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.validation.recordings import traces_folder
from simulator.validation.routing import averages
from workloads.routing.spec import load_statistics
from workloads.routing.trace import read_trace

Epsim = Callable[..., Any]


def test_a_sample_is_drawn_as_asked_and_fitted_again(epsim: Epsim, tmp_path: Path) -> None:
    shape = ("--layers", 4, "--experts", 32, "--top-k", 4, "--sequence-tokens", 60, "--mix", "law")
    told = epsim("trace", "sample", "deepseek-v2-lite-esft", *shape, "--tokens", 1990, "-o", tmp_path / "law.npz").out
    assert "1,990 tokens in 34 sequences, 4 layers x 32 experts x top-4" in told
    trace = read_trace(tmp_path / "law.npz")
    assert trace.experts.shape == (1990, 4, 4)
    assert trace.seq_lens[-1] == 10
    assert "drawn from statistics of DeepSeek-V2-Lite, seed 0" in trace.source
    outcome = json.loads(epsim("trace", "fit", tmp_path / "law.npz", "-o", tmp_path / "again.toml", "--json").out)
    assert list(outcome["task_sigma"]) == ["law"]
    found = load_statistics(tmp_path / "again.toml")
    assert (found.layers, found.experts, found.top_k, found.tokens) == (4, 32, 4, 1990)
    assert np.mean(found.link) == pytest.approx(np.mean(load_statistics().link), abs=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "deepseek", "--tokens", 5, "-o", "x.npz"), "no such file or shipped statistics"),
        (("sample", "mixtral-8x7b", "--tokens", 5, "--mix", "law", "-o", "x.npz"), "mix: 'law': unknown"),
        (("sample", "mixtral-8x7b", "--tokens", 5, "--top-k", 9, "-o", "x.npz"), "top_k: 9"),
        (("fit", "missing.npz", "-o", "x.toml"), "missing.npz"),
        (("fit", "missing.npz", "--model", "m", "-o", "x.toml"), "--model and --experts: give both"),
    ],
)
def test_bad_input_is_one_line(epsim: Epsim, tmp_path: Path, arguments: tuple[Any, ...], message: str) -> None:
    outcome = epsim("trace", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_traces_folder_must_exist(epsim: Epsim) -> None:
    outcome = epsim("validate", "routing", "--traces", "nowhere")
    assert outcome.code == 2
    assert "nowhere: no folder 'routing'" in outcome.err


def test_validate_routing_prints_the_published_skew(
    epsim: Epsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"statistics": "s", "basis": "stored", "task": "a", "measure": "max_over_mean_256", "recorded": 2.0}
    monkeypatch.setattr("simulator.validation.routing.fidelity", lambda traces: averages([{**row, "drawn": 2.1}]))
    said = epsim("validate", "routing", "--out", tmp_path)
    assert said.code == 0, said.err
    assert "1 of 1 within their bounds" in said.out
    assert "published" in said.out
    assert max(map(len, said.out.splitlines())) <= 100
    told = json.loads(epsim("validate", "routing", "--out", tmp_path, "--json").out)
    assert [each["error"] for each in told["fidelity"]] == [pytest.approx(0.05)]
    assert told["published_skew"][0]["busiest_rank"] == 1.564


def test_families_show_in_a_runs_sources(epsim: Epsim) -> None:
    found = json.loads(epsim("run", "dsv3-decode-h800", "--json").out)
    assert any(source["what"] == "routing: statistics of DeepSeek-V2-Lite" for source in found["sources"])
    other = json.loads(epsim("run", "dsv3-decode-h800", "--set", "model.name=gpt-oss-120b", "--json").out)
    assert any(source["what"] == "routing: statistics of gpt-oss-20b" for source in other["sources"])


def test_averages_judge_the_mean_over_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = {"statistics": "s", "basis": "stored", "measure": "max_over_mean_256", "recorded": 2.0}
    found = averages([{**row, "task": "a", "drawn": 2.3}, {**row, "task": "b", "drawn": 1.9}])
    assert [(each["error"], each["bound"], each["within"]) for each in found] == [(pytest.approx(0.05), 0.10, True)]
    share = {**row, "measure": "temporal_share", "recorded": 0.3, "task": "a", "drawn": 0.35}
    assert [(each["error"], each["within"]) for each in averages([share])] == [(pytest.approx(0.05), False)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPSIM_TRACES", raising=False)
    assert traces_folder(None) is None
