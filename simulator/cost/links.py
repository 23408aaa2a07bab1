"""Bytes on links: the busiest-link bound that no transfer undercuts.

A set of flows loads the ports of its ranks, the uplinks of the domains it leaves and the direct links of full-mesh
domains; where a plane has several ways, every link that its routes take. The time of the set is at least the busiest
link's bytes over its capacity; for well-scheduled collectives it is close to that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topologies.network import Network, Plane, Tier
from topologies.routes import Routes, link_bytes

Floats = NDArray[np.float64]
Ranks = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LinkTime:
    """The busiest link of one kind: how long its bytes take at line rate [s], and what and where it is."""

    time_s: float
    plane: int
    link: str


@dataclass(frozen=True, slots=True)
class LinkLoads:
    """Bytes on all links of one kind in one plane.

    Parameters
    ----------
    plane
        Index into `Network.planes`.
    kind
        What the links are, for example ``leaf up link``.
    number
        ``[links]`` which one each is: a rank, a domain, ``source * ranks + target`` of a direct link, or a link of
        `routes`.
    capacity_bytes_per_s
        ``[links]`` one direction.
    size_bytes
        ``[links, columns]`` bytes of the flows counted under each column.
    pairs_of
        Ranks in the cluster where links join two of them directly, else 0.
    routes
        The plane's routes where `number` is one of their links.
    """

    plane: int
    kind: str
    number: NDArray[np.int64]
    capacity_bytes_per_s: Floats
    size_bytes: Floats
    pairs_of: int = 0
    routes: Routes | None = None

    @property
    def time_s(self) -> Floats:
        """``[links, columns]`` time of the bytes at line rate [s]."""
        times: Floats = self.size_bytes / self.capacity_bytes_per_s[:, None]
        return times

    def name(self, row: int) -> str:
        """Return what a reader calls the link of a row."""
        number = int(self.number[row])
        if self.routes is not None:
            return f"{self.kind} {self.routes.name(number)}"
        which = f"{number // self.pairs_of}->{number % self.pairs_of}" if self.pairs_of else str(number)
        return f"{self.kind} {which}"

    def busiest(self) -> LinkTime:
        """Return the link whose bytes of all columns take longest."""
        time_s = self.size_bytes.sum(axis=1) / self.capacity_bytes_per_s
        row = int(time_s.argmax())
        return LinkTime(float(time_s[row]), self.plane, self.name(row))


@dataclass(frozen=True, slots=True)
class _Flows:
    """Flows of one plane as columns `[flows]`; `level` is the tier at which each meets."""

    source: Ranks
    target: Ranks
    size_bytes: Floats
    column: NDArray[np.int64] | None
    level: NDArray[np.int32]

    def take(self, chosen: NDArray[np.bool_]) -> "_Flows":
        column = None if self.column is None else self.column[chosen]
        return _Flows(self.source[chosen], self.target[chosen], self.size_bytes[chosen], column, self.level[chosen])

    def summed(self, link: NDArray[Any], links: int, columns: int) -> Floats:
        """Return ``[links, columns]`` bytes; flows whose `link` is negative count nowhere."""
        size, column = self.size_bytes, self.column
        if link.min(initial=0) < 0:
            inside = link >= 0
            link, size = link[inside], size[inside]
            column = None if column is None else column[inside]
        key = link if column is None else link.astype(np.int64) * columns + column
        total = np.bincount(key, size, links * columns).astype(np.float64, copy=False)
        return total.reshape(links, columns)


def busiest_links(
    network: Network, source: NDArray[np.int32], target: NDArray[np.int32], size_bytes: NDArray[np.float64]
) -> list[LinkTime]:
    """Return the busiest link of each kind, at line rate.

    Parameters
    ----------
    network
        The cluster's links.
    source, target
        ``[flows]`` sending and receiving rank of each flow; a flow from a rank to itself loads nothing.
    size_bytes
        ``[flows]`` bytes of each flow.
    """
    return [loads.busiest() for loads in link_loads(network, source, target, size_bytes)]


def link_loads(
    network: Network,
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    size_bytes: NDArray[np.float64],
    column: NDArray[np.int64] | None = None,
    columns: int = 1,
    ports_of: NDArray[np.int32] | None = None,
) -> list[LinkLoads]:
    """Return the bytes that flows put on every link, by kind of link, counted under the columns of a matrix.

    Parameters
    ----------
    source, target, size_bytes
        As in `busiest_links`.
    column
        ``[flows]`` column under which a flow is counted; None for one column.
    columns
        Number of columns.
    ports_of
        Ranks whose ports and direct links are wanted, in this order; None for all. Other links carry all flows.
    """
    tier_of = network.meeting_tier(source, target)
    flows = _Flows(source, target, np.asarray(size_bytes, dtype=np.float64), column, tier_of)
    ports = np.arange(network.ranks) if ports_of is None else np.asarray(ports_of, dtype=np.int64)
    found: list[LinkLoads] = []
    for index, plane in enumerate(network.planes):
        levels = [level for level, tier in enumerate(network.tiers) if tier.plane == index]
        chosen = np.isin(tier_of, levels)
        if not chosen.any():
            continue
        own = flows if chosen.all() else flows.take(chosen)
        if plane.routes is not None:
            found.append(_routed_loads(network, own, columns, index, plane.routes))
            continue
        found += _port_loads(own, columns, index, plane, ports)
        for level in levels:
            tier = network.tiers[level]
            if np.isfinite(tier.uplink_bytes_per_s).any():
                found += _uplink_loads(own.take(own.level > level), columns, tier)
            if np.isfinite(tier.pair_bytes_per_s):
                found += _direct_loads(own.take(own.level == level), columns, tier, network.ranks, ports)
    return found


def _routed_loads(network: Network, flows: _Flows, columns: int, index: int, routes: Routes) -> LinkLoads:
    target = network.relay(flows.source, flows.target)
    size = link_bytes(routes, flows.source, target, flows.size_bytes, flows.column, columns)
    return LinkLoads(index, "link", np.arange(routes.source.size), routes.bytes_per_s, size, routes=routes)


def _port_loads(flows: _Flows, columns: int, index: int, plane: Plane, ports: NDArray[np.int64]) -> Iterator[LinkLoads]:
    row = _rows(ports, plane.port_bytes_per_s.size)
    for ends, side in ((flows.source, "out"), (flows.target, "in")):
        size = flows.summed(row[ends], ports.size, columns)
        yield LinkLoads(index, f"{plane.name} port {side} of rank", ports, plane.port_bytes_per_s[ports], size)


def _uplink_loads(flows: _Flows, columns: int, tier: Tier) -> Iterator[LinkLoads]:
    if not flows.source.size:
        return
    domains = tier.uplink_bytes_per_s.size
    for ends, side in ((flows.source, "up"), (flows.target, "down")):
        size = flows.summed(tier.domain[ends], domains, columns)
        number = np.arange(domains)
        yield LinkLoads(tier.plane, f"{tier.name} {side} link", number, tier.uplink_bytes_per_s, size)


def _direct_loads(flows: _Flows, columns: int, tier: Tier, ranks: int, ports: NDArray[np.int64]) -> Iterator[LinkLoads]:
    own = flows.take(_rows(ports, ranks)[flows.source] >= 0)
    if not own.source.size:
        return
    pairs, link = np.unique(own.source.astype(np.int64) * ranks + own.target, return_inverse=True)
    rate = np.full(pairs.size, tier.pair_bytes_per_s)
    size = own.summed(link, pairs.size, columns)
    yield LinkLoads(tier.plane, f"{tier.name} direct link", pairs, rate, size, pairs_of=ranks)


def _rows(ports: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    row = np.full(ranks, -1, dtype=np.int64)
    row[ports] = np.arange(ports.size)
    return row
