"""What a reader asks of a network: tiers at a glance, bisection, diameter, part counts."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from topologies.network import CROSS_RAIL, Network, Tier
from topologies.reduction import reduce_graph
from topologies.routes import Routes

Floats = NDArray[np.float64]
Grid = tuple[int, Sequence[int]]


@dataclass(frozen=True, slots=True)
class TierRow:
    """One tier at a glance.

    Parameters
    ----------
    tier, plane
        Names of the tier and of its plane.
    domains, ranks_per_domain
        How many domains there are, and the ranks of the largest.
    port_bytes_per_s
        Largest port of a rank into the plane [bytes/s], one direction.
    pair_bytes_per_s
        What one pair of ranks can reach [bytes/s]: its direct link in a full mesh, else the port.
    uplink_bytes_per_s
        Least capacity from a domain to the next tier [bytes/s]; None at the plane's top.
    oversubscription
        Worst ratio of a domain's ports to its uplink; None at the plane's top.
    latency_s
        One-way time of a small message between two ranks that meet here [s].
    hops
        Links on the route between two ranks that meet here.
    """

    tier: str
    plane: str
    domains: int
    ranks_per_domain: int
    port_bytes_per_s: float
    pair_bytes_per_s: float
    uplink_bytes_per_s: float | None
    oversubscription: float | None
    latency_s: float
    hops: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Vertices and cables of a graph; equal-cost switches and parallel cables count as one."""

    ranks: int
    nodes: int
    nics: int
    switches: dict[str, int]
    links: int


def describe(source: "Network | nx.DiGraph[Any]") -> list[TierRow]:
    """Return one row per tier, inside out.

    Parameters
    ----------
    source
        A network, or a graph that is then reduced.
    """
    network = source if isinstance(source, Network) else reduce_graph(source)
    return [_row(network, tier) for tier in network.tiers]


def _row(network: Network, tier: Tier) -> TierRow:
    plane = network.planes[tier.plane]
    sizes = np.bincount(tier.domain)
    loose = (sizes == 1) & ~np.isfinite(tier.uplink_bytes_per_s)  # ranks that the plane does not reach
    entering = np.bincount(tier.domain, plane.port_bytes_per_s)
    top = not np.isfinite(tier.uplink_bytes_per_s).any()
    port = float(plane.port_bytes_per_s.max())
    return TierRow(
        tier=tier.name,
        plane=plane.name,
        domains=sizes.size - int(loose.sum()) * (int(sizes.max()) > 1),
        ranks_per_domain=int(sizes.max()),
        port_bytes_per_s=port,
        pair_bytes_per_s=min(port, tier.pair_bytes_per_s),
        uplink_bytes_per_s=None if top else float(tier.uplink_bytes_per_s.min()),
        oversubscription=None if top else float((entering / tier.uplink_bytes_per_s).max()),
        latency_s=tier.latency_s,
        hops=tier.hops,
    )


def bisection_bytes_per_s(network: Network, grids: Sequence[Grid] = ()) -> float:
    """Return the least capacity between two halves of the ranks [bytes/s], one direction.

    Halves are cut along domains: for each tier, for nodes and for single ranks, the domains in order fill one half
    until the next would overfill it (so of an odd number, one more is in the other half); and across every dimension of
    the grids. The capacity between two halves is the minimum cut through all planes, and the answer is the least over
    these halves. One rank has none: 0.

    Parameters
    ----------
    network
        The reduced cluster.
    grids
        Its grids, as `grids` returns them.
    """
    return min((_cut(network, inside) for inside in _halves(network, grids)), default=0.0)


def grids(graph: "nx.DiGraph[Any]") -> list[Grid]:
    """Return the grids that a graph's planes are said to be: ranks per point, and points along each dimension."""
    return [plane["grid"] for plane in graph.graph["planes"] if "grid" in plane]


