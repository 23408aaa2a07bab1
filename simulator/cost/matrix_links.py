"""The bytes that an exchange among all ranks puts on links, without a list of its flows.

Where ranks meet is read off their domains, so of a matrix only the cells inside domains are looked at one by one; what
leaves them is the difference to the sums of rows and columns. Work grows with ranks x largest inner domain, memory
hardly at all. Planes with routes are the exception: there, blocks of destinations are pushed through one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from simulator.cost.links import LinkLoads, link_loads
from topologies.network import Network, Tier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CELLS = 2**21  # cells of the matrix held as flows at once
ROUNDING = 1e-12


def matrix_loads(network: Network, size_bytes: NDArray[np.floating]) -> list[LinkLoads]:
    """Return the bytes on every link of an uneven all-to-all over all ranks of a network.

    Parameters
    ----------
    size_bytes
        ``[ranks, ranks]`` bytes from each rank to each other; the diagonal loads nothing.
    """
    if any(plane.routes is not None for plane in network.planes):
        return _by_blocks(network, size_bytes)
    kept = np.diagonal(size_bytes)
    total = [size_bytes.sum(axis=1 - axis, dtype=np.float64) - kept for axis in range(2)]
    met = np.zeros((2, len(network.tiers), network.ranks))
    direct: list[LinkLoads] = []
    for level, tier in enumerate(network.tiers):
        if level + 1 < len(network.tiers) or np.isfinite(tier.pair_bytes_per_s):
            for members, cells in _blocks(network, level, size_bytes):
                met[0, level, members] = cells.sum(axis=2)
                met[1, level, members] = cells.sum(axis=1)
                direct += _direct(network, tier, members, cells)
    last = len(network.tiers) - 1
    for side in range(2):
        rest = total[side] - met[side, :last].sum(axis=0)
        met[side, last] = np.where(rest > ROUNDING * total[side], rest, 0.0)
    return [*_from_tiers(network, met[0], met[1]), *direct]


def uniform_loads(network: Network, size_bytes: float, groups: NDArray[np.int32] | None = None) -> list[LinkLoads]:
    """Return the bytes on every link when each rank sends the same to every other rank of a network, or of its group.

    All direct links of a mesh carry the same, so one of each tier stands for them.

    Parameters
    ----------
    size_bytes
        Bytes of each pair of ranks.
    groups
        ``[groups, ranks]`` members, each rank in one group at most; None for all ranks.
    """
    group = np.zeros(network.ranks, dtype=np.int32)
    if groups is not None:
        group[:] = -1
        group[groups] = np.arange(len(groups))[:, None]
    if any(plane.routes is not None for plane in network.planes):
        return _by_blocks(network, size_bytes * ((group[:, None] == group) & (group >= 0)))
    met = _peers_met(network, group) * size_bytes
    loads = list(_from_tiers(network, met, met))
    for level, tier in enumerate(network.tiers):
        if np.isfinite(tier.pair_bytes_per_s) and met[level].any():
            source = int(met[level].argmax())
            mates = np.flatnonzero((tier.domain == tier.domain[source]) & (group == group[source]))
            pair = np.array([source * network.ranks + int(mates[mates != source][0])])
            loads.append(_pair_loads(network, tier, pair, np.array([[size_bytes]])))
    return loads


def _by_blocks(network: Network, size_bytes: NDArray[np.floating]) -> list[LinkLoads]:
    """Add up blocks of destinations."""
    width = max(1, CELLS // network.ranks)
    total: dict[tuple[int, str], LinkLoads] = {}
    for first in range(0, network.ranks, width):
        block = size_bytes[:, first : first + width].astype(np.float64)
        source, target = (side.ravel().astype(np.int32) for side in np.indices(block.shape))
        for loads in link_loads(network, source, target + np.int32(first), block.ravel()):
            key = loads.plane, loads.kind
            total[key] = joined_loads(total[key], loads) if key in total else loads
    return list(total.values())


def joined_loads(one: LinkLoads, other: LinkLoads) -> LinkLoads:
    """Add up two parts of a traffic on the links of one kind; they share all direct links, or none."""
    if np.array_equal(one.number, other.number):
        return replace(one, size_bytes=one.size_bytes + other.size_bytes)
    number, rate, size = (
        np.concatenate([getattr(each, name) for each in (one, other)])
        for name in ("number", "capacity_bytes_per_s", "size_bytes")
    )
    return replace(one, number=number, capacity_bytes_per_s=rate, size_bytes=size)


def _blocks(network: Network, level: int, size_bytes: NDArray[np.floating]) -> Iterator[tuple[Ints, Floats]]:
    """Yield members ``[domains, ranks]`` of domains of one size, and the bytes of the pairs that meet there first."""
    domain = network.tiers[level].domain
    order = np.argsort(domain, kind="stable")
    sizes = np.bincount(domain)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes).tolist():
        alike = starts[sizes == size]
        for some in np.array_split(alike, max(1, -(-alike.size * size * size // CELLS))):
            members = order[some[:, None] + np.arange(size)]
            pairs = members[:, :, None], members[:, None, :]
            earlier = pairs[0] == pairs[1]
            for tier in network.tiers[:level]:
                earlier |= tier.domain[pairs[0]] == tier.domain[pairs[1]]
            yield members, np.where(earlier, 0.0, size_bytes[pairs])


def _direct(network: Network, tier: Tier, members: Ints, cells: Floats) -> list[LinkLoads]:
    if not np.isfinite(tier.pair_bytes_per_s):
        return []
    used = np.nonzero(cells)
    pairs = members[used[0], used[1]] * network.ranks + members[used[0], used[2]]
    return [_pair_loads(network, tier, pairs, cells[used][:, None])] if pairs.size else []


def _pair_loads(network: Network, tier: Tier, pairs: Ints, size_bytes: Floats) -> LinkLoads:
    rate = np.full(pairs.size, tier.pair_bytes_per_s)
    return LinkLoads(tier.plane, f"{tier.name} direct link", pairs, rate, size_bytes, pairs_of=network.ranks)


def _peers_met(network: Network, group: NDArray[np.int32]) -> Floats:
    """Return how many others of its group each rank meets first at each tier, ``[tiers, ranks]``.

    Those in a domain but in no earlier one, by inclusion and exclusion over the earlier domains.
    """
    met = np.zeros((len(network.tiers), network.ranks))
    for level, tier in enumerate(network.tiers):
        for many in range(level + 1):
            for earlier in combinations(range(level), many):
                domains = [group, tier.domain, *(network.tiers[each].domain for each in earlier)]
                met[level] += (-1) ** many * _mates(domains)
    met[0] -= 1  # oneself
    met[:, group < 0] = 0
    return met


def _mates(domains: Sequence[NDArray[np.int32]]) -> Ints:
    """Return how many ranks share all of these domains with each rank, itself included."""
    key = np.zeros(domains[0].size, dtype=np.int64)
    for domain in domains:
        key = np.unique(key * (int(domain.max()) + 1) + domain, return_inverse=True)[1]
    mates: Ints = np.bincount(key)[key]
    return mates


def _from_tiers(network: Network, sent: Floats, received: Floats) -> Iterator[LinkLoads]:
    """Yield the loads of ports and uplinks from what each rank sends and receives at each tier, ``[tiers, ranks]``."""
    for index, plane in enumerate(network.planes):
        levels = [level for level, tier in enumerate(network.tiers) if tier.plane == index]
        if not sent[levels].any():
            continue
        for load, side in ((sent, "out"), (received, "in")):
            size = load[levels].sum(axis=0)[:, None]
            ranks = np.arange(network.ranks)
            yield LinkLoads(index, f"{plane.name} port {side} of rank", ranks, plane.port_bytes_per_s, size)
        for level in levels:
            tier, above = network.tiers[level], [each for each in levels if each > level]
            domains = tier.uplink_bytes_per_s.size
            if not sent[above].any() or not np.isfinite(tier.uplink_bytes_per_s).any():
                continue
            for load, side in ((sent, "up"), (received, "down")):
                size = np.bincount(tier.domain, load[above].sum(axis=0), domains)[:, None].astype(np.float64)
                kind = f"{tier.name} {side} link"
                yield LinkLoads(index, kind, np.arange(domains), tier.uplink_bytes_per_s, size)
