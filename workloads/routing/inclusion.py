"""How often each expert is among a token's top-k, given what it is weighed by.

A token draws its top-k by successive sampling without replacement, that is, the k largest of log w + Gumbel noise.
Equivalently, expert e rings after an exponential time of rate w_e, and the first k to ring are chosen. Replacing
"the first k" by "all before time tau", with tau such that k ring on average, makes the experts independent and the
chance of each ``1 - exp(-tau w_e)``.

Source: Gumbel top-k, Kool et al. 2019 (arXiv:1903.06059) section 3; exponential clocks, Yellott 1977; Poissonisation,
Rosen 1997 (J. Stat. Plan. Inference 62). Group limit: a token may use the topk_group groups with the highest single
score, as in DeepSeek-V2 (arXiv:2405.04434) section 2.2.2; DeepSeek-V3 sums each group's two best instead.
"""

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 200
_TOLERANCE = 1e-10
_TINY, _LATEST = 1e-300, 1e200  # keep the clock finite where fewer than `total` can ring

Floats = NDArray[np.float64]


def skewed(log_weight: Floats, cold: float) -> Floats:
    """Return log weights with those below 0 multiplied by `cold`."""
    return log_weight if cold == 1 else np.where(log_weight < 0, cold * log_weight, log_weight)


def inclusion(log_weight: Floats, shares: Floats, top_k: int, n_group: int = 1, topk_group: int = 1) -> Floats:
    """Return the chance that each expert is among a token's top-k.

    Parameters
    ----------
    log_weight
        ``[..., nodes, experts]`` log weights of some kinds of sequence.
    shares
        ``[nodes]`` share of each kind; the chances sum to top_k over experts on this average.
    top_k, n_group, topk_group
        Experts per token; expert groups, and how many of them a token may use.
    """
    if top_k >= log_weight.shape[-1]:
        return np.ones_like(log_weight)
    # log weights are relative, so the largest may be 1: nothing overflows
    weight = np.exp(log_weight - log_weight.max(axis=(-1, -2), keepdims=True))
    if topk_group >= n_group:
        return ring_chance(weight, shares, top_k)
    grouped = weight.reshape(*weight.shape[:-1], n_group, -1).sum(axis=-1)
    deadline = _clock(grouped, shares, topk_group)[0]
    others = np.repeat(grouped, weight.shape[-1] // n_group, axis=-1) - weight
    # an expert that rings after its group's deadline counts only if another expert of the group rang before it
    return _clock(weight, shares, top_k, (deadline, np.exp(-others * deadline)))[1]


def ring_chance(weight: Floats, shares: Floats, total: float) -> Floats:
    """Return ``1 - exp(-tau weight)`` with tau such that `total` ring on average.

    Parameters
    ----------
    weight
        ``[..., nodes, items]`` rates.
    shares
        ``[nodes]`` weights of the average; they sum to 1.
    total
        Expected number of rings, less than the items with a positive rate.
    """
    return _clock(weight, shares, total)[1]


def _clock(
    weight: Floats, shares: Floats, total: float, late: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """Return the time by which `total` ring on average, and each one's chance.

    `late` is a deadline and the chance that a ring after it is lost. The expected number of rings is concave in the
    time, so Newton's method from the left never oversteps.
    """
    shared = shares[:, None]
    clock = total / (weight * shared).sum(axis=(-1, -2), keepdims=True)
    for _ in range(_ITERATIONS):
        silent = np.exp(-clock * weight)
        chance, rate = 1 - silent, weight * silent
        if late is not None:
            deadline, lost = late
            chance -= lost * np.maximum(np.exp(-deadline * weight) - silent, 0)
            rate *= 1 - lost * (clock > deadline)
        missing = total - (chance * shared).sum(axis=(-1, -2), keepdims=True)
        if (missing <= _TOLERANCE * total).all():
            break
        slope = (rate * shared).sum(axis=(-1, -2), keepdims=True)
        clock = np.minimum(clock + np.maximum(missing, 0) / np.maximum(slope, _TINY), _LATEST)
    return clock, chance
