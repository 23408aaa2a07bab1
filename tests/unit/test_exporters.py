"""What is written for other tools is what was recorded."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace
from workloads.routing.exporters import EXPORTS, load_of
from workloads.routing.importers import Options, import_trace
from workloads.routing.trace import Trace

KNOWN = Options("tiny", routed_experts=16, top_k=4)


def recorded() -> Trace:
    ids = np.random.default_rng(0).random((21, 3, 16)).argsort(axis=-1)[..., :4]
    return Trace(ids, np.array([7, 5, 9]), 16, "tiny")


def test_load_is_that_of_every_token() -> None:
    trace = recorded()
    wanted = [[int((trace.experts[:, layer] == expert).sum()) for expert in range(16)] for layer in range(3)]
    assert load_of(trace).tolist() == wanted
    assert load_of(CountTrace(np.stack([load_of(trace)] * 2), "tiny")).tolist() == (2 * np.array(wanted)).tolist()


@pytest.mark.parametrize(
    ("kind", "name", "back"),
    [
        ("eplb-weight", "w.npy", "eplb-weight"),
        ("sglang", "w.json", "eplb-weight"),
        ("mindspeed", "w.json", "mindspeed"),
    ],
)
def test_counts_come_back(tmp_path: Path, kind: str, name: str, back: str) -> None:
    trace = recorded()
    (tmp_path / name).write_bytes(EXPORTS[kind][0](trace, 2))
    again = import_trace(back, [tmp_path / name], KNOWN).trace
    assert isinstance(again, CountTrace)
    assert np.array_equal(again.counts[0], load_of(trace))


@pytest.mark.parametrize(("kind", "name"), [("routed-experts", "r.npz"), ("llama-csv", "r.csv")])
def test_tokens_come_back(tmp_path: Path, kind: str, name: str) -> None:
    trace = recorded()
    (tmp_path / name).write_bytes(EXPORTS[kind][0](trace, 1))
    again = import_trace(kind, [tmp_path / name], KNOWN).trace
    assert isinstance(again, Trace)
    assert np.array_equal(again.experts, trace.experts)
    if kind == "routed-experts":
        assert np.array_equal(again.seq_lens, trace.seq_lens)


def test_dense_layers_stand_in_front() -> None:
    rows = json.loads(EXPORTS["sglang"][0](recorded(), 3))["logical_count"]
    assert [sum(row) for row in rows] == [0, 0, 0, 84, 84, 84]
    assert list(json.loads(EXPORTS["mindspeed"][0](recorded(), 3))) == ["3", "4", "5"]
    arrays = np.load(io.BytesIO(EXPORTS["routed-experts"][0](recorded(), 1)))
    assert [array.shape for array in arrays.values()] == [(7, 4, 4), (5, 4, 4), (9, 4, 4)]


@pytest.mark.parametrize("kind", ["routed-experts", "llama-csv"])
def test_counts_have_no_tokens_to_write(kind: str) -> None:
    coarse = CountTrace(np.ones((1, 3, 16), dtype=int), "tiny")
    with pytest.raises(WorkloadError, match="holds tokens per expert only"):
        EXPORTS[kind][0](coarse, 0)
