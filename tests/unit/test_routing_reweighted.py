"""Drift and bias-based balancing of expected routing."""

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.popularity import Popularity, popularity
from workloads.routing.reweighted import bias_balanced, drifted, reweighted
from workloads.routing.spec import load_statistics


def model(seed: int = 0, mix: str = "mixed", strength: float = 1.0) -> Popularity:
    return popularity(load_statistics(), 4, 64, 6, np.random.default_rng(seed), mix=mix, strength=strength)


def busiest(found: Popularity) -> float:
    load = found.expected
    return float((load.max(axis=1) / load.mean(axis=1)).mean())


def test_no_factor_changes_nothing() -> None:
    base = model()
    same = reweighted(base, np.zeros((4, 64)))
    assert same.mean == pytest.approx(base.mean, rel=1e-6)
    assert same.variance == pytest.approx(base.variance, rel=1e-5)


def test_factors_undo_each_other() -> None:
    base = model()
    factor = np.random.default_rng(1).normal(size=(4, 64))
    there = reweighted(base, factor)
    assert there.mean.sum(axis=-1) == pytest.approx(6)
    assert not np.allclose(there.mean, base.mean, rtol=0.1)
    assert reweighted(there, -factor).mean == pytest.approx(base.mean, rel=1e-6)


def test_drift_loses_likeness_but_not_skew() -> None:
    alike, skew = [], []
    for drift in (0.0, 0.3, 0.7, 1.0):
        pairs = [(model(seed, "law"), model(seed + 100, "law")) for seed in range(10)]
        later = [drifted(now, other, drift) for now, other in pairs]
        logs = [
            [np.log(-np.log1p(-each.mean)) for each in pair] for pair in zip((p[0] for p in pairs), later, strict=True)
        ]
        alike.append(
            float(np.mean([np.corrcoef(a[0, layer], b[0, layer])[0, 1] for a, b in logs for layer in range(4)]))
        )
        skew.append(float(np.mean([busiest(each) for each in later])))
    assert alike == pytest.approx([1.0, 0.7, 0.3, 0.0], abs=0.06)
    assert skew == pytest.approx([skew[0]] * 4, rel=0.1)
    with pytest.raises(WorkloadError, match="between 0"):
        drifted(model(), model(1), 1.5)


def test_bias_balances_what_it_is_trained_on() -> None:
    base = model()
    found = bias_balanced(base, 0.01, 1000)
    assert found.busiest[0] == pytest.approx(busiest(base), rel=1e-6)
    assert found.busiest[-1] <= 1.02
    assert busiest(reweighted(base, found.bias)) == pytest.approx(found.busiest[-1], rel=1e-3)
    # one task alone stays uneven: the bias is one for all of them
    law = reweighted(model(mix="law"), found.bias)
    assert 1.2 < busiest(law) < busiest(model(mix="law"))


def test_bias_is_as_slow_as_its_speed() -> None:
    base = model()
    few = bias_balanced(base, 0.001, 100)
    assert np.abs(few.bias).max() == pytest.approx(0.1)
    assert len(few.busiest) == 101
    assert busiest(base) > few.busiest[-1] > bias_balanced(base, 0.001, 1000).busiest[-1]
    assert (np.diff(few.busiest) < 0).all()


def test_uniform_routing_needs_no_bias() -> None:
    found = bias_balanced(model(strength=0.0), 0.01, 1000)
    assert not found.bias.any()
    assert len(found.busiest) == 1
