"""From a cluster's graph to the typed arrays that the cost models read.

Planes that are full meshes of ranks or forests, in which every NIC and switch hangs on at most one switch above it,
become ports, tiers and uplinks. Any other plane keeps its links and is routed over. Everything is read off vertices and
edges, so a graph made or edited by hand reduces just as well.
"""

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError
from topologies.graph_tables import Edges, Floats, Ints, Vertices, read_edges, read_planes, read_vertices
from topologies.network import CROSS_RAIL, Network, Plane, Tier
from topologies.pieces import one_of_each, pieces
from topologies.routes import Policy, Routes, build_routes, distances, path_latency_s

REACH = 2**24  # links x ranks up to which the diameter is exact


def reduce_graph(graph: "nx.DiGraph[Any]", policy: Policy = "ecmp") -> Network:
    """Reduce a cluster graph to ranks, planes and tiers.

    Tiers stop at the first that joins all ranks. Where no tier does, because rails never meet (multi-plane), a last
    tier ``cross-rail`` is added: its traffic takes the outer plane to the right node and is forwarded there.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it. Arrays of the result are read-only.
    policy
        How planes with several ways between ranks are routed over, see `topologies.routes`.

    Raises
    ------
    TopologyError
        If attributes are missing, capacities are not positive and finite, edges lack their reverse, or ranks
        cannot reach each other.
    """
    vertices, node, rail = read_vertices(graph)
    edges = read_edges(graph, vertices)
    planes: list[Plane] = []
    tiers: list[Tier] = []
    for index, (name, fabric, idle_port) in enumerate(read_planes(graph)):
        port, found, routes = _reduce_plane(vertices, edges.take(edges.plane == index), index, policy)
        planes.append(Plane(name, fabric, np.where(np.isfinite(port), port, idle_port), routes))
        for tier in found:
            tiers.append(tier)
            if tier.uplink_bytes_per_s.size == 1:
                return _freeze(Network(vertices.ranks, node, rail, tuple(planes), tuple(tiers)))
    tiers.append(_cross_rail(tiers, vertices.ranks))
    return _freeze(Network(vertices.ranks, node, rail, tuple(planes), tuple(tiers)))


def _reduce_plane(
    vertices: Vertices, edges: Edges, plane: int, policy: Policy
) -> tuple[Floats, list[Tier], Routes | None]:
    """Return `[ranks]` port capacity (infinite where a rank has no link), the plane's tiers inside out, and routes.

    Meshes and forests need no routes, for there is one way only.
    """
    level = _levels(vertices, edges)
    flat = level[edges.source] == level[edges.target]
    simple = _reduce_mesh(vertices, edges, plane) if not edges.source.size or level.max(initial=0) == 0 else None
    if simple is None and not flat.any():
        simple = _reduce_forest(vertices, edges, level, plane)
    return (*simple, None) if simple else _reduce_routed(vertices, edges, level, plane, policy)


def _levels(vertices: Vertices, edges: Edges) -> Ints:
    """Return each vertex's distance [links] from the nearest rank, -1 where the plane does not reach it."""
    level = np.full(len(vertices.names), -1, dtype=np.int64)
    level[: vertices.ranks] = 0
    for depth in range(len(vertices.names)):
        fresh = edges.target[(level[edges.source] == depth) & (level[edges.target] < 0)]
        if not fresh.size:
            break
        level[fresh] = depth + 1
    return level


def _reduce_mesh(vertices: Vertices, edges: Edges, plane: int) -> tuple[Floats, list[Tier]] | None:
    """Return port and tier of full meshes with equal links, or None if they are something else."""
    ranks = vertices.ranks
    first = np.arange(ranks)  # the lowest rank of each clique names it
    np.minimum.at(first, edges.source, edges.target)
    domain, size = _number(first)
    peers = np.bincount(edges.source, minlength=ranks)
    outside = domain[edges.source] != domain[edges.target]
    if outside.any() or (peers != size[domain] - 1).any() or (edges.source.size and np.ptp(edges.bytes_per_s)):
        return None
    port = np.bincount(edges.source, edges.bytes_per_s, ranks)
    pair = float(edges.bytes_per_s[0]) if edges.source.size else np.inf
    latency = float(edges.latency_s.max(initial=0.0))
    tier = Tier("node", plane, domain, latency, np.full(size.size, np.inf), pair, hops=1)
    return np.where(peers > 0, port, np.inf), [tier]


