"""The serving engine as a single server: queueing theory is its oracle."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.engine.serving.log import Log
from simulator.engine.serving.records import ITERATION_PARTS, Floats, PoolSpec, System, Work
from simulator.engine.serving.simulate import simulate_serving

REQUESTS = 12_000
SCALE = 10_000  # tokens of a mean service time of one second: rounding to tokens does not show


class OneServer:
    """Prompts take a time in proportion to their tokens; there is no decode."""

    def decode(self, sequences: Floats, kv_tokens: Floats, grow_tokens: Floats, steps: int, spread: float) -> Floats:
        raise AssertionError("requests of one token never decode")

    def mixed(self, sequences: Floats, kv_tokens: Floats, chunks: Floats, spread: float) -> Floats:
        parts = np.zeros(len(ITERATION_PARTS))
        parts[0] = chunks[0].sum() / SCALE
        return parts


def served(arrival_s: Floats, service_s: Floats) -> Log:
    pool = PoolSpec(OneServer(), 1, 1, 1_000_000, 1000, 1, 10**9)
    ones = np.ones(len(arrival_s), dtype=np.int64)
    tokens = np.maximum(np.rint(service_s * SCALE), 1).astype(np.int64)
    return simulate_serving(System(pool), Work(arrival_s, tokens, ones, ones * 0))


def batch_means(values: Floats, batches: int = 20) -> tuple[float, float]:
    """Mean after a warm-up of a tenth, and half the width of its 99.9 % confidence interval."""
    kept = values[len(values) // 10 :]
    means = np.array([each.mean() for each in np.array_split(kept, batches)])
    return float(means.mean()), float(3.88 * means.std(ddof=1) / np.sqrt(batches))


Draw = Callable[[np.random.Generator], NDArray[np.float64]]
SERVICES: dict[str, tuple[Draw, float]] = {  # service times of mean 1, and their squared coefficient of variation
    "M/M/1": (lambda stream: stream.exponential(1.0, REQUESTS), 1.0),
    "M/D/1": (lambda stream: np.ones(REQUESTS), 0.0),
    "M/G/1": (lambda stream: stream.gamma(0.5, 2.0, REQUESTS), 2.0),
}


@pytest.mark.parametrize("load", [0.4, 0.7])
@pytest.mark.parametrize("queue", SERVICES)
def test_waits_are_those_of_pollaczek_and_khinchine(queue: str, load: float) -> None:
    draw, squared = SERVICES[queue]
    stream = np.random.default_rng(7)
    arrival = np.cumsum(stream.exponential(1.0 / load, REQUESTS))
    log = served(arrival, draw(stream))
    wait, within = batch_means(log.admitted_s - arrival)
    assert wait == pytest.approx(load * (1.0 + squared) / (2.0 * (1.0 - load)), abs=within)
    assert within < 0.5 * wait


def test_every_wait_is_lindleys() -> None:
    """W(n+1) = max(0, W(n) + S(n) - A(n)), request by request."""
    stream = np.random.default_rng(3)
    arrival, service = np.cumsum(stream.exponential(1.3, 2000)), stream.exponential(1.0, 2000)
    log = served(arrival, service)
    done = 0.0
    took = np.maximum(np.rint(service * SCALE), 1) / SCALE
    for request in range(2000):
        start = max(done, arrival[request])
        assert log.admitted_s[request] == pytest.approx(start, abs=1e-6)
        done = start + took[request]
        assert log.finish_s[request] == pytest.approx(done, abs=1e-6)


def test_littles_law() -> None:
    """Mean number in the system = rate x mean sojourn, over a stretch that starts and ends empty."""
    stream = np.random.default_rng(5)
    arrival = np.cumsum(stream.exponential(1.5, 4000))
    log = served(arrival, stream.gamma(2.0, 0.5, 4000))
    times = np.concatenate([arrival, log.finish_s])
    steps = np.concatenate([np.ones(4000), -np.ones(4000)])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(steps[order])
    length = log.finish_s.max() - arrival[0]
    mean_number = float((inside[:-1] * np.diff(times[order])).sum() / length)
    assert mean_number == pytest.approx(4000 / length * (log.finish_s - arrival).mean(), rel=1e-9)
    assert inside.min() >= 0
