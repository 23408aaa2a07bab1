"""Max-min fair rates of flows on links."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDING = 1e-12


def max_min_rates(link: NDArray[Any], share: Floats | None, capacity_bytes_per_s: Floats) -> Floats:
    """Return the rate of each flow, ``[flows]`` [bytes/s]: no rate can grow but at the cost of one that is no larger.

    Progressive filling, except that a link need not wait for its turn: once no flow on it is held back more by another
    link, its flows get an equal part of what is left on it, and all such links are settled in one round.

    Parameters
    ----------
    link
        ``[places, flows]`` links that each flow takes; a flow that takes fewer than `places` repeats the last number,
        the one after all links.
    share
        ``[places, flows]`` part of the flow that takes the link (below 1 where equal-cost routes split it); None
        where that is all of it.
    capacity_bytes_per_s
        ``[links]`` capacity; flows across a link of capacity 0 stand still.

    Source
    ------
    Progressive filling: Bertsekas and Gallager, Data Networks (1992), section 6.5.2.
    """
    links = capacity_bytes_per_s.size
    left = np.append(capacity_bytes_per_s, np.inf)
    rate = np.zeros(link.shape[1])
    waiting = np.arange(link.shape[1])
    while waiting.size:
        offered = _parts(left, link, share)[link]
        least = offered.min(axis=0)
        held = np.zeros(links + 1, dtype=bool)
        held[link[offered > least * (1 + ROUNDING)]] = True
        held[links] = True
        settled = (~held[link]).any(axis=0) | np.isinf(least)
        rate[waiting[settled]] = least[settled]
        kept = None if share is None else share[:, settled]
        left = np.maximum(left - used_bytes_per_s(least[settled], link[:, settled], kept, links), 0.0)
        waiting, link = waiting[~settled], link[:, ~settled]
        share = None if share is None else share[:, ~settled]
    return rate


def nearly_fair_rates(
    link: NDArray[Any], share: Floats | None, capacity_bytes_per_s: Floats, tolerance: float
) -> Floats:
    """Return rates that fill links almost as far as fair ones do, in a few rounds however uneven the flows are.

    In each round a flow gets the least of the equal parts that its links have left. It gets no more once one of them
    is full but for `tolerance` of its capacity. What is first given out is never above the fair share; what is left
    over then is split a little less fairly than `max_min_rates` does.

    Parameters
    ----------
    link, share, capacity_bytes_per_s
        As for `max_min_rates`.
    tolerance
        Part of a link's capacity that may stay idle, above 0.
    """
    links = capacity_bytes_per_s.size
    left = np.append(capacity_bytes_per_s, np.inf)
    enough = np.append(capacity_bytes_per_s * tolerance, -1.0)
    rate = np.zeros(link.shape[1])
    waiting = np.arange(link.shape[1])
    while waiting.size:
        parts = _parts(left, link, share)
        least = parts[link[0]]
        for place in link[1:]:
            np.minimum(least, parts[place], out=least)
        rate[waiting] += least
        left = np.maximum(left - used_bytes_per_s(least, link, share, links), 0.0)
        full = left <= enough
        go_on = ~full[link[0]]
        for place in link[1:]:
            go_on &= ~full[place]
        go_on &= np.isfinite(least)
        waiting, link = waiting[go_on], link[:, go_on]
        share = None if share is None else share[:, go_on]
    return rate


def _parts(left: Floats, link: NDArray[Any], share: Floats | None) -> Floats:
    """Return the equal part of what is left on each link, for flows that take all of it; infinite after the last."""
    demand = np.bincount(link.ravel(), None if share is None else share.ravel(), left.size)
    part: Floats = np.divide(left, demand, out=np.full(left.size, np.inf), where=demand > 0)
    part[-1] = np.inf
    return part


def used_bytes_per_s(rate: Floats, link: NDArray[Any], share: Floats | None, links: int) -> Floats:
    """Return what rates add up to on each link, ``[links + 1]`` [bytes/s]; 0 after the last.

    Parameters
    ----------
    rate, link, share
        ``[flows]`` and ``[places, flows]``, see `max_min_rates`.
    links
        Number of links.
    """
    used = np.zeros(links + 1)
    for index, place in enumerate(link):
        used += np.bincount(place, rate if share is None else rate * share[index], links + 1)
    used[links] = 0.0
    return used
