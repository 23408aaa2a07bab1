"""Meshes, tori, dragonflies and three-layer trees against closed forms: ports, cables, diameter, paths, bisection."""

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest

from topologies.build import network
from topologies.errors import TopologyError
from topologies.generators import build_graph
from topologies.metrics import bisection_bytes_per_s, describe, diameter_hops, grids
from topologies.reduction import reduce_graph
from topologies.shapes import (
    AnyScaleOut,
    AnyScaleUp,
    Dragonfly,
    NdMesh,
    ScaleOut,
    ScaleUp,
    TorusOfChips,
    TorusOfRouters,
)
from topologies.specs import Accelerator, ClusterSpec, Fabric, Memory, Peak

LINK, NIC = 50e9, 25e9
Graph = Any


def chip(dies: int = 1) -> Accelerator:
    peak = Peak(bf16_flop_per_s=1e15, source="test")
    memory = Memory(capacity_bytes=64e9, bandwidth_bytes_per_s=1e12, source="test")
    return Accelerator(id="x", name="x", vendor="v", family="f", ranks_per_chip=dies, peak=peak, memory=memory)


def fabrics(links: int) -> dict[str, Fabric]:
    inner = Fabric(
        id="in", name="In", kind="scale-up", port_bytes_per_s=links * LINK, links=links, near_latency_s=1e-6,
        far_latency_s=2e-6, source="test",
    )  # fmt: skip
    outer = Fabric(
        id="out", name="Out", kind="scale-out", port_bytes_per_s=NIC, near_latency_s=3e-6, far_latency_s=5e-6,
        source="test",
    )  # fmt: skip
    return {"in": inner, "out": outer}


def spec(up: AnyScaleUp, node: int, out: AnyScaleOut | None = None) -> ClusterSpec:
    return ClusterSpec(
        id="c", name="C", chip="x", chips=8, chips_per_node=node, scale_up=up, scale_out=out, source="test"
    )


def built(up: AnyScaleUp, node: int, chips: int, links: int = 18, out: AnyScaleOut | None = None) -> Graph:
    return build_graph(spec(up, node, out), chip(), fabrics(links), chips)


def nd_mesh(dims: tuple[int, ...], **more: Any) -> NdMesh:
    more = {"links": (1,) * len(dims), "domain_chips": math.prod(dims)} | more
    return NdMesh(shape="nd-mesh", fabric="in", dims=dims, **more)


def scale_out(shape: AnyScaleOut, nodes: int, node: int = 1) -> Graph:
    """Only the outer plane, of nodes that are one domain each."""
    return built(ScaleUp(fabric="in", domain_chips=node), node, nodes * node, out=shape)


def diameter(graph: Graph) -> int:
    ranks = [v for v, kind in graph.nodes(data="kind") if kind == "rank"]
    reach = (nx.single_source_shortest_path_length(graph, a) for a in ranks)
    return max(found[b] for found in reach for b in ranks)


def crossing_bytes_per_s(graph: Graph, inside: set[Any]) -> float:
    """Capacity of the edges that leave a set of vertices."""
    return sum(d["bytes_per_s"] for u, v, d in graph.edges(data=True) if u in inside and v not in inside)


def paths(graph: Graph, source: Any, target: Any) -> int:
    return sum(1 for _ in nx.all_shortest_paths(graph, source, target))


