"""Pieces of a plane: one of each kind is enough to know how far ranks are apart."""

import networkx as nx
import numpy as np
import pytest

from topologies.pieces import one_of_each, pieces
from topologies.routes import Routes, build_routes, distances, path_latency_s

RINGS, SIZE = 5, 4


def rings(slow: int | None = None, cut: int | None = None) -> Routes:
    """Five rings of four ranks, each with a switch between two of them; one ring has a slow link, one lacks a link."""
    graph = nx.Graph()
    graph.add_nodes_from(range(RINGS * SIZE))
    for ring in range(RINGS):
        nx.add_cycle(graph, range(ring * SIZE, (ring + 1) * SIZE))
        graph.add_edge(ring * SIZE, RINGS * SIZE + ring)
        graph.add_edge(ring * SIZE + 2, RINGS * SIZE + ring)
    if cut is not None:
        graph.remove_edge(cut * SIZE, cut * SIZE + 1)
    source, target = np.array(list(graph.to_directed().edges)).T
    latency = np.ones(source.size)
    if slow is not None:
        latency[(source == slow * SIZE + 1) & (target == slow * SIZE + 2)] = 7.0
    names = tuple(map(str, range(RINGS * (SIZE + 1))))
    return build_routes(names, source, target, np.ones(source.size), latency, "ecmp")


def reach(routes: Routes, ranks: int) -> tuple[int, float]:
    """Return hops and latency between the ranks farthest apart, over all pairs."""
    hops = distances(routes, np.arange(ranks))[:ranks]
    source, target = np.nonzero(hops >= 0)
    return int(hops.max()), float(path_latency_s(routes, source, target).max())


def test_a_piece_is_named_after_its_first_vertex() -> None:
    label = pieces(rings())
    np.testing.assert_array_equal(label[: RINGS * SIZE], np.repeat(np.arange(RINGS) * SIZE, SIZE))
    np.testing.assert_array_equal(label[RINGS * SIZE :], np.arange(RINGS) * SIZE)


@pytest.mark.parametrize(("slow", "cut", "kinds"), [(None, None, 1), (3, None, 2), (None, 2, 2), (3, 2, 3), (2, 2, 2)])
def test_one_of_each_kind_reaches_as_far_as_all(slow: int | None, cut: int | None, kinds: int) -> None:
    routes = rings(slow, cut)
    few, ranks = one_of_each(routes, RINGS * SIZE, pieces(routes))
    assert (ranks, len(few.names)) == (kinds * SIZE, kinds * (SIZE + 1))
    assert few.names[:ranks] == tuple(name for name in few.names if int(name) < RINGS * SIZE)
    assert reach(few, ranks) == reach(routes, RINGS * SIZE)


def test_a_piece_that_is_all_there_is_stays_as_it_is() -> None:
    routes = build_routes(
        ("0", "1", "2"), np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]), np.ones(4), np.ones(4), "ecmp"
    )
    few, ranks = one_of_each(routes, 3, pieces(routes))
    assert (few.names, ranks) == (routes.names, 3)
    np.testing.assert_array_equal(few.target, routes.target)
