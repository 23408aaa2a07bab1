"""Coarse recorded routing: counts per step, layer and expert."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace, read_recorded, write_counts
from workloads.routing.trace import Trace, read_trace, write_trace


def small(**change: Any) -> CountTrace:
    counts = np.random.default_rng(0).integers(0, 9, (5, 3, 8))
    fields: dict[str, Any] = {"counts": counts, "model": "tiny", "top_k": 2, "source": "made up", "in_order": False}
    return CountTrace(**{**fields, **change})


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_counts_come_back(tmp_path: Path, name: str) -> None:
    write_counts(small(), tmp_path / name)
    again = read_recorded(tmp_path / name)
    assert isinstance(again, CountTrace)
    assert np.array_equal(again.counts, small().counts)
    assert (again.model, again.top_k, again.in_order, again.source) == ("tiny", 2, False, "made up")
    assert again.digest == small().digest
    assert (again.steps, again.moe_layers, again.routed_experts) == (5, 3, 8)


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_counts_are_refused_where_tokens_are_needed(tmp_path: Path, name: str) -> None:
    write_counts(small(), tmp_path / name)
    with pytest.raises(WorkloadError, match="holds tokens per expert only; this needs each token's experts") as caught:
        read_trace(tmp_path / name)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_tokens_are_read_as_tokens(tmp_path: Path, name: str) -> None:
    trace = Trace(np.array([[[0, 1]], [[2, 1]]]), np.array([2]), 4, "tiny")
    write_trace(trace, tmp_path / name)
    assert isinstance(read_recorded(tmp_path / name), Trace)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.ones((2, 3, 4))}, "counts: float64: must be native-endian integers"),
        ({"counts": np.ones((3, 4), dtype=int)}, r"shape \(3, 4\)"),
        ({"counts": np.ones((0, 3, 4), dtype=int)}, r"shape \(0, 3, 4\)"),
        ({"counts": np.zeros((2, 3, 4), dtype=int)}, "all 0"),
        ({"counts": np.array([[[3, -1]]]), "top_k": 0}, "step 0, layer 0, expert 1: -1: must be 0 or more"),
        ({"top_k": 9}, "top_k: 9"),
        ({"phase": "training"}, "phase: 'training'"),
    ],
)
def test_defective_counts_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as caught:
        small(**change)
    assert len(caught.value.problems) == 1


def test_damage_is_seen_by_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    write_counts(small(), path)
    with np.load(path) as arrays:
        about = str(arrays["about"])
    np.savez(path, counts=small().counts + 1, about=about)
    with pytest.raises(WorkloadError, match="digest: "):
        read_recorded(path)