@pytest.mark.parametrize("dims", [(8,), (8, 8), (2, 3), (4, 4, 2), (2, 2, 2, 2)])
def test_mesh_of_several_dimensions(dims: tuple[int, ...]) -> None:
    size, degree = math.prod(dims), sum(d - 1 for d in dims)
    graph = built(nd_mesh(dims), size, size)
    assert {d for _, d in graph.out_degree()} == {degree}
    assert graph.number_of_edges() == size * degree
    assert diameter(graph) == len(dims)
    assert paths(graph, 0, size - 1) == math.factorial(len(dims))
    stride = size // dims[-1]
    half = set(range(dims[-1] // 2 * stride))
    assert crossing_bytes_per_s(graph, half) == pytest.approx(stride * (dims[-1] // 2) * -(-dims[-1] // 2) * LINK)


@pytest.mark.parametrize("dims", [(4,), (3, 5), (4, 4, 4), (8, 4), (2, 4)])
def test_torus(dims: tuple[int, ...]) -> None:
    size = math.prod(dims)
    graph = built(TorusOfChips(shape="torus", fabric="in", domain_chips=size, dims=dims), size, size, 2 * len(dims))
    port = [sum(d["bytes_per_s"] for _, _, d in graph.out_edges(v, data=True)) for v in graph]
    np.testing.assert_allclose(port, 2 * len(dims) * LINK)
    assert graph.number_of_edges() == size * sum(1 if d == 2 else 2 for d in dims)
    assert diameter(graph) == sum(d // 2 for d in dims)
    half = set(range(dims[-1] // 2 * (size // dims[-1])))
    assert crossing_bytes_per_s(graph, half) == pytest.approx(2 * size // dims[-1] * LINK)


def test_paths_of_a_torus_are_the_orders_of_its_steps() -> None:
    graph = built(TorusOfChips(shape="torus", fabric="in", domain_chips=512, dims=(8, 8, 8)), 8, 512, 6)
    target = 2 + 8 * 3 + 64 * 1
    assert paths(graph, 0, target) == math.factorial(6) // (math.factorial(2) * math.factorial(3))


@pytest.mark.parametrize("chips", [1, 2, 9, 13, 37, 63])
def test_part_of_a_grid_is_connected(chips: int) -> None:
    for up in (nd_mesh((4, 4, 4)), TorusOfChips(shape="torus", fabric="in", domain_chips=64, dims=(4, 4, 4))):
        graph = built(up, 4, chips)
        assert graph.number_of_nodes() == chips
        assert nx.is_strongly_connected(graph)


UB_MESH = nd_mesh((8, 8), domain_chips=1024, rack_uplinks=4, rack_dims=(4, 4), rack_links=(32, 32))


def test_ub_mesh_is_a_mesh_of_boards_and_of_racks() -> None:
    graph = built(UB_MESH, 64, 1024)
    mesh, racks = ([(u, v) for u, v, d in graph.edges(data=True) if d["plane"] == plane] for plane in (0, 1))
    assert len(mesh) == 1024 * 14
    between = [(u, v) for u, v in racks if str(u).startswith("rack") and str(v).startswith("rack")]
    assert len(between) == 16 * 6
    assert len(racks) == 2 * 1024 + len(between)
    assert graph.edges["rack 0", "rack 1"]["bytes_per_s"] == pytest.approx(32 * LINK)
    assert graph.edges[0, "rack 0"]["bytes_per_s"] == pytest.approx(4 * LINK)
    assert paths(graph, "rack 0", "rack 5") == 2
    assert not graph.has_edge("rack 0", "rack 5")
    assert crossing_bytes_per_s(graph, {*range(512), *(f"rack {i}" for i in range(8))}) == 2 * 2 * 4 * 32 * LINK


def test_racks_of_a_mesh_below_switches_are_not_oversubscribed() -> None:
    graph = built(nd_mesh((8, 8), domain_chips=8192, rack_uplinks=4), 64, 130)
    rates = [graph.edges[f"rack {i}", "supernode 0"]["bytes_per_s"] for i in range(3)]
    np.testing.assert_allclose(rates, np.array([64, 64, 2]) * 4 * LINK)
    assert graph.graph["planes"][1]["port_bytes_per_s"] == 4 * LINK
    assert [p["fabric"] for p in built(nd_mesh((8, 8), domain_chips=8192, rack_uplinks=4), 64, 64).graph["planes"]] == [
        "in"
    ]


def dragonfly(p: int, a: int, h: int, groups: int | None = None, **more: Any) -> Dragonfly:
    return Dragonfly(
        shape="dragonfly", fabric="out", switch_nodes=p, group_switches=a, global_links=h,
        groups=groups or a * h + 1, **more,
    )  # fmt: skip


@pytest.mark.parametrize(("p", "a", "h"), [(1, 2, 1), (2, 4, 2), (1, 3, 2), (2, 4, 1)])
def test_full_dragonfly(p: int, a: int, h: int) -> None:
    groups = a * h + 1
    graph = scale_out(dragonfly(p, a, h), p * a * groups)
    switches = [v for v, tier in graph.nodes(data="tier") if tier == "switch"]
    assert len(switches) == a * groups
    assert {graph.out_degree(v) for v in switches} == {p + (a - 1) + h}
    cables = graph.subgraph(switches).number_of_edges() // 2
    assert cables == groups * a * (a - 1) // 2 + groups * (groups - 1) // 2
    assert diameter(graph.subgraph([v for v in graph if not str(v).startswith("node")])) == 2 * 2 + 3
    half = {f"switch {i}" for i in range(a * (groups // 2))}
    assert crossing_bytes_per_s(graph.subgraph(switches), half) == pytest.approx((groups // 2) * -(-groups // 2) * NIC)


@pytest.mark.parametrize("groups", [2, 3, 5, 6])
def test_pairs_of_dragonfly_groups_have_equal_bundles(groups: int) -> None:
    graph = scale_out(dragonfly(1, 4, 2, groups), 4 * groups)
    bundle = np.zeros((groups, groups))
    for u, v, d in graph.edges(data=True):
        if str(u).startswith("switch") and str(v).startswith("switch"):
            bundle[int(u.split()[1]) // 4, int(v.split()[1]) // 4] += d["bytes_per_s"]
    np.testing.assert_allclose(bundle[~np.eye(groups, dtype=bool)], 8 // (groups - 1) * NIC)


@pytest.mark.parametrize("nodes", [1, 3, 5, 9, 17, 30])
def test_part_of_a_dragonfly_is_connected(nodes: int) -> None:
    graph = scale_out(dragonfly(1, 4, 2), nodes)
    assert nx.is_strongly_connected(graph)


def test_dragonfly_plus_joins_the_spines_of_every_two_cells() -> None:
    leonardo = dragonfly(10, 18, 22, 23, group_spines=18)
    graph = scale_out(leonardo, 10 * 18 * 3)
    assert graph.edges["spine 0", "spine 2"]["bytes_per_s"] == pytest.approx(18 * NIC)
    assert graph.edges["leaf 0", "spine 0"]["bytes_per_s"] == pytest.approx(10 * NIC)
    assert nx.shortest_path_length(graph, 0, 539) == 7


@pytest.mark.parametrize("dims", [(4, 4), (3, 4, 5)])
def test_torus_of_routers(dims: tuple[int, ...]) -> None:
    size = math.prod(dims)
    shape = TorusOfRouters(shape="torus", fabric="out", dims=dims, switch_nodes=2, links=3)
    graph = scale_out(shape, 2 * size)
    routers = [v for v, tier in graph.nodes(data="tier") if tier == "router"]
    assert len(routers) == size
    assert {graph.out_degree(v) for v in routers} == {2 + 2 * len(dims)}
    assert graph.edges["router 0", "router 1"]["bytes_per_s"] == pytest.approx(3 * NIC)
    assert diameter(graph.subgraph([v for v in graph if not str(v).startswith("node")])) == 4 + sum(
        d // 2 for d in dims
    )


PODS = ScaleOut(fabric="out", leaf_nodes=2, oversubscription=2.0, pod_nodes=8, pod_oversubscription=3.0)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (2, [("node", 2), ("leaf", 4), ("spine", 1)]),
        (8, [("node", 8), ("leaf", 16), ("spine", 1)]),
        (9, [("node", 9), ("leaf", 20), ("spine", 2), ("core", 1)]),
        (32, [("node", 32), ("leaf", 64), ("spine", 4), ("core", 1)]),
    ],
)
def test_three_layers_only_where_pods_meet(nodes: int, expected: list[tuple[str, int]]) -> None:
    rows = describe(network(spec(ScaleUp(fabric="in", domain_chips=4), 4, PODS), chip(), fabrics(1), 4 * nodes))
    assert [(row.tier, row.domains) for row in rows] == expected


def test_oversubscription_of_every_layer_divides_the_bisection() -> None:
    reduced = network(spec(ScaleUp(fabric="in", domain_chips=4), 4, PODS), chip(), fabrics(1), 128)
    _, leaf, spine, core = describe(reduced)
    assert (leaf.oversubscription, spine.oversubscription) == pytest.approx((2.0, 2.0 * 3.0))
    assert bisection_bytes_per_s(reduced) == pytest.approx(64 * NIC / 2 / 3)
    assert [row.hops for row in (leaf, spine, core)] == [4, 6, 8]
    assert [row.latency_s for row in (leaf, spine, core)] == pytest.approx([3e-6, 5e-6, 7e-6])


def test_planes_have_a_core_each() -> None:
    planes = PODS.model_copy(update={"planes": True})
    rows = describe(network(spec(ScaleUp(fabric="in", domain_chips=4), 4, planes), chip(), fabrics(1), 64))
    assert [(row.tier, row.domains) for row in rows[2:]] == [("spine", 8), ("core", 4), ("cross-rail", 1)]


@pytest.mark.parametrize(("dies", "shared", "nics"), [(1, 2, 8), (2, 4, 4), (2, 1, 32)])
def test_chips_can_share_a_nic(dies: int, shared: int, nics: int) -> None:
    out = ScaleOut(fabric="out", leaf_nodes=2, chips_per_nic=shared)
    graph = build_graph(spec(ScaleUp(fabric="in", domain_chips=4), 4, out), chip(dies), fabrics(1), 16)
    names = [v for v, kind in graph.nodes(data="kind") if kind == "nic"]
    assert len(names) == nics
    below = [sum(1 for u in graph.predecessors(v) if isinstance(u, int)) for v in names]
    assert set(below) == {16 * dies // nics}
    up = sum(d["bytes_per_s"] for u, v, d in graph.edges(data=True) if u in names and str(v).startswith("leaf"))
    assert up == pytest.approx(16 / shared * NIC)


NODE = ScaleUp(fabric="in", domain_chips=8)
TORUS = TorusOfChips(shape="torus", fabric="in", domain_chips=8, dims=(4, 2))
ROUTERS = TorusOfRouters(shape="torus", fabric="out", dims=(2, 2), switch_nodes=1)
RACKS = {"domain_chips": 256, "rack_uplinks": 1}
TREE = ScaleOut(fabric="out", leaf_nodes=3)


@pytest.mark.parametrize(
    ("up", "links", "said"),
    [
        (nd_mesh((8, 8), links=(1,)), 18, "give one number for each of dims"),
        (nd_mesh((8, 8)), 13, "14 in the rack and 0 out of it are more links than the 13"),
        (nd_mesh((8, 8), domain_chips=128), 18, "rack_uplinks: 0: 2 racks can't reach each other"),
        (nd_mesh((8, 8), domain_chips=100, rack_uplinks=1), 18, "100: not a whole number of racks"),
        (nd_mesh((8, 8), **RACKS, rack_dims=(2, 3), rack_links=(1, 1)), 18, "makes 4 racks"),
        (nd_mesh((8, 8), **RACKS, rack_dims=(2, 2), rack_links=(1,)), 18, "rack_links"),
        (nd_mesh((8, 8), **RACKS, rack_dims=(4,), rack_links=(99,)), 18, "297 links per rack"),
        (TORUS.model_copy(update={"domain_chips": 9}), 4, "that is 8 chips"),
        (TORUS, 5, "5 links don't divide"),
    ],
)
def test_impossible_grids_are_refused(up: AnyScaleUp, links: int, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        built(up, 1, 8, links)


@pytest.mark.parametrize(
    ("out", "chips", "said"),
    [
        (dragonfly(1, 2, 1, 9), 16, "a group has 2 global links"),
        (dragonfly(1, 2, 1), 80, "room for 6 nodes"),
        (ROUTERS, 80, "room for 4 nodes"),
        (TREE.model_copy(update={"pod_nodes": 4}), 16, "pod_nodes: 4: not a whole number"),
        (TREE.model_copy(update={"pod_oversubscription": 2.0}), 16, "without pod_nodes"),
        (TREE.model_copy(update={"chips_per_nic": 3}), 16, "does not divide the node's 8"),
    ],
)
def test_impossible_networks_between_nodes_are_refused(out: AnyScaleOut, chips: int, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        built(NODE, 8, chips, out=out)


def test_links_join_chips_of_one_rank() -> None:
    with pytest.raises(TopologyError, match="use shape 'domain'"):
        build_graph(spec(nd_mesh((4, 2)), 8), chip(2), fabrics(18), 8)


def bisection(graph: Graph) -> float:
    return bisection_bytes_per_s(reduce_graph(graph), grids(graph))


@pytest.mark.parametrize("dims", [(8, 4), (4, 8), (4, 4, 4), (6, 2), (2, 2, 8)])
def test_bisection_of_grids_is_across_their_weakest_dimension(dims: tuple[int, ...]) -> None:
    size = math.prod(dims)
    torus = TorusOfChips(shape="torus", fabric="in", domain_chips=size, dims=dims)
    assert bisection(built(torus, 2, size, 2 * len(dims))) == pytest.approx(2 * size / max(dims) * LINK)
    assert bisection(built(nd_mesh(dims), 2, size)) == pytest.approx(size / min(dims) * (min(dims) // 2) ** 2 * LINK)


def test_bisection_of_networks_of_switches() -> None:
    assert bisection(built(UB_MESH, 64, 1024)) == pytest.approx(16 / 4 * 4 * 32 * LINK, rel=1e-6)
    groups = 5
    half = (groups // 2) * -(-groups // 2)
    assert bisection(scale_out(dragonfly(1, 4, 1), 4 * groups)) == pytest.approx(half * NIC, rel=1e-6)
    routers = TorusOfRouters(shape="torus", fabric="out", dims=(4, 6), switch_nodes=8, links=1)
    assert bisection(scale_out(routers, 8 * 24)) == pytest.approx(2 * 4 * NIC, rel=1e-6)


def test_diameter_and_latency_of_routed_planes() -> None:
    mesh = reduce_graph(built(nd_mesh((4, 4, 4)), 4, 64))
    assert (diameter_hops(mesh), mesh.tiers[-1].latency_s) == (3, pytest.approx(3e-6))
    fly = reduce_graph(scale_out(dragonfly(2, 4, 2), 72))
    assert (diameter_hops(fly), fly.tiers[-1].latency_s) == (7, pytest.approx(3e-6 + 3 * 1e-6))
