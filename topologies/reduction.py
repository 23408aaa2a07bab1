"""From a cluster's graph to the typed arrays that the cost models read.

Each plane of the graph is either a full mesh of ranks or a forest: every NIC and switch hangs on at most one switch
above it. Everything is read off vertices and edges, so a graph made or edited by hand reduces just as well.
"""

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError
from topologies.graph_tables import Edges, Floats, Ints, Vertices, read_edges, read_planes, read_vertices, refuse
from topologies.network import CROSS_RAIL, Network, Plane, Tier


def reduce_graph(graph: "nx.DiGraph[Any]") -> Network:
    """Reduce a cluster graph to ranks, planes and tiers.

    Tiers stop at the first that joins all ranks. Where no tier does, because rails never meet (multi-plane), a last
    tier ``cross-rail`` is added: its traffic takes the outer plane to the right node and is forwarded there.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it. Arrays of the result are read-only.

    Raises
    ------
    TopologyError
        If attributes are missing, capacities are not positive and finite, edges lack their reverse, a vertex hangs on
        two switches, or ranks cannot reach each other.
    """
    vertices, node, rail = read_vertices(graph)
    edges = read_edges(graph, vertices)
    planes: list[Plane] = []
    tiers: list[Tier] = []
    for index, (name, fabric, idle_port) in enumerate(read_planes(graph)):
        port, found = _reduce_plane(vertices, edges.take(edges.plane == index), index)
        planes.append(Plane(name, fabric, np.where(np.isfinite(port), port, idle_port)))
        for tier in found:
            tiers.append(tier)
            if tier.uplink_bytes_per_s.size == 1:
                return _freeze(Network(vertices.ranks, node, rail, tuple(planes), tuple(tiers)))
    tiers.append(_cross_rail(tiers, vertices.ranks))
    return _freeze(Network(vertices.ranks, node, rail, tuple(planes), tuple(tiers)))


def _reduce_plane(vertices: Vertices, edges: Edges, plane: int) -> tuple[Floats, list[Tier]]:
    """Return `[ranks]` port capacity (infinite where a rank has no link) and the plane's tiers, inside out."""
    level = _levels(vertices, edges)
    flat = level[edges.source] == level[edges.target]
    mesh = flat & (level[edges.source] == 0)
    if mesh.any() and not mesh.all():
        raise TopologyError(f"plane {plane}: ranks are linked directly and to switches; use one plane for each")
    if not edges.source.size or mesh.any():
        return _reduce_mesh(vertices, edges, plane)
    ends = [(vertices.names[edges.source[i]], vertices.names[edges.target[i]]) for i in np.flatnonzero(flat)]
    refuse([f"edge {u!r} -> {v!r}: both ends are as far from their ranks; make all ranks alike" for u, v in ends])
    return _reduce_forest(vertices, edges, level, plane)


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


def _reduce_mesh(vertices: Vertices, edges: Edges, plane: int) -> tuple[Floats, list[Tier]]:
    ranks = vertices.ranks
    first = np.arange(ranks)  # the lowest rank of each clique names it
    np.minimum.at(first, edges.source, edges.target)
    domain, size = _number(first)
    peers = np.bincount(edges.source, minlength=ranks)
    outside = domain[edges.source] != domain[edges.target]
    if outside.any() or (peers != size[domain] - 1).any():
        raise TopologyError(f"plane {plane}: not every pair in a mesh is linked; complete it, or use a switch")
    if edges.source.size and np.ptp(edges.bytes_per_s):
        raise TopologyError(f"plane {plane}: links of a full mesh differ in bytes_per_s; make them equal")
    port = np.bincount(edges.source, edges.bytes_per_s, ranks)
    pair = float(edges.bytes_per_s[0]) if edges.source.size else np.inf
    latency = float(edges.latency_s.max(initial=0.0))
    tier = Tier("node", plane, domain, latency, np.full(size.size, np.inf), pair, hops=1)
    return np.where(peers > 0, port, np.inf), [tier]


def _reduce_forest(vertices: Vertices, edges: Edges, level: Ints, plane: int) -> tuple[Floats, list[Tier]]:
    up = edges.take(level[edges.target] == level[edges.source] + 1)
    down = edges.take(level[edges.target] == level[edges.source] - 1)
    parents = np.bincount(up.source, minlength=level.size)
    many = [(vertices.names[i], parents[i]) for i in np.flatnonzero(parents > 1)]
    refuse([f"vertex {v!r}: hangs on {count} switches; merge equal-cost switches into one" for v, count in many])
    parent = np.arange(level.size)
    parent[up.source] = up.target
    rate, climb, descend = np.full(level.size, np.inf), np.zeros(level.size), np.zeros(level.size)
    rate[up.source], climb[up.source], descend[down.target] = up.bytes_per_s, up.latency_s, down.latency_s
    at = np.arange(vertices.ranks)
    port, to_top, from_top = np.full(at.size, np.inf), np.zeros(at.size), np.zeros(at.size)
    tiers: list[Tier] = []
    height = 0
    while (parents[at] > 0).any():
        if not tiers:
            port = np.minimum(port, rate[at])
        height += 1
        to_top, from_top, at = to_top + climb[at], from_top + descend[at], parent[at]
        names = {vertices.tier[i] for i in np.unique(at)}
        if len(names) > 1:
            found = " and ".join(sorted(names))
            raise TopologyError(f"plane {plane}: as many links up, ranks are at {found}; make all ranks alike")
        if not vertices.is_nic[at[0]]:
            domain, _ = _number(at)
            uplink = rate[np.unique(at)]
            latency = float(to_top.max() + from_top.max())
            tiers.append(Tier(names.pop(), plane, domain, latency, uplink, hops=2 * height))
    return port, tiers


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
