"""Routing that differs from what was fitted: load that has drifted, and routers that balance by a bias.

Both change the weights by which experts are chosen. They are read off the chances: an expert that rings before the
deadline with the chance p has the rate ``-log(1 - p)`` (see `workloads.routing.popularity`); a group limit, which
shifts these a little, stays in the chances and is not drawn anew.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.inclusion import ring_chance
from workloads.routing.popularity import Popularity

Floats = NDArray[np.float64]
_SURE = 1 - 1e-12


class Balanced(NamedTuple):
    """What bias updates came to."""

    bias: Floats  # [layers, experts], on the scale of log weights
    busiest: Floats  # [steps made + 1] busiest expert over mean, averaged over layers, before each step and at the end


def reweighted(model: Popularity, log_factor: Floats) -> Popularity:
    """Return the popularity with every expert's weight multiplied by ``exp(log_factor)``.

    Parameters
    ----------
    log_factor
        ``[layers, experts]``, or with tasks in front.
    """
    rate = _rates(model.mean) * np.exp(log_factor - log_factor.max(axis=-1, keepdims=True))
    mean = ring_chance(rate[..., None, :], np.ones(1), model.top_k)[..., 0, :]
    # a preference of a sequence moves a chance in proportion to p (1 - p)
    slope = mean * (1 - mean) / np.maximum(model.mean * (1 - model.mean), 1e-300)
    return replace(model, mean=mean, variance=model.variance * np.minimum(slope, 1e6) ** 2)


def drifted(model: Popularity, other: Popularity, drift: float) -> Popularity:
    """Return popularity whose log weights correlate with the model's by ``1 - drift``, and are as widely spread.

    Parameters
    ----------
    other
        Popularity of the same spread, drawn independently.
    drift
        0: the same load; 1: nothing in common.

    Raises
    ------
    WorkloadError
        If drift is not between 0 and 1.
    """
    if not 0 <= drift <= 1:
        raise WorkloadError(f"routing.drift: {drift}: must lie between 0 (same load) and 1 (nothing in common)")
    if drift == 0:
        return model
    now, new = (_centred(np.log(_rates(each.mean))) for each in (model, other))
    alike = 1 - drift
    return reweighted(model, alike * now + np.sqrt(1 - alike**2) * new - now)


def bias_balanced(model: Popularity, speed: float, steps: int) -> Balanced:
    """Return the bias that balances the expected load, after steps that each add or take away `speed`.

    After every step an expert with more than the mean load gets its bias lowered by `speed`, one with less raised. The
    load is the expected one of all tasks together, so that noise of batches is left out. Steps end early when no
    expert is farther from the mean than two of them can move it.

    Parameters
    ----------
    model
        Expected routing of the data that the router is trained on.
    speed
        Bias update speed, in units of log weights.
    steps
        Optimizer steps.

    Source: auxiliary-loss-free balancing, arXiv:2408.15664 algorithm 1; DeepSeek-V3, arXiv:2412.19437 section 2.1.2.
    """
    rate = _rates(model.mean)
    bias = np.zeros(rate.shape[1:])
    clock = np.ones((*rate.shape[:-1], 1))
    busiest = []
    for step in range(steps + 1):
        load, clock = _load(rate * np.exp(bias), clock, model.top_k, rounds=30 if step == 0 else 2)
        relative = load / load.mean(axis=-1, keepdims=True)
        busiest.append(float(relative.max(axis=-1).mean()))
        if step == steps or np.abs(relative - 1).max() <= 2 * speed:
            break
        bias -= speed * np.sign(relative - 1)
    return Balanced(bias, np.array(busiest))


def _load(weight: Floats, clock: Floats, top_k: int, rounds: int) -> tuple[Floats, Floats]:
    """Return the load ``[layers, experts]`` of all tasks, by a few Newton steps from the clock of the step before."""
    for _ in range(rounds):
        silent = np.exp(-clock * weight)
        missing = top_k - (1 - silent).sum(axis=-1, keepdims=True)
        slope = (weight * silent).sum(axis=-1, keepdims=True)
        clock = np.maximum(clock + missing / np.maximum(slope, 1e-300), clock / 2)
    return np.asarray((1 - np.exp(-clock * weight)).mean(axis=0)), clock


def _rates(chance: Floats) -> Floats:
    rate = -np.log1p(-np.minimum(chance, _SURE))
    return np.maximum(rate, 1e-300)


def _centred(log_weight: Floats) -> Floats:
    return np.asarray(log_weight - log_weight.mean(axis=-1, keepdims=True))