def _reduce_forest(vertices: Vertices, edges: Edges, level: Ints, plane: int) -> tuple[Floats, list[Tier]] | None:
    """Return port and tiers of a forest in which all ranks have the same tiers above them, or None.

    Ranks without a link in the plane are domains of their own.
    """
    up = edges.take(level[edges.target] == level[edges.source] + 1)
    down = edges.take(level[edges.target] == level[edges.source] - 1)
    parents = np.bincount(up.source, minlength=level.size)
    if (parents > 1).any():
        return None
    parent = np.arange(level.size)
    parent[up.source] = up.target
    rate, back = np.full(level.size, np.inf), np.full(level.size, np.inf)
    climb, descend = np.zeros(level.size), np.zeros(level.size)
    rate[up.source], climb[up.source] = up.bytes_per_s, up.latency_s
    back[down.target], descend[down.target] = down.bytes_per_s, down.latency_s
    if (rate != back).any():
        return None
    at = np.arange(vertices.ranks)
    inside = parents[: at.size] > 0
    port, to_top, from_top = np.full(at.size, np.inf), np.zeros(at.size), np.zeros(at.size)
    tiers: list[Tier] = []
    height = 0
    while (parents[at] > 0).any():
        if not tiers:
            port = np.minimum(port, rate[at])
        height += 1
        to_top, from_top, at = to_top + climb[at], from_top + descend[at], parent[at]
        names = {vertices.tier[i] for i in np.unique(at[inside])}
        if len(names) > 1:
            return None
        shared = np.unique(at).size < at.size
        if shared or not vertices.is_nic[at[inside][0]]:
            domain, _ = _number(at)
            uplink = rate[np.unique(at)]
            latency = float(to_top.max() + from_top.max())
            tiers.append(Tier(names.pop(), plane, domain, latency, uplink, hops=2 * height))
    return port, tiers


def _reduce_routed(
    vertices: Vertices, edges: Edges, level: Ints, plane: int, policy: Policy
) -> tuple[Floats, list[Tier], Routes]:
    """Return ports, the one tier at which ranks of such a plane meet, and its routes."""
    ranks = vertices.ranks
    here = np.flatnonzero((level >= 0) & (np.arange(level.size) >= ranks))
    position = np.full(level.size, -1, dtype=np.int64)
    position[:ranks], position[here] = np.arange(ranks), np.arange(ranks, ranks + here.size)
    names = tuple(str(vertices.names[i]) for i in [*range(ranks), *here.tolist()])
    source, target = position[edges.source], position[edges.target]
    routes = build_routes(names, source, target, edges.bytes_per_s, edges.latency_s, policy)
    label = pieces(routes)
    domain, size = _number(label[:ranks])
    hops, latency = _reach(*one_of_each(routes, ranks, label))
    top = vertices.tier[here[level[here].argmax()]] if here.size else "node"
    linked = np.bincount(edges.source, minlength=ranks)[:ranks] > 0
    port = np.where(linked, np.bincount(source, edges.bytes_per_s, ranks)[:ranks], np.inf)
    return port, [Tier(top, plane, domain, latency, np.full(size.size, np.inf), hops=hops)], routes


def _reach(routes: Routes, ranks: int) -> tuple[int, float]:
    """Return the hops and the latency [s] between the ranks farthest apart.

    Exact while links x ranks stay below a limit; else the farthest from some ranks, spread evenly, which is the same
    on graphs that look alike from every rank.
    """
    few = max(1, min(ranks, REACH // max(routes.source.size, 1)))
    ends = np.unique(np.linspace(0, ranks - 1, few).astype(np.int64))
    hops = distances(routes, ends)[:ranks]
    at = hops.argmax(axis=0)
    return int(hops.max()), float(path_latency_s(routes, at, ends).max())


def _number(label: Ints) -> tuple[NDArray[np.int32], Ints]:
    """Return distinct labels numbered from 0, and the count of each."""
    _, inverse, count = np.unique(label, return_inverse=True, return_counts=True)
    return inverse.astype(np.int32), count.astype(np.int64)


def _cross_rail(tiers: Sequence[Tier], ranks: int) -> Tier:
    label, before = np.arange(ranks, dtype=np.int64), None
    while before is None or (label != before).any():  # each round, the least label crosses every tier once
        before = label
        for tier in tiers:
            least = np.full(tier.uplink_bytes_per_s.size, ranks)
            np.minimum.at(least, tier.domain, label)
            label = least[tier.domain]
    if label.any():
        apart = int(np.flatnonzero(label)[0])
        raise TopologyError(f"graph: rank {apart} cannot reach rank 0; add the missing links, or ask for fewer chips")
    latency = tiers[-1].latency_s + tiers[0].latency_s
    hops = tiers[-1].hops + tiers[0].hops
    return Tier(CROSS_RAIL, tiers[-1].plane, np.zeros(ranks, dtype=np.int32), latency, np.array([np.inf]), hops=hops)


def _freeze(network: Network) -> Network:
    for plane in network.planes:
        plane.port_bytes_per_s.flags.writeable = False
    for tier in network.tiers:
        tier.domain.flags.writeable = tier.uplink_bytes_per_s.flags.writeable = False
    network.node.flags.writeable = network.rail.flags.writeable = False
    return network
