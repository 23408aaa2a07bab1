"""Bytes on links: the busiest-link bound that no transfer undercuts.

A set of flows loads the ports of its ranks, the uplinks of the domains it leaves and the direct links of full-mesh
domains. The time of the set is at least the busiest link's bytes over its capacity; for well-scheduled collectives it
is close to that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topologies.network import Network, Tier


@dataclass(frozen=True, slots=True)
class LinkTime:
    """The busiest link of one kind: how long its bytes take at line rate [s], and what and where it is."""

    time_s: float
    plane: int
    link: str


def busiest_links(
    network: Network, source: NDArray[np.int32], target: NDArray[np.int32], size_bytes: NDArray[np.float64]
) -> list[LinkTime]:
    """Return the busiest port, uplink and direct link of each plane, at line rate.

    Parameters
    ----------
    network
        The cluster's links.
    source, target
        ``[flows]`` sending and receiving rank of each flow; a flow from a rank to itself loads nothing.
    size_bytes
        ``[flows]`` bytes of each flow.
    """
    tier_of = network.meeting_tier(source, target)
    times: list[LinkTime] = []
    for plane_index, plane in enumerate(network.planes):
        levels = [index for index, tier in enumerate(network.tiers) if tier.plane == plane_index]
        chosen = np.isin(tier_of, levels)
        if not chosen.any():
            continue
        src, dst, size, level = source[chosen], target[chosen], size_bytes[chosen], tier_of[chosen]
        for ends, side in ((src, "out"), (dst, "in")):
            load = np.bincount(ends, size, network.ranks) / plane.port_bytes_per_s
            times.append(_worst(load, plane_index, f"{plane.name} port {side} of rank"))
        for index in levels:
            tier = network.tiers[index]
            above = level > index
            if above.any() and np.isfinite(tier.uplink_bytes_per_s).any():
                times.extend(_uplinks(tier, plane_index, src[above], dst[above], size[above]))
            here = level == index
            if np.isfinite(tier.pair_bytes_per_s) and here.any():
                times.append(_direct(tier, network.ranks, plane_index, src[here], dst[here], size[here]))
    return times


def _worst(load_s: NDArray[np.float64], plane: int, what: str) -> LinkTime:
    index = int(load_s.argmax())
    return LinkTime(float(load_s[index]), plane, f"{what} {index}")


def _uplinks(
    tier: Tier, plane: int, src: NDArray[np.int32], dst: NDArray[np.int32], size: NDArray[np.float64]
) -> list[LinkTime]:
    domains = len(tier.uplink_bytes_per_s)
    return [
        _worst(
            np.bincount(tier.domain[ends], size, domains) / tier.uplink_bytes_per_s, plane, f"{tier.name} {side} link"
        )
        for ends, side in ((src, "up"), (dst, "down"))
    ]


def _direct(
    tier: Tier, ranks: int, plane: int, src: NDArray[np.int32], dst: NDArray[np.int32], size: NDArray[np.float64]
) -> LinkTime:
    pairs, index = np.unique(src.astype(np.int64) * ranks + dst, return_inverse=True)
    load = np.bincount(index, size) / tier.pair_bytes_per_s
    worst = int(load.argmax())
    return LinkTime(
        float(load[worst]), plane, f"{tier.name} direct link {pairs[worst] // ranks}->{pairs[worst] % ranks}"
    )
