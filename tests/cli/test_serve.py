"""`epsim serve`: tables, files, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Command = Callable[..., Any]
Files = Callable[..., Path]
SERVING = '\n[serving]\nprefill = "pre.toml"\nprefill_instances = 2\n'
SYNTHETIC = ["--requests", "synthetic", "--count", "150", "--prompt-tokens", "300", "--output-tokens", "20"]


@pytest.fixture
def apart(small_file: Files, tmp_path: Path) -> Path:
    """A small scenario with prefill and decode apart."""
    small_file("prefill", name="pre.toml")
    path = small_file("decode")
    path.write_text(path.read_text() + SERVING)
    return path


def test_serving_prints_levels_and_writes_requests(epsim: Command, apart: Path, tmp_path: Path) -> None:
    slo = ["--slo-ttft", "5s", "--slo-tpot", "50ms"]
    outcome = epsim("serve", apart, *SYNTHETIC, "--rate", "40", *slo, "--out", "o", "--csv", "levels.csv")
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 100
    for word in ("TTFT", "goodput", "prefill", "decode", "KV transfer", "imbalance"):
        assert word in outcome.out
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "result.json",
        "requests.parquet",
        "latency.png",
        "load.png",
    }
    frame = pd.read_parquet(tmp_path / "o" / "requests.parquet")
    assert len(frame) == 150
    assert (frame["finish_s"] > frame["first_token_s"]).all()
    assert pd.read_csv(tmp_path / "levels.csv")["level"].tolist()[0] == "ttft_s"


def test_equal_runs_give_equal_bytes(epsim: Command, apart: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert epsim("serve", apart, *SYNTHETIC, "--rate", "40", "--out", name).code == 0
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_colocated_json_is_consistent(epsim: Command, small_file: Files) -> None:
    outcome = epsim("serve", small_file("decode"), *SYNTHETIC, "--rate", "20", "--json", "--seed", "3")
    assert outcome.code == 0, outcome.err
    data = json.loads(outcome.out, parse_constant=pytest.fail)
    (pool,) = data["pools"]
    assert sum(pool["breakdown"].values()) == pytest.approx(1.0)
    assert data["unfinished"] == 0
    assert data["stable"]
    assert data["ttft_s"]["p50"] <= data["ttft_s"]["p99"] <= data["end_to_end_s"]["p99"]
    low, high = data["window_s"]
    assert data["counted"] < data["requests"] == 150
    assert data["output_tokens_per_s"] == pytest.approx(20 * 20, rel=0.4)
    assert 0 < low < high < data["end_s"]


def test_too_many_requests_are_said_to_be(epsim: Command, small_file: Files) -> None:
    flood = ["--requests", "synthetic", "--count", "9000", "--prompt-tokens", "4000", "--output-tokens", "2"]
    data = json.loads(epsim("serve", small_file("decode"), *flood, "--rate", "1e6", "--json").out)
    assert not data["stable"]
    assert data["unfinished"] > 0
    assert data["saturation_per_s"] < 1e5
    assert "unstable" in data["warnings"][-1]


REFUSED = [
    (["--requests", "synthetic"], "--rate: missing"),
    (["--requests", "nowhere.csv"], "nowhere.csv: no such file"),
    (["--requests", "synthetic", "--rate", "-2"], "rate = -2"),
    (["--requests", "synthetic", "--rate", "nan"], "rate = nan"),
    (["--requests", "synthetic", "--rate", "1", "--slo-tpot", "fast"], "'fast' is not a positive time"),
    (["--requests", "synthetic", "--rate", "1", "--warm-up", "0.6", "--drain", "0.6"], "window 0.6 to 0.4"),
    ([*SYNTHETIC, "--rate", "1", "--set", "serving.router=random"], "serving.router = 'random'"),
    ([*SYNTHETIC, "--rate", "1", "--set", "serving.prefill=dsv3-prefill-h800"], "name a prefill scenario of"),
    ([*SYNTHETIC, "--rate", "1", "--set", "serving.token_budget=8"], "serving.token_budget = 8"),
    ([*SYNTHETIC, "--rate", "1", "--set", "serving.failures=[{at_s=1.0, instance=7}]"], "serving.failures[0]"),
    (["--requests", "synthetic", "--rate", "9", "--prompt-tokens", "5e7", "--count", "20"], "longer than"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_is_refused(epsim: Command, small_file: Files, arguments: list[str], said: str) -> None:
    outcome = epsim("serve", small_file("decode"), *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert said in outcome.err
    assert all(line.startswith("error: ") for line in outcome.err.splitlines())


def test_prefill_scenarios_are_not_served(epsim: Command, small_file: Files) -> None:
    outcome = epsim("serve", small_file("prefill"), *SYNTHETIC, "--rate", "1")
    assert outcome.code == 2
    assert "starts from a decode scenario" in outcome.err


def test_bad_lines_are_counted_or_refused(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    rows = [{"timestamp": i / 10, "input_length": 50 * (i != 3), "output_length": 5} for i in range(40)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = epsim("serve", small_file("decode"), "--requests", "t.jsonl")
    assert refused.code == 2
    assert "line 4: prompt of no tokens" in refused.err
    data = json.loads(epsim("serve", "small.toml", "--requests", "t.jsonl", "--skip-bad-lines", "--json").out)
    assert data["requests"] == 39
    assert "line 4: prompt of no tokens: left out" in data["warnings"][0]


def test_a_sweep_over_rates_has_a_row_and_a_point_each(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim("serve-sweep", small_file("decode"), *SYNTHETIC, "--rates", "20,80", "--out", "o", "--csv", "r.csv")
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines())) <= 100
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"rows.csv", "pareto.png"}
    rows = pd.read_csv(tmp_path / "r.csv")
    assert rows["rate"].tolist() == [20, 80]
    assert rows["output_tokens_per_s_per_chip"].is_monotonic_increasing
    assert epsim("serve-sweep", "small.toml", *SYNTHETIC, "--rates", "a,b").code == 2
