"""Bytes on links: who shares what, and what nobody shares."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.cost.links import LinkTime, busiest_links, link_loads
from topologies.network import Network, Plane, Tier
from topologies.reduction import reduce_graph

PORT, NIC, UPLINK, PAIR = 100.0, 25.0, 40.0, 10.0


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def two_nodes(pair_bytes_per_s: float = np.inf) -> Network:
    """Two nodes of two ranks; NICs of a node share one leaf, whose uplink is narrower than its two NICs."""
    node = ints(0, 0, 1, 1)
    everyone = np.zeros(4, dtype=np.int32)
    top = np.array([np.inf])
    tiers = (
        Tier("node", 0, node, 1e-6, np.full(2, np.inf), pair_bytes_per_s),
        Tier("leaf", 1, node, 2e-6, np.full(2, UPLINK)),
        Tier("spine", 1, everyone, 3e-6, top),
    )
    planes = (Plane("Bus", "bus", np.full(4, PORT)), Plane("Net", "net", np.full(4, NIC)))
    return Network(4, node, ints(0, 1, 0, 1), planes, tiers)


def slowest(network: Network, flows: list[tuple[int, int, float]]) -> LinkTime:
    source, target, size = zip(*flows, strict=True)
    links = busiest_links(network, ints(*source), ints(*target), np.array(size, dtype=float))
    return max(links, key=lambda link: link.time_s)


def test_one_flow_takes_its_port() -> None:
    assert slowest(two_nodes(), [(0, 1, 500.0)]) == LinkTime(5.0, 0, "Bus port out of rank 0")
    assert slowest(two_nodes(), [(0, 2, 500.0)]).time_s == pytest.approx(500.0 / NIC)


def test_flows_to_one_rank_share_its_port() -> None:
    found = slowest(two_nodes(), [(0, 3, 50.0), (1, 3, 50.0), (2, 3, 100.0)])
    assert found == LinkTime(100.0 / NIC, 1, "Net port in of rank 3")  # the flow inside the node has its own plane


def test_two_flows_share_an_uplink() -> None:
    found = slowest(two_nodes(), [(0, 2, 100.0), (1, 3, 100.0)])
    assert found == LinkTime(200.0 / UPLINK, 1, "leaf up link 0")
    assert slowest(two_nodes(), [(0, 2, 100.0), (3, 1, 100.0)]).link.startswith("Net port")


def test_a_mesh_gives_a_pair_its_direct_link_only() -> None:
    assert slowest(two_nodes(PAIR), [(0, 1, 50.0), (0, 1, 30.0)]) == LinkTime(8.0, 0, "node direct link 0->1")
    both = busiest_links(two_nodes(PAIR), ints(0, 1), ints(1, 0), np.array([50.0, 50.0]))
    assert max(link.time_s for link in both) == pytest.approx(5.0)  # the directions do not share


def test_a_flow_to_oneself_is_free() -> None:
    assert busiest_links(two_nodes(), ints(0, 3), ints(0, 3), np.array([1e9, 1e9])) == []
    assert slowest(two_nodes(), [(0, 0, 1e9), (0, 1, 100.0)]).time_s == pytest.approx(1.0)


@pytest.mark.parametrize("pair", [np.inf, PAIR])
def test_columns_split_what_links_carry(pair: float) -> None:
    draw = np.random.default_rng(1)
    source, target = draw.integers(0, 4, (2, 30)).astype(np.int32)
    size, column = draw.uniform(1, 9, 30), draw.integers(0, 3, 30)
    whole = link_loads(two_nodes(pair), source, target, size)
    split = link_loads(two_nodes(pair), source, target, size, column, 3)
    for one, three in zip(whole, split, strict=True):
        assert one.kind == three.kind
        np.testing.assert_allclose(three.size_bytes.sum(axis=1), one.size_bytes[:, 0])
    for index in range(3):
        own = column == index
        alone = link_loads(two_nodes(pair), source[own], target[own], size[own])
        for one, three in zip(alone, split, strict=True):
            rows = np.isin(three.number, one.number)
            np.testing.assert_allclose(three.size_bytes[rows, index], one.size_bytes[:, 0])


def test_ports_can_be_limited_to_a_group() -> None:
    source, target, size = ints(0, 2, 3), ints(2, 0, 1), np.array([10.0, 20.0, 40.0])
    of_group = {load.kind: load for load in link_loads(two_nodes(), source, target, size, ports_of=ints(3, 0))}
    assert of_group["Net port out of rank"].size_bytes[:, 0].tolist() == [40.0, 10.0]
    assert of_group["Net port in of rank"].size_bytes[:, 0].tolist() == [0.0, 20.0]
    assert of_group["leaf up link"].size_bytes[:, 0].tolist() == [10.0, 60.0]  # everybody's


def clos(spines: int, leaf_spine: float) -> Network:
    """Four leaves of two ranks; equal-cost spines, either one vertex for all or each its own."""
    graph: Any = nx.DiGraph(planes=[{"name": "Net", "fabric": "net", "port_bytes_per_s": NIC}])
    for rank in range(8):
        graph.add_node(rank, kind="rank", rank=rank, node=rank // 2, rail=rank % 2)
    for tier, count in (("leaf", 4), ("spine", spines)):
        graph.add_nodes_from((f"{tier} {index}" for index in range(count)), kind="switch", tier=tier, plane=0)
    cables = [(rank, f"leaf {rank // 2}", NIC) for rank in range(8)]
    cables += [(f"leaf {leaf}", f"spine {spine}", leaf_spine) for leaf in range(4) for spine in range(spines)]
    for low, high, rate in cables:
        for ends in ((low, high), (high, low)):
            graph.add_edge(*ends, bytes_per_s=rate, latency_s=1e-6, plane=0)
    return reduce_graph(graph)


def test_parallel_switches_one_by_one_carry_what_their_sum_does() -> None:
    draw = np.random.default_rng(4)
    source, target = draw.integers(0, 8, (2, 40)).astype(np.int32)
    size = draw.uniform(1, 9, 40)
    merged, apart = clos(1, 30.0), clos(3, 10.0)
    assert merged.planes[0].routes is None
    assert apart.planes[0].routes is not None
    bound = max(link.time_s for link in busiest_links(merged, source, target, size))
    (found,) = busiest_links(apart, source, target, size)
    assert found.time_s == pytest.approx(bound)
    assert merged.latency_s(source, target) == apart.latency_s(source, target) == pytest.approx(4e-6)
    near = ints(0), ints(1)
    assert apart.latency_s(*near) == pytest.approx(2e-6)


def test_rails_that_never_meet_are_reached_through_the_node() -> None:
    """Two rails, each with two parallel switches; rank 0 (rail 0) reaches rank 3 (rail 1) by rank 2, its node mate."""
    graph: Any = nx.DiGraph(
        planes=[
            {"name": "Bus", "fabric": "bus", "port_bytes_per_s": PORT},
            {"name": "Net", "fabric": "net", "port_bytes_per_s": NIC},
        ]
    )
    for rank in range(4):
        graph.add_node(rank, kind="rank", rank=rank, node=rank // 2, rail=rank % 2)
    graph.add_nodes_from(["node 0", "node 1"], kind="switch", tier="node", plane=0)
    graph.add_nodes_from(["leaf 0", "leaf 1", "leaf 2", "leaf 3"], kind="switch", tier="leaf", plane=1)
    cables = [(rank, f"node {rank // 2}", PORT, 0) for rank in range(4)]
    cables += [(rank, f"leaf {2 * (rank % 2) + twin}", NIC / 2, 1) for rank in range(4) for twin in range(2)]
    for low, high, rate, plane in cables:
        for ends in ((low, high), (high, low)):
            graph.add_edge(*ends, bytes_per_s=rate, latency_s=1e-6, plane=plane)
    net = reduce_graph(graph)
    assert net.relay(ints(0, 0, 1), ints(3, 2, 2)).tolist() == [2, 2, 3]
    (loads,) = link_loads(net, ints(0), ints(3), np.array([100.0]))
    assert {loads.name(row) for row in np.flatnonzero(loads.size_bytes)} == {
        "link 0 -> leaf 0", "link 0 -> leaf 1", "link leaf 0 -> 2", "link leaf 1 -> 2"
    }  # fmt: skip
    assert loads.busiest().time_s == pytest.approx(100.0 / NIC)
