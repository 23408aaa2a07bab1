"""Part of a cluster's graph: some ranks, and what they still need of the rest."""

from typing import Any

import networkx as nx

Graph = Any  # a networkx graph is no type at run time


def without_ranks(graph: Graph, gone: set[Any]) -> Graph:
    """Return the graph without some ranks, the others and their nodes numbered anew; the graph itself is used up.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    gone
        Vertices that leave.
    """
    if not gone:
        return graph
    ranks = [(d["rank"], v) for v, d in graph.nodes(data=True) if d["kind"] == "rank"]
    graph.remove_nodes_from(gone)
    kept = [v for _, v in sorted(ranks, key=lambda item: item[0]) if v not in gone]
    nodes = {node: index for index, node in enumerate(dict.fromkeys(graph.nodes[v]["node"] for v in kept))}
    for index, vertex in enumerate(kept):
        found = graph.nodes[vertex]
        found["rank"], found["node"] = index, nodes[found["node"]]
    return nx.relabel_nodes(graph, {v: graph.nodes[v]["rank"] for v in kept if isinstance(v, int)})


def drop_loose(graph: Graph) -> None:
    """Remove switches and NICs below which no rank is left, and dead ends."""
    for part in list(nx.weakly_connected_components(graph)):
        if all(graph.nodes[v]["kind"] != "rank" for v in part):
            graph.remove_nodes_from(part)
    loose: list[Any] = [v for v, d in graph.nodes(data=True) if d["kind"] != "rank" and graph.out_degree(v) < 2]
    while loose:  # a dead end carries nothing
        above = {u for v in loose for u in graph.successors(v)}
        graph.remove_nodes_from(loose)
        loose = [u for u in above if u in graph and graph.nodes[u]["kind"] != "rank" and graph.out_degree(u) < 2]
