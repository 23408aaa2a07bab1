"""Routing drawn token by token: valid, as popular as expected, tied as asked, and as uneven as counts drawn at once."""

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.draw import Drawing, draw_trace
from workloads.routing.fidelity import recorded_measures
from workloads.routing.load import sample_counts
from workloads.routing.measures import batch_load, busiest_over_mean, cross_layer_share, temporal_share
from workloads.routing.popularity import expected_popularity
from workloads.routing.preferences import Preferences, Ties, drifting, preferences
from workloads.routing.sample import sample_tokens
from workloads.routing.spec import load_statistics
from workloads.routing.strata import arrange, tables
from workloads.routing.trace import Trace

STATISTICS = load_statistics()


def model(
    layers: int = 4, experts: int = 64, top_k: int = 6, link: float = 0.0, persistence: float = 0.0, **named: object
) -> Preferences:
    drawn = preferences(STATISTICS, layers, experts, top_k, np.random.default_rng(0), **named)  # type: ignore[arg-type]
    return replace(drawn, ties=Ties(np.full(layers, persistence), np.full(layers, link)))


def frequency(ids: NDArray[np.integer], experts: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(layer.ravel(), minlength=experts) for layer in ids.swapaxes(0, 1)]) / len(ids)


def test_strata_hold_each_expert_as_often_as_it_is_wanted() -> None:
    rng = np.random.default_rng(0)
    weight = rng.lognormal(0, 1, (3, 20))
    chance = np.minimum(0.99, 4 * weight / weight.sum(axis=1, keepdims=True))
    chance *= 4 / chance.sum(axis=1, keepdims=True)
    laid = arrange(chance, 4)
    for row in range(3):
        assert np.bincount(laid.expert[row], laid.mass[row], 20) == pytest.approx(chance[row])
        assert np.bincount(laid.stratum[row], laid.mass[row]) == pytest.approx(np.ones(4))
    table = tables(laid, np.ones((3, 20)), 4096, rng).reshape(3, 4 * 4096)
    for row in range(3):
        assert np.bincount(table[row], minlength=20) / 4096 == pytest.approx(chance[row], abs=2 / 4096)


