"""Measures of recorded routing, against brute force and against the figures published with the recorded traces."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.routing.measures import (
    batch_load,
    busiest_over_mean,
    cross_layer_share,
    drift,
    entropy,
    rank_load,
    temporal_share,
    uniform_busiest,
)
from workloads.routing.summary import summarise
from workloads.routing.trace import Trace

TRACES = Path(os.environ.get("EPSIM_TRACES", Path(__file__).parents[3] / "shared" / "traces")) / "routing"


def random_trace(tokens: int = 60, layers: int = 3, experts: int = 16, top_k: int = 4, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    ids = rng.random((tokens, layers, experts)).argsort(axis=-1)[..., :top_k].astype(np.uint8)
    lens = np.array([tokens // 3, tokens // 2, tokens - tokens // 3 - tokens // 2])
    return Trace(ids, lens, experts, "tiny")


def test_load_of_batches_is_counted_token_by_token() -> None:
    trace = random_trace()
    load = batch_load(trace, 25)
    assert load.shape == (2, 3, 16)
    for batch in range(2):
        for layer in range(3):
            ids = trace.experts[batch * 25 : (batch + 1) * 25, layer].ravel().tolist()
            assert load[batch, layer].tolist() == [ids.count(expert) for expert in range(16)]
    assert rank_load(load, 4)[0, 0].tolist() == load[0, 0].reshape(4, 4).sum(axis=1).tolist()


def test_temporal_share_is_that_of_neighbours_in_a_sequence() -> None:
    trace = random_trace()
    borders = set(np.cumsum(trace.seq_lens).tolist())
    expected = []
    for layer in range(3):
        shared = [
            len(set(trace.experts[t, layer].tolist()) & set(trace.experts[t - 1, layer].tolist()))
            for t in range(1, trace.tokens)
            if t not in borders
        ]
        expected.append(np.mean(shared) / trace.top_k)
    assert temporal_share(trace) == pytest.approx(expected)


def test_a_layer_that_follows_from_the_one_before_is_guessed() -> None:
    trace = random_trace(tokens=600)
    ids = trace.experts.copy()
    ids[:, 1] = (ids[:, 0] + 5) % 16  # follows exactly
    linked = Trace(ids, trace.seq_lens, 16, "tiny")
    share, popular = cross_layer_share(linked)
    assert share[0] > 0.98  # all but what few tokens can not teach
    assert share[1] == pytest.approx(0.25, abs=0.04)  # layer 2 is drawn on its own
    assert popular == pytest.approx([0.25, 0.25], abs=0.04)


def test_one_sequence_can_not_be_judged_on_another() -> None:
    trace = random_trace()
    alone = Trace(trace.experts, np.array([60]), 16, "tiny")
    assert np.isnan(cross_layer_share(alone)).all()
    single = Trace(trace.experts, np.ones(60, dtype=np.int64), 16, "tiny")
    assert np.isnan(temporal_share(single)).all()


def test_load_without_tokens_has_no_busiest() -> None:
    load = np.array([[0, 0], [3, 1], [2, 2]])
    assert busiest_over_mean(load)[1:].tolist() == [1.5, 1.0]
    assert np.isnan(busiest_over_mean(load)[0])
    assert entropy(load)[2] == pytest.approx(1.0)
    assert np.isnan(entropy(load)[0])


def test_drift_is_the_share_that_moved() -> None:
    load = np.array([[[4, 0]], [[3, 1]], [[0, 4]]])
    assert drift(load) == pytest.approx([(0.25 + 0.75) / 2, 1.0])


def test_uniform_draws_are_as_uneven_as_sampling_noise() -> None:
    rng = np.random.default_rng(0)
    assert uniform_busiest(256, 64, 6, rng) == pytest.approx(1.47, abs=0.03)
    assert uniform_busiest(4096, 64, 6, rng) == pytest.approx(1.11, abs=0.03)


# max/mean min, median, max; 4,096-token batches mean, p5, p95; EP8; temporal; cross-layer, by popularity
# (README.md of the recorded traces)
PUBLISHED: dict[str, tuple[float, ...]] = {
    "intent": (2.9, 4.0, 4.7, 3.8, 3.0, 4.7, 1.44, 0.26, 0.71, 0.27),
    "law": (2.0, 3.3, 6.9, 3.5, 2.0, 5.6, 1.38, 0.29, 0.61, 0.23),
    "summary": (2.0, 4.4, 6.5, 4.3, 2.2, 6.4, 1.41, 0.29, 0.56, 0.25),
    "translation": (4.1, 5.6, 7.7, 5.6, 4.1, 7.4, 1.70, 0.27, 0.65, 0.38),
    "decode": (2.0, 2.4, 3.7, 3.3, 2.2, 4.7, 1.59, 0.44, 0.62, 0.27),
}
ENTROPY = {
    "intent": (0.909, 0.932, 0.954),
    "law": (0.924, 0.961, 0.990),
    "summary": (0.903, 0.950, 0.983),
    "translation": (0.823, 0.882, 0.926),
    "decode": (0.883, 0.926, 0.972),
}


def recorded(name: str) -> Trace:
    folder, lens, experts = ("deepseek-v2-lite-esft", "seq_lens", 64)
    if name == "decode":
        folder, lens, experts = ("gpt-oss-20b-decode", "gen_tokens", 32)
    path = TRACES / folder / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the recorded traces (../shared/traces, or EPSIM_TRACES) are absent")
    with np.load(path, allow_pickle=False) as arrays:
        return Trace(arrays["experts"], arrays[lens], experts, name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_are_those_published_with_the_traces(name: str) -> None:
    trace = recorded(name)
    summary = summarise(trace)
    batch = next(skew for skew in summary.skew if skew.tokens == 4096)
    spread = [summary.busiest.min(), np.median(summary.busiest), summary.busiest.max()]
    found: list[Any] = [*spread, batch.expert_mean, batch.expert_p5, batch.expert_p95]
    assert found == pytest.approx(PUBLISHED[name][:6], abs=0.06)
    assert batch.ranks[8] == pytest.approx(PUBLISHED[name][6], abs=0.005)
    entropies = [summary.entropy.min(), np.median(summary.entropy), summary.entropy.max()]
    assert entropies == pytest.approx(ENTROPY[name], abs=0.0006)
    assert summary.temporal.mean() == pytest.approx(PUBLISHED[name][7], abs=0.01)
    # which sequences learn and which are judged is not published
    assert summary.cross.mean() == pytest.approx(PUBLISHED[name][8], abs=0.025)
    assert summary.cross_popular.mean() == pytest.approx(PUBLISHED[name][9], abs=0.01)
