"""Faults on a graph: capacity that is lost, ranks that leave, and what is done about both."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import networkx as nx

from topologies.errors import TopologyError
from topologies.faults.detours import nic_planes, outer_parts, reattach
from topologies.faults.text import PLACE, Fault, lost_nodes
from topologies.graph_tables import refuse
from topologies.subgraph import drop_loose, without_ranks

Graph = Any  # a networkx graph is no type at run time


class Damage(NamedTuple):
    """The graph that is left, and what became of the traffic, a line each."""

    graph: "nx.DiGraph[Any]"
    notes: tuple[str, ...]


def damage(graph: "nx.DiGraph[Any]", faults: Sequence[Fault]) -> Damage:
    """Return what faults leave of a graph, which is changed.

    Ranks of a lost node leave, and the others are numbered anew. A rank whose NIC no longer reaches what others
    reach sends through the NIC of a rank in its node, the one with fewest others on it: over the scale-up
    links to that rank, which is a hop more, and not counted as load of those links.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    faults
        As `topologies.faults.text.read_faults` reads them.

    Raises
    ------
    TopologyError
        If a fault names a part that is not there, or ranks are cut off: one line per fault or group of ranks.
    """
    before = {plane: outer_parts(graph, plane) for plane in nic_planes(graph)}
    refuse([line for fault in faults for line in _strike(graph, fault, before)])
    notes = reattach(graph, before)
    lost = lost_nodes(faults)
    graph = without_ranks(graph, {v for v, d in graph.nodes(data=True) if d.get("node") in lost} if lost else set())
    drop_loose(graph)
    _check_connected(graph, faults)
    return Damage(graph, tuple(notes))


def _strike(graph: Graph, fault: Fault, parts: dict[int, list[set[Any]]]) -> list[str]:
    """Take capacity from what one fault names; return what is wrong with it."""
    if fault.kind == "node":
        return []
    if fault.kind == "plane":
        return _strike_plane(graph, fault, parts)
    vertices = [_vertex(name) for name in fault.names]
    if unknown := [name for name, vertex in zip(fault.names, vertices, strict=True) if vertex not in graph]:
        return [_unknown(graph, fault, name) for name in unknown]
    if fault.kind == "link":
        low, high = vertices
        if not graph.has_edge(low, high):
            others = ", ".join(_name(v) for v in list(graph.successors(low))[:4])
            return [f"{PLACE}: {fault.text!r}: no such link; {fault.names[0]} is linked to {others}"]
        _scale(graph, [(low, high)], fault.left)
    elif fault.kind == "uplinks":
        ups = _uplinks(graph, vertices[0])
        if not ups:
            return [f"{PLACE}: {fault.text!r}: {fault.names[0]} has no uplinks in the part that is used"]
        _scale(graph, [(vertices[0], up) for up in ups], fault.left)
    else:
        _scale(graph, [(vertices[0], other) for other in list(graph.successors(vertices[0]))], fault.left)
    return []


def _strike_plane(graph: Graph, fault: Fault, parts: dict[int, list[set[Any]]]) -> list[str]:
    planes = [part for found in parts.values() if len(found) > 1 for part in found]
    if fault.number >= len(planes):
        there = f"planes 0 to {len(planes) - 1} are" if planes else "this cluster has no separate planes in use"
        return [f"{PLACE}: {fault.text!r}: not there; {there}"]
    graph.remove_nodes_from(planes[fault.number])
    return []


def _vertex(name: str) -> Any:
    what, number = name.rsplit(" ", 1)
    return int(number) if what == "rank" else f"{'node' if what == 'node switch' else what} {int(number)}"


def _name(vertex: Any) -> str:
    return f"rank {vertex}" if isinstance(vertex, int) else str(vertex)


def _unknown(graph: Graph, fault: Fault, name: str) -> str:
    what = name.rsplit(" ", 1)[0].replace("node switch", "node")
    tiers: dict[str, list[int]] = {}
    for vertex in graph:
        tier, _, number = _name(vertex).rpartition(" ")
        if number.isdecimal():
            tiers.setdefault(tier, []).append(int(number))
    if what in tiers:
        there = f"{what} {min(tiers[what])} to {max(tiers[what])} are in use"
    else:
        near = difflib.get_close_matches(what, tiers, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        there = f"parts in use are called {', '.join(sorted(tiers))}{hint}"
    return f"{PLACE}: {fault.text!r}: '{name}' is not there; {there}"


def _scale(graph: Graph, pairs: Iterable[tuple[Any, Any]], left: float) -> None:
    """Leave a share of the capacity of links, both ways; a link without any is gone."""
    for low, high in pairs:
        for ends in ((low, high), (high, low)):
            if left == 0:
                graph.remove_edge(*ends)
            else:
                graph.edges[ends]["bytes_per_s"] *= left


def _uplinks(graph: Graph, vertex: Any) -> list[Any]:
    """Return the switches linked to a vertex that are at least as many links away from ranks."""
    plane = graph.nodes[vertex].get("plane")
    switches = [
        v for v in graph.successors(vertex) if graph.nodes[v]["kind"] == "switch" and graph.nodes[v]["plane"] == plane
    ]
    ranks = [v for v, kind in graph.nodes(data="kind") if kind == "rank"]
    inside = graph.edge_subgraph([(u, v) for u, v, p in graph.edges(data="plane") if p == plane])
    level = nx.multi_source_dijkstra_path_length(inside, {v for v in ranks if v in inside}, weight=lambda *_: 1)
    return [v for v in switches if level.get(v, 0) >= level.get(vertex, 0)]


def _check_connected(graph: Graph, faults: Sequence[Fault]) -> None:
    parts = [[v for v in part if graph.nodes[v]["kind"] == "rank"] for part in nx.weakly_connected_components(graph)]
    main = max(parts, key=len)
    cut = [graph.nodes[v] for part in parts if part is not main for v in part]
    if not cut:
        return
    after = ", ".join(fault.text for fault in faults[:3]) + (", ..." if len(faults) > 3 else "")
    ranks, nodes = sorted(d["rank"] for d in cut), sorted({d["node"] for d in cut})
    leave = f"let the job leave {_listed(nodes, 'node')}, or keep a path"
    verb = "is" if len(ranks) == 1 else "are"
    raise TopologyError(f"{PLACE}: {after}: {_listed(ranks, 'rank')} {verb} cut off from the other ranks; {leave}")


def _listed(numbers: Sequence[int], what: str) -> str:
    shown = ", ".join(map(str, numbers[:6])) + (f", ... ({len(numbers)})" if len(numbers) > 6 else "")
    return f"{what}{'s' * (len(numbers) > 1)} {shown}"
