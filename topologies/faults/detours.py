"""Ranks without a working NIC send through that of a neighbour."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import networkx as nx

Graph = Any  # a networkx graph is no type at run time


def nic_planes(graph: Graph) -> list[int]:
    """Return the planes that ranks enter through NICs."""
    return sorted({d["plane"] for _, d in graph.nodes(data=True) if d["kind"] == "nic"})


def outer_parts(graph: Graph, plane: int) -> list[set[Any]]:
    """Return the connected parts of a plane's NICs and switches, by their lowest NIC; one, unless rails never meet."""
    inside = [v for v, d in graph.nodes(data=True) if d.get("plane") == plane]
    parts = [set(part) for part in nx.weakly_connected_components(graph.subgraph(inside))]
    order = {v: place for place, v in enumerate(inside)}
    return sorted(parts, key=lambda part: min(order[v] for v in part))


def reattach(graph: Graph, before: dict[int, list[set[Any]]]) -> list[str]:
    """Hang ranks without a working NIC on that of a neighbour, remove NICs that don't work, and say so.

    A NIC works if it is in a piece of its network that reaches as many nodes as any piece of it does, and over half as
    many as any piece of its plane does: a rail that misses a node is still a rail, a leaf without its spine is none.
    """
    notes = []
    for plane, parts in before.items():
        pieces = [[(set(found), _nodes(graph, found)) for found in _connected(graph, part)] for part in parts]
        most = max((nodes for found in pieces for _, nodes in found), default=0)
        working: set[Any] = set()
        for found in pieces:
            widest = max((nodes for _, nodes in found), default=0)
            working.update(*(piece for piece, nodes in found if nodes == widest and 2 * nodes > most))
        left = [piece for found in pieces for piece, _ in found]
        graph.remove_nodes_from([v for part in left for v in part if v not in working])
        entered = {
            u: v
            for u, v, p in graph.edges(data="plane")
            if p == plane and v in working and graph.nodes[u]["kind"] == "rank"
        }
        notes += _reattach_plane(graph, plane, entered)
    return notes


def _connected(graph: Graph, part: set[Any]) -> Iterable[set[Any]]:
    return nx.weakly_connected_components(graph.subgraph([v for v in part if v in graph]))


def _nodes(graph: Graph, part: set[Any]) -> int:
    """Return how many nodes have ranks on NICs of a part."""
    ranks = {u for v in part for u in graph.predecessors(v) if graph.nodes[u]["kind"] == "rank"}
    return len({graph.nodes[u]["node"] for u in ranks})


def _reattach_plane(graph: Graph, plane: int, nic_of: dict[Any, Any]) -> list[str]:
    notes = []
    sharers = Counter(nic_of.values())
    ranks = [(v, d["node"]) for v, d in graph.nodes(data=True) if d["kind"] == "rank"]
    stranded = [(v, node) for v, node in ranks if v not in nic_of]
    hit = {node for _, node in stranded}
    mates: dict[int, list[Any]] = {}
    for vertex, node in ranks:
        if node in hit and vertex in nic_of:
            mates.setdefault(node, []).append(vertex)
    for rank, node in stranded:
        ways = [(mate, way) for mate in mates.get(node, []) if (way := _way(graph, rank, mate, plane))]
        if not ways:
            continue
        at = graph.nodes[rank]["rank"]
        mate, (rate, latency) = min(
            ways, key=lambda item: (sharers[nic_of[item[0]]], abs(graph.nodes[item[0]]["rank"] - at))
        )
        nic = nic_of[mate]
        sharers[nic] += 1
        onward = graph.edges[mate, nic]
        link = {
            "bytes_per_s": min(rate, onward["bytes_per_s"]),
            "latency_s": latency + onward["latency_s"],
            "plane": plane,
        }
        graph.add_edge(rank, nic, **link)
        graph.add_edge(nic, rank, **link)
        notes.append(f"rank {at} sends through {nic}, which rank {graph.nodes[mate]['rank']} uses too")
    return notes


def _way(graph: Graph, rank: Any, mate: Any, outside: int) -> tuple[float, float] | None:
    """Return capacity [bytes/s] and latency [s] from a rank to one of its node, directly or over one switch."""
    if graph.has_edge(rank, mate):
        edge = graph.edges[rank, mate]
        return edge["bytes_per_s"], edge["latency_s"]
    for _, switch, first in graph.out_edges(rank, data=True):
        if first["plane"] != outside and graph.has_edge(switch, mate):
            second = graph.edges[switch, mate]
            return min(first["bytes_per_s"], second["bytes_per_s"]), first["latency_s"] + second["latency_s"]
    return None
