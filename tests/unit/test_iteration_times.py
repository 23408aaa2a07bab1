"""Tabulated iteration times: equal to the steady state, monotone, ended by the slowest rank."""

from collections.abc import Callable

import numpy as np
import pytest

from simulator.engine.serving.records import PART_AT
from simulator.engine.serving.times import TabulatedTimes
from simulator.phase.iteration_times import iteration_times
from simulator.phase.setup import setup
from simulator.run import run
from simulator.scenario import Scenario

Small = Callable[..., Scenario]
RANKS = 16
OVERLAP = ("plan.overlap=two-microbatch",)


@pytest.fixture(scope="module", params=[(), OVERLAP, ("workload.mtp_acceptance=0.8", "model.name=deepseek-v3")])
def case(small: Small, request: pytest.FixtureRequest) -> tuple[Small, tuple[str, ...], TabulatedTimes]:
    extra: tuple[str, ...] = request.param
    plain = tuple(each for each in extra if "mtp" not in each)
    decode, prefill = setup(small("decode", *extra)), setup(small("prefill", *plain))
    return small, extra, iteration_times(decode, prefill, 64, 4096)


@pytest.mark.parametrize(("batch", "context"), [(16, 1024), (64, 1024), (16, 700), (32, 9000), (23, 1500)])
def test_decode_is_the_steady_state(
    case: tuple[Small, tuple[str, ...], TabulatedTimes], batch: int, context: int
) -> None:
    small, extra, times = case
    asked = small("decode", *extra, f"workload.batch_per_rank={batch}", f"workload.sequence_tokens={context}")
    expected = run(asked, allow_oom=True).step_s
    even = np.full(RANKS, float(batch))
    parts = times.decode(even, even * context, even, 1, 1.0)[0]
    # between the grid's points of the expert tokens the table is a straight line
    assert parts.sum() == pytest.approx(expected, rel=0.003 if batch in {16, 32, 64} else 0.03)
    assert (parts >= -1e-12).all()


@pytest.mark.parametrize("prompt", [512, 2048])
@pytest.mark.parametrize("extra", [(), OVERLAP])
def test_prompts_are_the_steady_state(small: Small, extra: tuple[str, ...], prompt: int) -> None:
    asked = small("prefill", *extra, f"workload.sequence_tokens={prompt}")
    expected = run(asked, allow_oom=True).step_s
    times = iteration_times(None, setup(asked), 1, 4096)
    tokens, nothing = np.full(RANKS, 2048.0), np.zeros(RANKS)
    chunks = np.array([tokens, nothing, tokens / prompt])
    assert times.mixed(nothing, nothing, chunks, 1.0).sum() == pytest.approx(expected, rel=0.01)


def test_a_run_is_its_iterations(case: tuple[Small, tuple[str, ...], TabulatedTimes]) -> None:
    times = case[2]
    stream = np.random.default_rng(0)
    sequences = stream.integers(0, 30, RANKS).astype(float)
    cached = sequences * stream.uniform(100, 5000, RANKS)
    whole = times.decode(sequences, cached, sequences, 40, 1.0).sum(axis=1)
    one = [times.decode(sequences, cached + step * sequences, sequences, 1, 1.0).sum() for step in range(40)]
    # a rank that is slowest only midway may be missed by what little it is ahead there
    assert whole == pytest.approx(np.array(one), rel=1e-3)


def test_more_work_never_takes_less(case: tuple[Small, tuple[str, ...], TabulatedTimes]) -> None:
    times = case[2]
    nothing = np.zeros(RANKS)

    def decode(batch: float, context: float) -> float:
        each = np.full(RANKS, batch)
        return float(times.decode(each, each * context, each, 1, 1.0).sum())

    def prompts(tokens: float, before: float) -> float:
        each = np.full(RANKS, tokens)
        return float(times.mixed(nothing, nothing, np.array([each, each * before, nothing + 1]), 1.0).sum())

    assert (np.diff([decode(batch, 1000) for batch in range(1, 64)]) >= -1e-12).all()
    assert (np.diff([decode(16, context) for context in range(100, 20_000, 377)]) >= 0).all()
    assert (np.diff([prompts(tokens, 0) for tokens in range(16, 4096, 97)]) >= -1e-12).all()
    assert (np.diff([prompts(512, before) for before in range(0, 50_000, 977)]) >= 0).all()


def test_the_slowest_rank_ends_the_iteration(case: tuple[Small, tuple[str, ...], TabulatedTimes]) -> None:
    times = case[2]
    even = np.full(RANKS, 16.0)
    flat = times.decode(even, even * 2000, even, 1, 1.0)[0]
    uneven_tokens = even * 2000
    uneven_tokens[3] *= 8
    uneven = times.decode(even, uneven_tokens, even, 1, 1.0)[0]
    all_long = times.decode(even, even * 16_000, even, 1, 1.0)[0]
    assert uneven.sum() == pytest.approx(all_long.sum())
    assert uneven[PART_AT["imbalance_wait"]] > flat[PART_AT["imbalance_wait"]]
    # a failed rank's experts make the others slower
    assert times.decode(even, even * 2000, even, 1, RANKS / (RANKS - 4)).sum() > flat.sum()
