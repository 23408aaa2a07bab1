"""Which links each flow takes: the incidence of flows and links that rates are shared over."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.links import LinkTime
from topologies.network import Network, Plane, Tier
from topologies.routes import Routes, path_links

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kind:
    """Links of one kind: numbers `first` to `first + capacity.size - 1` of a `FlowLinks`."""

    plane: int
    name: str
    first: int
    capacity_bytes_per_s: Floats
    pairs: Ints | None = None
    ranks: int = 0
    routes: Routes | None = None

    def link_name(self, index: int) -> str:
        """Return what a reader calls one of them."""
        if self.routes is not None:
            return f"{self.name} {self.routes.name(index)}"
        if self.pairs is not None:
            return f"{self.name} {self.pairs[index] // self.ranks}->{self.pairs[index] % self.ranks}"
        return f"{self.name} {index}"


@dataclass(frozen=True, slots=True)
class FlowLinks:
    """The links of a set of flows.

    Parameters
    ----------
    link
        ``[places, flows]`` links of each flow; places that a flow does not need hold the number after all links.
    share
        ``[places, flows]`` part of the flow on each, or None where no flow is split.
    capacity_bytes_per_s
        ``[links]`` one direction.
    kinds
        What the links are.
    """

    link: Ints
    share: Floats | None
    capacity_bytes_per_s: Floats
    kinds: tuple[Kind, ...]

    def bytes_on_links(self, size_bytes: Floats) -> Floats:
        """Return what flows of these sizes put on each link, ``[links]`` [bytes]."""
        weight = np.broadcast_to(size_bytes, self.link.shape)
        weight = weight if self.share is None else weight * self.share
        total = np.bincount(self.link.ravel(), weight.ravel(), self.capacity_bytes_per_s.size + 1)
        return total[:-1].astype(np.float64)

    def busiest(self, size_bytes: Floats) -> LinkTime:
        """Return the link whose bytes take longest at line rate; all flows together take at least that."""
        time_s = self.bytes_on_links(size_bytes) / self.capacity_bytes_per_s
        worst = int(time_s.argmax()) if time_s.size else 0
        for kind in self.kinds:
            if kind.first <= worst < kind.first + kind.capacity_bytes_per_s.size:
                return LinkTime(float(time_s[worst]), kind.plane, kind.link_name(worst - kind.first))
        return LinkTime(0.0, 0, "none")


def flow_links(network: Network, source: NDArray[np.int32], target: NDArray[np.int32]) -> FlowLinks:
    """Return the links that flows take; a flow from a rank to itself takes none.

    The links are those that `simulator.cost.links.link_loads` counts bytes on.

    Parameters
    ----------
    source, target
        ``[flows]`` ranks.
    """
    tier_of = network.meeting_tier(source, target)
    found = _Incidence(source.size)
    for index, plane in enumerate(network.planes):
        levels = [level for level, tier in enumerate(network.tiers) if tier.plane == index]
        flows = np.flatnonzero(np.isin(tier_of, levels))
        if not flows.size:
            continue
        if plane.routes is not None:
            flow, link, part = path_links(plane.routes, source[flows], network.relay(source[flows], target[flows]))
            kind = Kind(index, "link", found.links, plane.routes.bytes_per_s, routes=plane.routes)
            found.add(kind, flows[flow], link, part)
            continue
        _add_ports(found, index, plane, flows, source[flows], target[flows])
        for level in levels:
            tier = network.tiers[level]
            above = flows[tier_of[flows] > level]
            if above.size and np.isfinite(tier.uplink_bytes_per_s).any():
                _add_uplinks(found, tier, above, source[above], target[above])
            here = flows[tier_of[flows] == level]
            if here.size and np.isfinite(tier.pair_bytes_per_s):
                _add_direct(found, tier, here, source[here].astype(np.int64) * network.ranks + target[here])
    return found.packed()


class _Incidence:
    """Collects flows and the links that they take, kind by kind; `packed` turns them into columns."""

    def __init__(self, flows: int) -> None:
        self.places = np.zeros(flows, dtype=np.int64)
        self.kinds: list[Kind] = []
        self.rows: list[tuple[Ints, Ints, Ints, Floats | None]] = []
        self.links = 0

    def add(self, kind: Kind, flow: Ints, index: Ints, part: Floats | None = None) -> None:
        """Add links of a new kind: flows (repeated in a row where they take several) and links of the kind."""
        self.kinds.append(kind)
        self.links += kind.capacity_bytes_per_s.size
        starts = np.flatnonzero(np.diff(flow, prepend=-1))
        count = np.diff(starts, append=flow.size)
        within = np.arange(flow.size) - np.repeat(starts, count)
        self.rows.append((flow, self.places[flow] + within, index + kind.first, part))
        self.places[flow[starts]] += count

    def packed(self) -> FlowLinks:
        shape = int(self.places.max(initial=1)), self.places.size
        link = np.full(shape, self.links, dtype=np.int64)
        split = any(part is not None for *_, part in self.rows)
        share = np.ones(shape) if split else None
        for flow, place, number, part in self.rows:
            link[place, flow] = number
            if share is not None and part is not None:
                share[place, flow] = part
        capacity = np.concatenate([np.zeros(0), *(kind.capacity_bytes_per_s for kind in self.kinds)])
        return FlowLinks(link, share, capacity, tuple(self.kinds))


def _add_ports(
    found: _Incidence, index: int, plane: Plane, flows: Ints, source: NDArray[np.int32], target: NDArray[np.int32]
) -> None:
    for ends, side in ((source, "out"), (target, "in")):
        kind = Kind(index, f"{plane.name} port {side} of rank", found.links, plane.port_bytes_per_s)
        found.add(kind, flows, ends.astype(np.int64))


def _add_uplinks(
    found: _Incidence, tier: Tier, flows: Ints, source: NDArray[np.int32], target: NDArray[np.int32]
) -> None:
    for ends, side in ((source, "up"), (target, "down")):
        kind = Kind(tier.plane, f"{tier.name} {side} link", found.links, tier.uplink_bytes_per_s)
        found.add(kind, flows, tier.domain[ends].astype(np.int64))


def _add_direct(found: _Incidence, tier: Tier, flows: Ints, pair: Ints) -> None:
    pairs, own = np.unique(pair, return_inverse=True)
    rate = np.full(pairs.size, tier.pair_bytes_per_s)
    kind = Kind(tier.plane, f"{tier.name} direct link", found.links, rate, pairs, int(tier.domain.size))
    found.add(kind, flows, own)
