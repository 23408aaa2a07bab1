"""Runs under failures: against renewal theory, against one event-driven history, and what must always hold."""

from collections.abc import Generator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.failures import Recorded, simulate_failures
from simulator.errors import UserError
from simulator.reliability.fleets import fleet
from simulator.reliability.job import DAY_S, Checkpoints, FailureClass, Job, Spares
from simulator.reliability.renewal import best_interval_s, goodput, young_interval_s

MTBF_S = 10_000.0


def job(failures: float = 300.0, **changes: Any) -> Job:
    """A job of 100 chips that sees about so many failures."""
    made = Job(
        chips=100,
        work_s=failures * MTBF_S,
        classes=(FailureClass("any", 0.01 / MTBF_S),),
        checkpoints=Checkpoints(interval_s=1_000.0, stall_s=60.0),
        restart_s=200.0,
        detection_s=100.0,
    )
    return replace(made, **changes)


@pytest.mark.parametrize("mtbf_s", [600.0, 3_000.0, 30_000.0])
def test_the_mean_history_is_what_renewal_theory_says(mtbf_s: float) -> None:
    """Standard errors are below 0.5 %; Daly's formula holds far from the first order too (interval > MTBF)."""
    asked = job(work_s=300 * mtbf_s, classes=(FailureClass("any", 0.01 / mtbf_s),))
    histories = simulate_failures(asked, 64, seed=1)
    mean = float(histories.useful_s.sum() / histories.total_s.sum())
    assert mean == pytest.approx(goodput(asked), rel=0.02)


def test_asynchronous_writes_cost_an_interval_for_failures_that_come_too_early() -> None:
    asked = job(checkpoints=Checkpoints(1_000.0, 5.0, durable_s=400.0))
    histories = simulate_failures(asked, 64, seed=2)
    assert float(histories.useful_s.sum() / histories.total_s.sum()) == pytest.approx(goodput(asked), rel=0.01)


def test_daly_reduces_to_first_order_and_has_its_best_interval_where_it_says() -> None:
    rate = 1e-6
    assert best_interval_s(10.0, rate) == pytest.approx(young_interval_s(10.0, rate), rel=0.01)
    for stall_s, mtbf_s in [(60.0, 10_000.0), (300.0, 900.0), (1e-3, 1e6)]:
        asked = job(checkpoints=Checkpoints(1.0, stall_s), classes=(FailureClass("any", 0.01 / mtbf_s),))
        best = best_interval_s(stall_s, asked.failures_per_s)
        at = goodput(asked.every(best))
        assert at >= goodput(asked.every(1.01 * best))
        assert at >= goodput(asked.every(0.99 * best))


def _oracle(asked: Job, at_s: list[float]) -> dict[str, float]:
    """One history by simpy processes: a worker that failures interrupt, checkpoint by checkpoint."""
    env, spent = simpy.Environment(), dict.fromkeys(("useful", "lost", "checkpoint", "detection", "restart"), 0.0)
    saved = asked.checkpoints

    def span(name: str, length_s: float) -> Generator[Any, Any, bool]:
        begin = env.now
        try:
            yield env.timeout(length_s)
        except simpy.Interrupt:
            spent[name] += env.now - begin
            return False
        spent[name] += env.now - begin
        return True

    def run() -> Generator[Any, Any, None]:
        left_s, fine = asked.work_s, True
        while left_s > 0:
            if not fine:
                state["up"] = False
                yield from span("detection", asked.detection_s)
                state["up"] = True
                fine = yield from span("restart", asked.restart_s)
                continue
            chunk_s = min(saved.interval_s, left_s)
            fine = yield from span("lost", chunk_s)
            if fine and left_s > saved.interval_s:
                fine = yield from span("checkpoint", saved.stall_s)
            if fine:
                spent["lost"] -= chunk_s
                spent["useful"] += chunk_s
                left_s -= chunk_s
        state["up"] = False

    def strike() -> Generator[Any, Any, None]:
        for when in at_s:
            yield env.timeout(when - env.now)
            if state["up"]:
                worker.interrupt()

    state = {"up": True}
    worker = env.process(run())
    env.process(strike())
    env.run()
    return spent