@pytest.mark.parametrize(
    ("layers", "experts", "top_k", "limit"),
    [(3, 64, 6, {}), (2, 256, 8, {"n_group": 8, "topk_group": 4}), (2, 8, 2, {}), (2, 5, 5, {}), (1, 300, 1, {})],
)
@pytest.mark.parametrize("strength", [0.0, 1.0, 4.0])
def test_ids_are_valid_and_distinct(
    layers: int, experts: int, top_k: int, limit: dict[str, int], strength: float
) -> None:
    drawn = model(layers, experts, top_k, 0.7, 0.2, strength=strength, **limit)
    lens = np.array([1, 7, 500, 30])
    ids = sample_tokens(drawn, lens, np.random.default_rng(1))
    assert ids.shape == (538, layers, top_k)
    Trace(ids, lens, experts, "drawn")  # refuses repeats and ids out of range
    if limit:
        groups = np.array([[len(set(row)) for row in layer] for layer in (ids // 32).swapaxes(0, 1)])
        assert groups.max() <= limit["topk_group"]


@pytest.mark.parametrize(("link", "persistence"), [(0.0, 0.0), (0.8, 0.2)])
def test_ties_leave_popularity_alone(link: float, persistence: float) -> None:
    drawn = replace(model(3, link=link, persistence=persistence, mix="law"), sequence_sigma=np.zeros(3))
    wanted = expected_popularity(drawn).mean[0]
    ids = sample_tokens(drawn, np.full(400, 500), np.random.default_rng(2))
    assert frequency(ids, 64) == pytest.approx(wanted, rel=0.06, abs=0.002)


def test_a_group_limit_hardly_changes_popularity() -> None:
    drawn = model(2, 256, 8, mix="law", n_group=8, topk_group=4)
    ids = sample_tokens(drawn, np.full(400, 250), np.random.default_rng(3))
    wanted = expected_popularity(drawn).mean[0]
    assert np.abs(frequency(ids, 256) / wanted - 1).mean() < 0.06


def test_persistence_and_link_are_what_is_asked() -> None:
    lens = np.full(60, 200)
    for persistence in (0.0, 0.3):
        tied = model(4, link=0.8, persistence=persistence, mix="law")
        alike = (expected_popularity(tied).mean[0] ** 2).sum(axis=-1) / 6
        found = temporal_share(Trace(sample_tokens(tied, lens, np.random.default_rng(4)), lens, 64, "drawn"))
        assert found == pytest.approx(alike + persistence * (1 - alike), abs=0.03)
    shares = []
    for link in (0.0, 0.5, 1.0):
        ids = sample_tokens(model(4, link=link, mix="law"), lens, np.random.default_rng(5))
        guessed, popular = cross_layer_share(Trace(ids, lens, 64, "drawn"))
        shares.append(guessed.mean() - popular.mean())
    assert shares[0] < 0.05
    assert shares[0] + 0.1 < shares[1] < shares[2] - 0.1


@pytest.mark.parametrize(("tokens", "sequences"), [(256, 2), (4096, 8), (4096, 4096)])
@pytest.mark.parametrize("persistence", [0.0, 0.3])
def test_counts_drawn_at_once_are_as_uneven_as_tokens(tokens: int, sequences: int, persistence: float) -> None:
    drawn = model(8, persistence=persistence, mix="law")
    rng = np.random.default_rng(6)
    lens = np.full(sequences * 40, tokens // sequences)
    ids = sample_tokens(drawn, lens, rng)
    tokenwise = busiest_over_mean(batch_load(Trace(ids, lens, 64, "drawn"), tokens)).mean()
    at_once = busiest_over_mean(sample_counts(expected_popularity(drawn), tokens, sequences, 40, rng)).mean()
    assert tokenwise == pytest.approx(at_once, rel=0.04)


def test_drift_keeps_spread_and_loses_likeness() -> None:
    moved = drifting(model(6, 256, 8, mix="law"), 3, 0.6, np.random.default_rng(7))
    first, second, third = moved.log_weight.reshape(3, -1)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(first, third)[0, 1] == pytest.approx(0.36, abs=0.05)
    assert third.std() == pytest.approx(first.std(), rel=0.05)


def test_drift_of_a_trace_is_that_of_runs() -> None:
    """Log weights of neighbouring parts correlate by 1 - drift, as `routing.drift` has it."""
    drawing = Drawing(40, 16, 4, sequence_tokens=50, mix="law", drift=0.5, drift_parts=2)
    load = batch_load(draw_trace(STATISTICS, drawing, 40_000, 0), 20_000)
    first, second = np.log(load + 1.0)
    likeness = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])
    assert likeness == pytest.approx(0.5, abs=0.12)


def test_a_schedule_runs_the_tasks_one_after_another() -> None:
    drawing = Drawing(3, 64, 6, sequence_tokens=100, schedule=("law", "intent"))
    trace = draw_trace(STATISTICS, drawing, 20_000, 0)
    load = batch_load(trace, 5000).reshape(4, -1)
    likeness = np.corrcoef(load)
    assert min(likeness[0, 1], likeness[2, 3]) > 0.9
    assert likeness[1, 2] < 0.6
    assert np.array_equal(trace.experts, draw_trace(STATISTICS, drawing, 20_000, 0).experts)


def test_strength_goes_from_uniform_to_collapsed() -> None:
    skew = []
    for strength in (0.0, 0.5, 1.0, 4.0):
        trace = draw_trace(STATISTICS, Drawing(4, 64, 6, sequence_tokens=100, strength=strength), 4000, 0)
        skew.append(recorded_measures(trace)["max_over_mean_1024"])
    assert skew[0] < 1.4
    assert skew == sorted(skew)
    assert skew[-1] > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mix": "poetry"}, "mix: 'poetry'"),
        ({"schedule": ("law", "poetry")}, "schedule: 'poetry'"),
        ({"drift": 2.0}, "drift: 2.0"),
        ({"top_k": 65}, "top_k: 65"),
        ({"layers": 10**9}, "too many"),
    ],
)
def test_impossible_drawings_are_refused(change: dict[str, object], message: str) -> None:
    drawing = replace(Drawing(2, 64, 6), **change)  # type: ignore[arg-type]
    with pytest.raises(WorkloadError, match=message):
        draw_trace(STATISTICS, drawing, 100, 0)


def test_a_million_tokens_of_deepseek_v3_are_drawn_in_time() -> None:
    """58 layers in 20 s on one core; measured on 4 layers and on a machine that others use, so with allowance."""
    drawn = preferences(STATISTICS, 4, 256, 8, np.random.default_rng(0))
    start = time.process_time()
    sample_tokens(drawn, np.full(256, 1024), np.random.default_rng(0))
    assert (time.process_time() - start) * 4 * 58 / 4 < 40