def _halves(network: Network, grids: Sequence[Grid]) -> Iterator[NDArray[np.bool_]]:
    ranks = np.arange(network.ranks)
    domains: list[NDArray[np.integer]] = [ranks, network.node, *(tier.domain for tier in network.tiers)]
    for domain in domains:
        filled = np.cumsum(np.bincount(domain))
        inside = (filled <= network.ranks / 2)[domain]
        if inside.any():
            yield inside
    for per_point, dims in grids:
        for index, size in enumerate(dims):
            inside = ranks // (per_point * math.prod(dims[:index])) % size < size // 2
            if inside.any() and not inside.all():
                yield inside


def _cut(network: Network, inside: NDArray[np.bool_]) -> float:
    """Return the minimum cut from ranks `inside` to the others: planes meet only at ranks, so their cuts add up."""
    total = 0.0
    for index, plane in enumerate(network.planes):
        if plane.routes is not None:
            total += _routed_cut(plane.routes, inside)
        else:
            tiers = [tier for tier in network.tiers if tier.plane == index]
            total += _plane_cut(plane.port_bytes_per_s, tiers, inside)
    return total


def _routed_cut(routes: Routes, inside: NDArray[np.bool_]) -> float:
    """Minimum cut of a plane of any shape, by maximum flow between all ranks of one half and all of the other."""
    switches = len(routes.names) - inside.size
    label = np.concatenate([np.where(inside, 0, 1), np.arange(2, 2 + switches)])
    source, target = label[routes.source], label[routes.target]
    straight = float(routes.bytes_per_s[(source == 0) & (target == 1)].sum())
    if not switches:
        return straight
    over = (source != target) & ~((source < 2) & (target < 2))
    most = float(routes.bytes_per_s[over & (source == 0)].sum())
    if not most:
        return straight
    unit = most / 2**30  # flows are 32-bit integers there
    table = coo_array((routes.bytes_per_s[over] / unit, (source[over], target[over])), shape=(label.max() + 1,) * 2)
    capacity = table.tocsr()
    capacity.data = np.minimum(np.rint(capacity.data), 2**31 - 1).astype(np.int32)
    return straight + float(maximum_flow(capacity, 0, 1).flow_value) * unit


def _plane_cut(port_bytes_per_s: Floats, tiers: list[Tier], inside: NDArray[np.bool_]) -> float:
    """Minimum cut of one plane, exact on its forest: each vertex costs what the cheaper side costs its children."""
    if np.isfinite(tiers[0].pair_bytes_per_s):
        domain = tiers[0].domain
        return tiers[0].pair_bytes_per_s * float(np.bincount(domain, inside) @ np.bincount(domain, ~inside))
    near, far = (
        np.where(inside, 0.0, np.inf),
        np.where(inside, np.inf, 0.0),
    )  # cost with the source's side, with the sink's
    capacity = port_bytes_per_s
    child: NDArray[np.integer] = np.arange(inside.size)
    for tier in (tier for tier in tiers if tier.name != CROSS_RAIL):  # forwarding adds no capacity
        parent = np.empty(capacity.size, dtype=np.int64)
        parent[child] = tier.domain
        near, far = (
            np.bincount(parent, np.minimum(near, far + capacity)),
            np.bincount(parent, np.minimum(far, near + capacity)),
        )
        capacity, child = tier.uplink_bytes_per_s, tier.domain
    return float(np.minimum(near, far).sum())


def diameter_hops(source: "Network | nx.DiGraph[Any]") -> int:
    """Return the links on the route between the two ranks farthest apart, forwarding counted only where it is needed.

    Parameters
    ----------
    source
        A network, or a graph that is then reduced.
    """
    network = source if isinstance(source, Network) else reduce_graph(source)
    return max(tier.hops for tier in network.tiers) if network.ranks > 1 else 0


def count_parts(graph: "nx.DiGraph[Any]") -> Parts:
    """Count a graph's ranks, nodes, NICs, switches by tier, and (full-duplex) links.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    """
    found = [d for _, d in graph.nodes(data=True)]
    kinds = Counter(d["kind"] for d in found)
    nodes = len({d["node"] for d in found if d["kind"] == "rank"})
    switches = Counter(d["tier"] for d in found if d["kind"] == "switch")
    return Parts(kinds["rank"], nodes, kinds["nic"], dict(switches), graph.number_of_edges() // 2)