def test_a_history_is_what_an_event_simulation_of_the_same_failures_says() -> None:
    drawn = np.random.default_rng(7).exponential(2_500.0, size=400).cumsum()
    asked = job(work_s=150_000.0)
    ours = simulate_failures(asked, 1, 0, Recorded(drawn, np.zeros(len(drawn), dtype=np.int64)))
    theirs = _oracle(asked, drawn.tolist())
    for name, expected_s in theirs.items():
        assert getattr(ours, f"{name}_s")[0] == pytest.approx(expected_s, abs=1e-3), name


@settings(max_examples=40, deadline=None)
@given(
    interval_s=st.floats(10, 5_000),
    stall_s=st.floats(0, 100),
    late=st.floats(0, 1),
    spare=st.integers(0, 3),
    elastic=st.integers(0, 3),
    planned=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_all_time_is_accounted_for(
    interval_s: float, stall_s: float, late: float, spare: int, elastic: int, planned: bool, seed: int
) -> None:
    kinds = (
        FailureClass("node", 0.006 / MTBF_S, takes_node=True),
        FailureClass("job", 0.004 / MTBF_S, planned=planned),
    )
    asked = job(
        30.0,
        classes=kinds,
        checkpoints=Checkpoints(interval_s, stall_s, late * interval_s),
        spares=Spares(spare, 50.0, 20_000.0, elastic),
        replicas=10,
        slow_share=0.005,
        slow_speed=0.9,
    )
    found = simulate_failures(asked, 4, seed)
    assert found.useful_s == pytest.approx(asked.work_s)
    parts = [getattr(found, field.name) for field in fields(found)[:-1]]
    assert all((part >= -1e-6).all() for part in parts)
    assert found.total_s == pytest.approx(sum(parts))
    assert found.detection_s == pytest.approx(np.round(found.detection_s / asked.detection_s) * asked.detection_s)


def test_more_failures_less_goodput() -> None:
    expected, mean = [], []
    for times in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0):
        asked = job(classes=(FailureClass("any", times * 0.01 / MTBF_S),))
        expected.append(goodput(asked))
        mean.append(float(np.mean(simulate_failures(asked, 16, 3).goodput)))
    assert expected == sorted(expected, reverse=True)
    assert mean == sorted(mean, reverse=True)


def test_spares_and_elastic_jobs_wait_less() -> None:
    node = (FailureClass("node", 0.01 / MTBF_S, takes_node=True),)
    none, some, many, elastic = (
        simulate_failures(job(classes=node, spares=Spares(n, 0.0, 50_000.0, e), replicas=20), 8, 4)
        for n, e in ((0, 0), (3, 0), (50, 0), (0, 50))
    )
    assert none.waiting_s == pytest.approx(none.interruptions * 50_000.0)
    assert 0 < some.waiting_s.mean() < none.waiting_s.mean()
    assert not many.waiting_s.any()
    assert not elastic.waiting_s.any()
    # On average 5 of 20 replicas are away: Little's law, rate x repair time.
    share = elastic.slowed_s.sum() / (elastic.useful_s + elastic.slowed_s).sum()
    assert share == pytest.approx(0.25, abs=0.05)


def test_one_slow_chip_slows_the_job() -> None:
    quiet = job(classes=(), slow_share=1e-3, slow_speed=0.5, jitter_speed=0.9, checkpoints=Checkpoints(1e12, 0.0))
    found = simulate_failures(quiet, 400, 5).goodput
    assert set(np.round(found, 6)) == {0.9, 0.45}
    assert (found < 0.5).mean() == pytest.approx(1 - 0.999**100, abs=0.05)


def test_histories_do_not_depend_on_their_number() -> None:
    few, many = simulate_failures(job(50.0), 3, 6), simulate_failures(job(50.0), 20, 6)
    assert np.array_equal(few.total_s, many.total_s[:3])


def test_a_job_that_never_gets_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.engine.failures.MAX_INTERRUPTIONS", 50)
    with pytest.raises(UserError, match="failures come faster"):
        simulate_failures(job(classes=(FailureClass("any", 1.0),)), 2, 0)


def test_llama_3s_fleet_has_its_published_counts() -> None:
    classes = fleet("llama-3").classes
    per_run = 16_384 * 54 * DAY_S
    assert sum(kind.per_chip_s for kind in classes if not kind.planned) * per_run == pytest.approx(419)
    assert sum(kind.per_chip_s for kind in classes) * per_run == pytest.approx(466)
    with pytest.raises(UserError, match="did you mean 'rsc-1'"):
        fleet("rsc1")
