"""A graph made by hand reduces to what it says, and a broken one is refused by name."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

from topologies.errors import TopologyError
from topologies.reduction import reduce_graph

Graph = Any  # networkx graphs are not subscriptable at run time


def link(graph: Graph, low: Any, high: Any, rate: float, latency: float, plane: int = 0) -> None:
    for source, target in ((low, high), (high, low)):
        graph.add_edge(source, target, bytes_per_s=rate, latency_s=latency, plane=plane)


def two_nodes() -> Graph:
    """Four ranks on two node switches below one top switch, unevenly cabled."""
    graph: Graph = nx.DiGraph(planes=[{"name": "Bus", "fabric": "bus", "port_bytes_per_s": 10.0}])
    for rank in reversed(range(4)):  # out of order on purpose
        graph.add_node(f"r{rank}", kind="rank", rank=rank, node=rank // 2, rail=rank % 2)
    for name, tier in (("a", "node"), ("b", "node"), ("top", "supernode")):
        graph.add_node(name, kind="switch", tier=tier, plane=0)
    for rank in range(4):
        link(graph, f"r{rank}", "ab"[rank // 2], 10.0 + rank, 1.0)
    link(graph, "a", "top", 15.0, 0.5)
    link(graph, "b", "top", 20.0, 2.0)
    return graph


def test_tiers_ports_and_latencies_are_read_off_the_edges() -> None:
    reduced = reduce_graph(two_nodes())
    near, far = reduced.tiers
    assert (near.name, far.name) == ("node", "supernode")
    np.testing.assert_array_equal(reduced.planes[0].port_bytes_per_s, [10, 11, 12, 13])
    np.testing.assert_array_equal(near.domain, [0, 0, 1, 1])
    np.testing.assert_array_equal(near.uplink_bytes_per_s, [15, 20])
    assert (near.latency_s, near.hops) == (2.0, 2)
    assert (far.latency_s, far.hops) == (6.0, 4)  # the slower branch, up and down
    np.testing.assert_array_equal(far.uplink_bytes_per_s, [np.inf])


def test_narrowest_link_below_the_first_switch_is_the_port() -> None:
    graph = two_nodes()
    graph.remove_edges_from([("r0", "a"), ("a", "r0")])
    graph.add_node("nic", kind="nic", tier="nic", plane=0)
    link(graph, "r0", "nic", 7.0, 0.0)
    link(graph, "nic", "a", 9.0, 0.0)
    assert reduce_graph(graph).planes[0].routes is not None  # uneven depth: no tiers to speak of, but routes
    for rank in (1, 2, 3):
        switch = "ab"[rank // 2]
        graph.remove_edges_from([(f"r{rank}", switch), (switch, f"r{rank}")])
        graph.add_node(f"nic{rank}", kind="nic", tier="nic", plane=0)
        link(graph, f"r{rank}", f"nic{rank}", 9.0, 0.0)
        link(graph, f"nic{rank}", switch, 9.0, 0.0)
    np.testing.assert_array_equal(reduce_graph(graph).planes[0].port_bytes_per_s, [7, 9, 9, 9])


def set_edge(**attributes: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.edges["r0", "a"].update(attributes)


def drop_rate(graph: Graph) -> None:
    del graph.edges["r0", "a"]["bytes_per_s"]


def cut(graph: Graph) -> None:
    graph.remove_nodes_from(["top"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_rate, "'r0' -> 'a': missing bytes_per_s"),
        (set_edge(bytes_per_s=0.0), "'r0' -> 'a': bytes_per_s must be positive and finite"),
        (set_edge(bytes_per_s=float("nan")), "'r0' -> 'a': bytes_per_s must be positive and finite"),
        (set_edge(bytes_per_s=float("inf")), "'r0' -> 'a': bytes_per_s must be positive and finite"),
        (set_edge(bytes_per_s=-1.0), "'r0' -> 'a': bytes_per_s must be positive and finite"),
        (set_edge(bytes_per_s="fast"), "is not a number"),
        (set_edge(bytes_per_s=99.0), "'r0' -> 'a': the reverse edge differs"),
        (set_edge(latency_s=-1.0), "'r0' -> 'a': latency_s must be finite"),
        (set_edge(plane=1), "'r0' -> 'a': plane must be a number from 0 to 0"),
        (set_edge(plane=float("nan")), "'r0' -> 'a': plane must be"),
        (lambda g: g.remove_edge("r0", "a"), "'a' -> 'r0': no way back"),
        (lambda g: link(g, "r1", "r1", 1.0, 1.0), "'r1' -> 'r1': a link to itself"),
        (lambda g: g.add_node("x", kind="switch", tier="node"), "'x': no link leaves it"),
        (lambda g: g.add_node("x", kind="router"), "'x': kind 'router'"),
        (lambda g: g.add_node("x", kind="rank"), "'x': a rank needs rank, node and rail"),
        (lambda g: g.nodes["r3"].update(rank=7), "not numbered 0 to 3"),
        (lambda g: g.graph.clear(), "graph.planes: 'planes'"),
        (lambda g: g.graph.update(planes=[]), "graph.planes: empty"),
        (lambda g: g.clear(), "no rank"),
        (cut, "rank 2 cannot reach rank 0"),
    ],
)
def test_broken_graphs_are_refused_by_name(spoil: Callable[[Graph], None], message: str) -> None:
    graph = two_nodes()
    spoil(graph)
    with pytest.raises(TopologyError, match=message):
        reduce_graph(graph)


def test_a_thousand_equal_faults_are_told_in_a_few_lines() -> None:
    graph = two_nodes()
    for _, _, attributes in graph.edges(data=True):
        attributes["latency_s"] = -1.0
    with pytest.raises(TopologyError, match="and 7 more") as caught:
        reduce_graph(graph)
    assert len(caught.value.problems) == 6


def second_parent(graph: Graph) -> None:
    graph.add_node("c", kind="switch", tier="node", plane=0)
    link(graph, "r0", "c", 10.0, 1.0)
    link(graph, "c", "top", 10.0, 1.0)


@pytest.mark.parametrize(
    "change",
    [second_parent, lambda g: link(g, "a", "b", 1.0, 1.0), lambda g: link(g, "r0", "r1", 1.0, 1.0)],
)
def test_a_plane_with_several_ways_keeps_its_links(change: Callable[[Graph], None]) -> None:
    graph = two_nodes()
    change(graph)
    reduced = reduce_graph(graph)
    routes = reduced.planes[0].routes
    assert routes is not None
    assert routes.names[:4] == ("r0", "r1", "r2", "r3")
    assert {(routes.names[u], routes.names[v]) for u, v in zip(routes.source, routes.target, strict=True)} == set(
        graph.edges
    )
    (tier,) = reduced.tiers
    assert tier.uplink_bytes_per_s.tolist() == [np.inf]
    assert tier.hops == max(len(nx.shortest_path(graph, f"r{a}", f"r{b}")) - 1 for a in range(4) for b in range(4))


def test_incomplete_or_uneven_meshes_are_routed_over() -> None:
    graph: Graph = nx.DiGraph(planes=[{"name": "M", "fabric": "m", "port_bytes_per_s": 2.0}])
    for rank in range(3):
        graph.add_node(rank, kind="rank", rank=rank, node=0, rail=rank)
    link(graph, 0, 1, 1.0, 1.0)
    link(graph, 1, 2, 1.0, 1.0)
    line = reduce_graph(graph)
    assert line.tiers[0].hops == 2
    assert line.tiers[0].latency_s == 2.0
    np.testing.assert_array_equal(line.planes[0].port_bytes_per_s, [1, 2, 1])
    link(graph, 0, 2, 2.0, 1.0)
    uneven = reduce_graph(graph)
    assert uneven.planes[0].routes is not None
    assert uneven.tiers[0].hops == 1


def test_a_nic_of_two_ranks_is_a_tier() -> None:
    graph: Graph = nx.DiGraph(planes=[{"name": "N", "fabric": "n", "port_bytes_per_s": 8.0}])
    for rank in range(4):
        graph.add_node(rank, kind="rank", rank=rank, node=rank, rail=0)
    graph.add_node("leaf", kind="switch", tier="leaf", plane=0)
    for index in range(2):
        graph.add_node(f"nic {index}", kind="nic", tier="nic", plane=0)
        link(graph, f"nic {index}", "leaf", 5.0, 1.0)
        for rank in (2 * index, 2 * index + 1):
            link(graph, rank, f"nic {index}", 8.0, 0.0)
    nic, leaf = reduce_graph(graph).tiers
    assert (nic.name, leaf.name) == ("nic", "leaf")
    np.testing.assert_array_equal(nic.domain, [0, 0, 1, 1])
    np.testing.assert_array_equal(nic.uplink_bytes_per_s, [5, 5])
