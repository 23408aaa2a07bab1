"""Look-up tables that turn random numbers into a token's experts: top_k of them, distinct, each as often as wanted.

The experts' chances, which sum to top_k, are laid end to end and cut at every whole number: top_k strata, one expert
from each. An expert that lies across a cut may come up on both sides; the hottest stand in the middle of a stratum and
the coldest at its ends, so that this is rare, and the sampler draws again.

Source: stratified selection with unequal probabilities, after Madow 1949 (Ann. Math. Stat. 20, 333).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


class Segments(NamedTuple):
    """Pieces of the strata in order; an expert across a cut has two. All ``[..., experts + top_k - 1]``."""

    expert: Ids
    stratum: Ids
    mass: Floats


def deal(chance: Floats, top_k: int) -> Ids:
    """Return ``[..., experts]`` the experts in the order in which they are laid out, the hottest dealt first.

    Each stratum runs from cold to hot to cold. Layers and tasks with popularities of like shape get strata of like
    shape, which is what links them.

    Parameters
    ----------
    chance
        ``[..., experts]`` chance that a token uses an expert.
    top_k
        Experts per token.
    """
    rank = np.arange(chance.shape[-1])
    turn, place = rank // top_k, rank % top_k
    stratum = np.where(turn % 2 == 0, place, top_k - 1 - place)
    outwards = np.where(turn % 2 == 0, -turn, turn)
    return np.argsort(-chance, axis=-1, kind="stable")[..., np.lexsort((outwards, stratum))]


def arrange(chance: Floats, top_k: int) -> Segments:
    """Lay the experts out over the strata.

    Parameters
    ----------
    chance
        ``[..., experts]`` chance that a token uses an expert; sums to `top_k`.
    top_k
        Experts per token.
    """
    experts = chance.shape[-1]
    order = deal(chance, top_k)
    ends = np.cumsum(np.take_along_axis(chance, order, axis=-1), axis=-1)
    ends *= top_k / ends[..., -1:]
    cuts = np.broadcast_to(np.arange(1.0, top_k), (*chance.shape[:-1], top_k - 1))
    borders = np.concatenate([ends, cuts], axis=-1)
    sequence = np.argsort(borders, axis=-1, kind="stable")
    is_cut = sequence >= experts
    borders = np.take_along_axis(borders, sequence, axis=-1)
    before = np.minimum(np.cumsum(~is_cut, axis=-1) - ~is_cut, experts - 1)
    return Segments(
        np.take_along_axis(order, before, axis=-1),
        np.minimum(np.cumsum(is_cut, axis=-1) - is_cut, top_k - 1),
        np.diff(borders, axis=-1, prepend=0.0),
    )


def tables(segments: Segments, tilt: Floats, slots: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return ``[kinds, top_k x slots]``: the expert of each slot; every stratum has `slots` of them.

    Parameters
    ----------
    segments
        ``[kinds, segments]``.
    tilt
        ``[kinds, experts]`` factor on an expert's share of its stratum.
    slots
        Resolution; what an expert has over or under whole slots is decided by one random number per kind.
    """
    kinds = len(segments.expert)
    top_k = int(segments.stratum[0, -1]) + 1
    mass = segments.mass * np.take_along_axis(tilt, segments.expert, axis=-1)
    row = np.arange(kinds)[:, None] * top_k + segments.stratum
    total = np.bincount(row.ravel(), mass.ravel(), kinds * top_k)
    within = mass / np.maximum(total[row], 1e-300)
    ends = np.cumsum(within, axis=-1)
    last = np.diff(segments.stratum, axis=-1, append=top_k) != 0
    ends = np.where(last, segments.stratum + 1.0, ends)
    marks = np.floor(ends * slots + rng.uniform(0.001, 0.999, (kinds, 1))).astype(np.int64)
    counts = np.diff(np.maximum.accumulate(marks, axis=-1), axis=-1, prepend=0)
    return np.repeat(segments.expert.astype(np.uint16).ravel(), counts.ravel()).reshape(kinds, top_k * slots)
