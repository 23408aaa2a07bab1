"""Batches made of recorded counts."""

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace
from workloads.routing.replay_counts import resample_counts


def trace(steps: int = 6, tokens: int = 50) -> CountTrace:
    rng = np.random.default_rng(0)
    pull = rng.normal(size=(3, 16))
    ids = (pull + rng.gumbel(size=(steps, tokens, 3, 16))).argsort(axis=-1)[..., :4]
    counts = np.stack([[np.bincount(step[:, layer].ravel(), minlength=16) for layer in range(3)] for step in ids])
    return CountTrace(counts, "tiny", top_k=4)


@pytest.mark.parametrize("tokens", [1, 20, 50, 120, 300, 5000])
def test_every_layer_of_a_batch_has_all_its_routes(tokens: int) -> None:
    drawn = resample_counts(trace(), tokens, 4, 5, np.random.default_rng(1))
    assert drawn.shape == (5, 3, 16)
    assert drawn.sum(axis=2) == pytest.approx(4.0 * tokens)
    assert (drawn >= 0).all()


def test_a_batch_as_large_as_a_step_is_a_step() -> None:
    recorded = trace()
    drawn = resample_counts(recorded, 50, 4, 6, np.random.default_rng(1))
    assert sorted(drawn.tolist()) == sorted(recorded.counts.astype(float).tolist())


def test_small_batches_never_take_what_was_not_there() -> None:
    recorded = trace(steps=1)
    drawn = resample_counts(recorded, 20, 4, 40, np.random.default_rng(1))
    assert (drawn <= recorded.counts[0]).all()
    share, own = (
        drawn.sum(axis=0) / drawn.sum(axis=(0, 2))[:, None],
        recorded.counts[0] / recorded.counts[0].sum(axis=1)[:, None],
    )
    assert np.abs(share - own).max() < 0.02


def test_a_short_recording_is_scaled_up() -> None:
    recorded = trace(steps=2)
    drawn = resample_counts(recorded, 1000, 4, 2, np.random.default_rng(1))
    whole = recorded.counts.sum(axis=0)
    assert drawn[0] == pytest.approx(whole * 10.0)


def test_no_expert_has_a_token_twice() -> None:
    """One expert serves every token: thinned by chance it would get more than there are."""
    counts = np.array([[[100, 60, 40, 0]]])
    drawn = resample_counts(CountTrace(counts, "tiny", top_k=2), 7, 2, 200, np.random.default_rng(0))
    assert drawn.max() <= 7 + 1e-9
    assert drawn.sum(axis=2) == pytest.approx(14.0)
    with pytest.raises(WorkloadError, match="layer 0: an expert has more than one of 3 routes"):
        resample_counts(CountTrace(counts, "tiny"), 7, 3, 1, np.random.default_rng(0))


def test_nonsense_is_refused() -> None:
    with pytest.raises(WorkloadError, match="tokens 0"):
        resample_counts(trace(), 0, 4, 1, np.random.default_rng(0))
    gap = trace().counts.copy()
    gap[:, 1] = 0
    gap[0, 1] = trace().counts[0, 1]
    with pytest.raises(WorkloadError, match="layer 1: no token in the steps of batch"):
        resample_counts(CountTrace(gap, "tiny", top_k=4), 50, 4, 6, np.random.default_rng(0))
