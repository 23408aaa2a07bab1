"""Routes over explicit links against paths enumerated one by one."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

from topologies import routes as module
from topologies.routes import Policy, Routes, build_routes, crossing, distances, link_bytes, path_latency_s, path_links

Graph = Any
RANKS = 12


def torus() -> Graph:
    return nx.grid_graph((3, 4), periodic=True)


def ladder() -> Graph:
    return nx.ladder_graph(6)


def clos() -> Graph:
    """Four leaves of three ranks each, under three parallel spines, one leaf without its link to the last."""
    graph = nx.Graph()
    graph.add_nodes_from(range(RANKS))
    graph.add_edges_from((rank, f"leaf {rank // 3}") for rank in range(RANKS))
    graph.add_edges_from((f"leaf {leaf}", f"spine {spine}") for leaf in range(4) for spine in range(3))
    graph.remove_edge("leaf 1", "spine 2")
    return graph


SHAPES = [torus, ladder, clos]


def routed(shape: Callable[[], Graph], policy: Policy = "ecmp") -> tuple[Routes, Graph]:
    graph = nx.convert_node_labels_to_integers(shape()).to_directed()
    source, target = np.array(list(graph.edges)).T
    draw = np.random.default_rng(5)
    latency = draw.uniform(1, 2, source.size)
    nx.set_edge_attributes(graph, dict(zip(graph.edges, latency, strict=True)), "latency_s")
    names = tuple(map(str, graph))
    return build_routes(names, source, target, draw.uniform(1, 9, source.size), latency, policy), graph


def ecmp_share(graph: Graph, source: int, target: int) -> dict[tuple[int, int], float]:
    """Walk from the source, splitting equally over next hops that are nearer to the target."""
    share: dict[tuple[int, int], float] = {}
    hops = nx.single_source_shortest_path_length(graph, target)
    front = {source: 1.0}
    while front:
        onward: dict[int, float] = {}
        for vertex, amount in front.items():
            nearer = [other for other in graph[vertex] if hops[other] < hops[vertex]]
            for other in nearer:
                share[vertex, other] = share.get((vertex, other), 0.0) + amount / len(nearer)
                onward[other] = onward.get(other, 0.0) + amount / len(nearer)
        front = onward
    return share


@pytest.mark.parametrize("chunk", [2**23, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_ecmp_splits_equally_at_each_vertex(
    shape: Callable[[], Graph], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found, graph = routed(shape)
    draw = np.random.default_rng(7)
    source, target = draw.integers(0, RANKS, (2, 50))
    size, column = draw.uniform(0, 5, 50), draw.integers(0, 4, 50)
    expected = np.zeros((found.source.size, 4))
    place = {ends: index for index, ends in enumerate(zip(found.source.tolist(), found.target.tolist(), strict=True))}
    for one, other, amount, under in zip(source.tolist(), target.tolist(), size, column, strict=True):
        for ends, share in ecmp_share(graph, one, other).items():
            expected[place[ends], under] += share * amount
    np.testing.assert_allclose(link_bytes(found, source, target, size, column, 4), expected, atol=1e-12)
    np.testing.assert_allclose(link_bytes(found, source, target, size)[:, 0], expected.sum(axis=1), atol=1e-12)
    flow, link, share = path_links(found, source, target)
    rows = np.bincount(link, share * size[flow], found.source.size)
    np.testing.assert_allclose(rows, expected.sum(axis=1), atol=1e-12)
    hottest = int(expected.sum(axis=1).argmax())
    through = crossing(found, source, target, hottest)
    np.testing.assert_allclose(through, np.bincount(flow, share * (link == hottest), 50), atol=1e-12)


@pytest.mark.parametrize("policy", ["ecmp", "static"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_travel_the_distance(shape: Callable[[], Graph], policy: Policy) -> None:
    found, graph = routed(shape, policy)
    source, target = (side.ravel() for side in np.meshgrid(np.arange(RANKS), np.arange(RANKS)))
    hops = np.array([nx.shortest_path_length(graph, a, b) for a, b in zip(source, target, strict=True)])
    np.testing.assert_array_equal(distances(found, np.arange(RANKS))[source, target], hops)
    size = np.random.default_rng(1).uniform(0, 1, source.size)
    assert link_bytes(found, source, target, size).sum() == pytest.approx(size @ hops)


@pytest.mark.parametrize("shape", SHAPES)
def test_latency_is_that_of_the_slowest_shortest_path(shape: Callable[[], Graph]) -> None:
    found, graph = routed(shape)
    source, target = (side.ravel() for side in np.meshgrid(np.arange(RANKS), np.arange(RANKS)))
    expected = [
        max(nx.path_weight(graph, path, "latency_s") for path in nx.all_shortest_paths(graph, a, b))
        for a, b in zip(source, target, strict=True)
    ]
    np.testing.assert_allclose(path_latency_s(found, source, target), expected)


def test_static_routes_take_one_path_in_dimension_order() -> None:
    found, _ = routed(torus, "static")  # numbered along the dimension of 4 - or 3 - that varies fastest
    fast = 4 if bool(((found.source == 0) & (found.target == 4)).any()) else 3
    source, target = np.array([0]), np.array([fast + 1])
    flow, link, share = path_links(found, source, target)
    assert share.tolist() == [1.0, 1.0]
    assert {(found.source[i], found.target[i]) for i in link} == {(0, 1), (1, fast + 1)}
    assert flow.tolist() == [0, 0]


def test_uniform_all_to_all_on_a_ring() -> None:
    ranks = 8  # even ring: sum over distances of hops x both directions, N^2/8 per link
    source = np.repeat(np.arange(ranks), 2)
    target = (source + np.tile([1, -1], ranks)) % ranks
    ring = build_routes(tuple(map(str, range(ranks))), source, target, np.ones(16), np.ones(16), "ecmp")
    one, other = (side.ravel() for side in np.meshgrid(np.arange(ranks), np.arange(ranks)))
    np.testing.assert_allclose(link_bytes(ring, one, other, np.ones(ranks**2)), ranks**2 / 8)
