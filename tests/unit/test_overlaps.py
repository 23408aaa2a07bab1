"""Gradient buckets and TP collectives beside compute: as walked one by one, never slower than without."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.phase.gradients import _after, _before
from simulator.phase.setup import setup
from simulator.phase.tensor_parallel import chunked_s
from simulator.phase.training import training_step
from simulator.program import PART_INDEX
from simulator.scenario_file import validate

TIMES = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 10.0)), min_size=1, max_size=8)


def in_order_s(first: list[float], second: list[float]) -> float:
    """Two machines, each job on one and then on the other, walked job by job."""
    done, end = 0.0, 0.0
    for one, other in zip(first, second, strict=True):
        done += one
        end = max(end, done) + other
    return end


@given(TIMES)
def test_buckets_as_walked_one_by_one(times: list[tuple[float, float]]) -> None:
    compute, sent = (list(column) for column in zip(*times, strict=True))
    assert _after(np.array(compute), np.array(sent)) == pytest.approx(
        in_order_s(compute, sent) - sum(compute), abs=1e-9
    )
    assert _before(np.array(compute), np.array(sent)) == pytest.approx(
        in_order_s(sent, compute) - sum(compute), abs=1e-9
    )


@given(st.integers(1, 16), st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_chunks_as_walked_one_by_one(chunks: int, chunk_s: float, gemm_s: float) -> None:
    walked = in_order_s([chunk_s] * chunks, [gemm_s / chunks] * chunks)
    assert chunked_s(chunks, chunk_s, gemm_s) == pytest.approx(walked, abs=1e-9)


def spent_s(name: str, **plan: object) -> float:
    table = {
        "model": {"name": "llama3-70b", "layers": 16},
        "cluster": {"name": "dgx-h100-superpod", "chips": 64},
        "workload": {"phase": "training", "sequence_tokens": 4096, "global_batch_sequences": 32},
        "plan": {"tensor": 4, "pipeline": 2, **plan},
    }
    step = training_step(setup(validate(table, "test")), False)
    rows = step.gradients if name == "data_parallel" else step.times["F"]
    return float(rows[..., PART_INDEX[name]].max())


@pytest.mark.parametrize(
    ("key", "name"), [("overlap_gradients", "data_parallel"), ("overlap_tensor", "tensor_parallel")]
)
def test_overlap_leaves_part_of_the_time(key: str, name: str) -> None:
    assert 0.0 < spent_s(name, **{key: True}) < 0.7 * spent_s(name)


def test_nothing_overlaps_what_is_not_there() -> None:
    assert spent_s("tensor_parallel", tensor=1, overlap_tensor=True) == 0.0
    assert spent_s("data_parallel", tensor=8, pipeline=8, overlap_gradients=True) == 0.0
