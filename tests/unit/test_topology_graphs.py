"""Generated graphs against closed forms: ports, rates, latencies, tiers, bisection, diameter."""

import time
from typing import Any

import numpy as np
import pytest

from topologies.build import network
from topologies.errors import TopologyError
from topologies.generators import MAX_RANKS, build_graph
from topologies.metrics import bisection_bytes_per_s, count_parts, describe, diameter_hops
from topologies.reduction import reduce_graph
from topologies.specs import Accelerator, ClusterSpec, Fabric, Memory, Peak, ScaleOut, ScaleUp


def chip(dies: int = 1) -> Accelerator:
    peak = Peak(bf16_flop_per_s=1e15, source="test")
    memory = Memory(capacity_bytes=64e9, bandwidth_bytes_per_s=1e12, source="test")
    return Accelerator(id="chip", name="chip", vendor="v", family="f", ranks_per_chip=dies, peak=peak, memory=memory)


def fabric(name: str, gb_per_s: float, near_us: float, far_us: float | None = None, **extra: Any) -> Fabric:
    far = None if far_us is None else far_us * 1e-6
    kind = "scale-out" if name == "nic" else "scale-up"
    return Fabric(
        id=name, name=name, kind=kind, port_bytes_per_s=gb_per_s * 1e9, near_latency_s=near_us * 1e-6,
        far_latency_s=far, source="test", **extra,
    )  # fmt: skip


FABRICS = {
    f.id: f
    for f in (
        fabric("nvlink", 450, 3.33),
        fabric("nvl72", 900, 3.33),
        fabric("hccs", 196, 1.0, shape="mesh", links=7),
        fabric("ub", 392, 1.2, 1.9),
        fabric("nic", 50, 2.8, 3.7),
    )
}


def cluster(up: str, node: int, domain: int, limit: int | None = None, **out: Any) -> ClusterSpec:
    scale_out = ScaleOut(fabric="nic", **out) if out else None
    scale_up = ScaleUp(fabric=up, domain_chips=domain)
    return ClusterSpec(
        id="c", name="C", chip="chip", chips=domain, chips_per_node=node, max_chips=limit, scale_up=scale_up,
        scale_out=scale_out, source="test",
    )  # fmt: skip


DGX = cluster("nvlink", 8, 8, leaf_nodes=32)
FLAT = cluster("nvlink", 8, 8, leaf_nodes=2, rail_optimised=False, oversubscription=4.0)
MESH = cluster("hccs", 8, 8, leaf_nodes=4)
CLOUDMATRIX = cluster("ub", 8, 384, leaf_nodes=4)
NVL72 = cluster("nvl72", 4, 72, leaf_nodes=18)
MULTI_PLANE = cluster("nvlink", 8, 8, leaf_nodes=32, planes=True)


def tiers(spec: ClusterSpec, chips: int, dies: int = 1) -> list[tuple[str, int]]:
    return [(row.tier, row.domains) for row in describe(build_graph(spec, chip(dies), FABRICS, chips))]


@pytest.mark.parametrize(
    ("spec", "chips", "dies", "expected"),
    [
        (DGX, 1, 1, [("node", 1)]),
        (DGX, 5, 1, [("node", 1)]),
        (DGX, 16, 1, [("node", 2), ("leaf", 8), ("spine", 1)]),
        (DGX, 512, 1, [("node", 64), ("leaf", 16), ("spine", 1)]),
        (FLAT, 16, 1, [("node", 2), ("leaf", 1)]),
        (FLAT, 19, 1, [("node", 3), ("leaf", 2), ("spine", 1)]),
        (MESH, 8, 1, [("node", 1)]),
        (MESH, 64, 1, [("node", 8), ("leaf", 16), ("spine", 1)]),
        (CLOUDMATRIX, 8, 2, [("node", 1)]),
        (CLOUDMATRIX, 384, 2, [("node", 48), ("supernode", 1)]),
        (CLOUDMATRIX, 768, 2, [("node", 96), ("supernode", 2), ("leaf", 24 * 16), ("spine", 1)]),
        (NVL72, 72, 1, [("supernode", 1)]),
        (NVL72, 144, 1, [("supernode", 2), ("leaf", 8), ("spine", 1)]),
        (MULTI_PLANE, 256, 1, [("node", 32), ("leaf", 8), ("cross-rail", 1)]),
        (MULTI_PLANE, 2048, 1, [("node", 256), ("leaf", 64), ("spine", 8), ("cross-rail", 1)]),
    ],
)
def test_tiers_go_only_as_far_up_as_needed(
    spec: ClusterSpec, chips: int, dies: int, expected: list[tuple[str, int]]
) -> None:
    assert tiers(spec, chips, dies) == expected


@pytest.mark.parametrize("chips", [2, 3, 8])
def test_full_mesh_gives_each_pair_its_own_link(chips: int) -> None:
    graph = build_graph(MESH, chip(), FABRICS, chips)
    assert all(degree == chips - 1 for _, degree in graph.out_degree())
    reduced = reduce_graph(graph)
    np.testing.assert_allclose(reduced.planes[0].port_bytes_per_s, (chips - 1) * 28e9)
    assert reduced.tiers[0].pair_bytes_per_s == pytest.approx(28e9)
    half = chips // 2
    assert bisection_bytes_per_s(reduced) == pytest.approx(half * (chips - half) * 28e9)
    assert diameter_hops(graph) == 1


def test_mesh_of_dual_die_packages_keeps_the_rate_between_packages() -> None:
    graph = build_graph(MESH, chip(2), FABRICS, 8)
    between = sum(graph.edges[a, b]["bytes_per_s"] for a in (0, 1) for b in (6, 7))
    assert between == pytest.approx(28e9)


def test_mesh_rank_without_peers_keeps_a_usable_port() -> None:
    port = reduce_graph(build_graph(MESH, chip(), FABRICS, 9)).planes[0].port_bytes_per_s
    assert port[8] == 196e9


def test_bundles_of_links_are_not_split_unevenly() -> None:
    quad = cluster("bundle", 4, 4)
    graph = build_graph(quad, chip(), {"bundle": fabric("bundle", 300, 1.0, shape="mesh", links=12)}, 4)
    assert graph.edges[0, 3]["bytes_per_s"] == pytest.approx(100e9)


def test_cloudmatrix_is_non_blocking_across_its_768_dies() -> None:
    graph = build_graph(CLOUDMATRIX, chip(2), FABRICS, 384)
    near, far = describe(graph)
    assert (near.domains, near.ranks_per_domain, far.ranks_per_domain) == (48, 16, 768)
    assert near.port_bytes_per_s == 196e9
    assert near.uplink_bytes_per_s == pytest.approx(16 * 196e9)
    assert near.oversubscription == pytest.approx(1.0)
    assert far.uplink_bytes_per_s is None
    assert (near.latency_s, far.latency_s) == pytest.approx((1.2e-6, 1.9e-6))
    assert bisection_bytes_per_s(reduce_graph(graph)) == pytest.approx(384 * 196e9)
    assert diameter_hops(graph) == 4
    parts = count_parts(graph)
    assert (parts.ranks, parts.nodes, parts.nics, parts.switches) == (768, 48, 0, {"node": 48, "supernode": 1})
    assert parts.links == 768 + 48


@pytest.mark.parametrize("chips", [16, 128, 512, 2048])
def test_bisection_of_a_non_blocking_fat_tree_is_half_the_ports(chips: int) -> None:
    assert bisection_bytes_per_s(network(DGX, chip(), FABRICS, chips)) == pytest.approx(chips / 2 * 50e9)
    assert bisection_bytes_per_s(network(MULTI_PLANE, chip(), FABRICS, chips)) == pytest.approx(chips / 2 * 50e9)


def test_oversubscription_divides_bisection_and_is_read_back() -> None:
    reduced = network(FLAT, chip(), FABRICS, 64)
    leaf = describe(reduced)[1]
    assert leaf.oversubscription == pytest.approx(4.0)
    assert leaf.uplink_bytes_per_s == pytest.approx(16 * 50e9 / 4)
    assert bisection_bytes_per_s(reduced) == pytest.approx(32 * 50e9 / 4)


def test_partly_filled_leaf_owns_its_share_of_the_cables() -> None:
    reduced = network(FLAT, chip(), FABRICS, 20)
    np.testing.assert_allclose(reduced.tiers[1].uplink_bytes_per_s, np.array([16, 4]) * 50e9 / 4)
    assert describe(reduced)[1].oversubscription == pytest.approx(4.0)


def test_bisection_of_an_odd_number_of_nodes_is_that_of_the_smaller_side() -> None:
    assert bisection_bytes_per_s(network(DGX, chip(), FABRICS, 72)) == pytest.approx(4 * 8 * 50e9)


def test_bisection_of_one_node_cuts_its_switch_and_of_one_rank_is_nothing() -> None:
    assert bisection_bytes_per_s(network(DGX, chip(), FABRICS, 8)) == pytest.approx(4 * 450e9)
    assert bisection_bytes_per_s(network(DGX, chip(), FABRICS, 1)) == 0.0


@pytest.mark.parametrize(
    ("spec", "chips", "hops"),
    [(DGX, 1, 0), (DGX, 8, 2), (DGX, 16, 6), (FLAT, 16, 4), (FLAT, 64, 6), (MULTI_PLANE, 64, 6), (MULTI_PLANE, 512, 8)],
)
def test_diameter_counts_links_on_the_longest_route(spec: ClusterSpec, chips: int, hops: int) -> None:
    assert diameter_hops(build_graph(spec, chip(), FABRICS, chips)) == hops


def test_rails_share_leaves_and_latency_grows_outwards() -> None:
    reduced = network(DGX, chip(), FABRICS, 512)
    pairs = {(0, 1): 0, (0, 8): 1, (0, 9): 2, (0, 255): 2, (3, 256 + 3): 2, (3, 8 * 31 + 3): 1, (7, 7): -1}
    source, target = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    assert reduced.meeting_tier(source, target).tolist() == list(pairs.values())
    assert [tier.latency_s for tier in reduced.tiers] == pytest.approx([3.33e-6, 2.8e-6, 3.7e-6])


def test_rails_that_never_meet_are_forwarded_inside_the_node() -> None:
    reduced = network(MULTI_PLANE, chip(), FABRICS, 2048)
    spine, cross = reduced.tiers[2:]
    np.testing.assert_array_equal(spine.domain, reduced.rail)
    assert cross.plane == spine.plane
    assert cross.latency_s == pytest.approx(3.7e-6 + 3.33e-6)


def test_dies_share_the_ports_of_their_package() -> None:
    reduced = network(CLOUDMATRIX, chip(2), FABRICS, 768)
    assert reduced.ranks == 1536
    assert reduced.ranks_per_node == 16
    assert set(reduced.planes[0].port_bytes_per_s) == {196e9}
    assert set(reduced.planes[1].port_bytes_per_s) == {25e9}


def test_network_is_remembered_and_read_only() -> None:
    first = network(DGX, chip(), FABRICS, 64)
    assert network(DGX.model_copy(), chip(), dict(FABRICS), 64) is first
    with pytest.raises(ValueError, match="read-only"):
        first.tiers[0].domain[0] = 7


@pytest.mark.parametrize(
    ("spec", "chips", "message"),
    [
        (DGX, 0, r"c\.chips: 0: .*at least one chip"),
        (DGX, -8, r"c\.chips: -8"),
        (cluster("nvlink", 8, 8, limit=64, leaf_nodes=4), 65, r"65: .*reaches 64 chips"),
        (DGX, 10**12, rf"1000000000000: graphs stop at {MAX_RANKS} ranks"),
        (cluster("nvlink", 8, 8), 9, r"9: without scale_out only one domain of 8 chips.*add scale_out"),
        (cluster("hccs", 8, 64, leaf_nodes=4), 8, r"domain_chips: 64: a full mesh ends at the node"),
        (cluster("hccs", 16, 16), 8, r"16: a full mesh needs 15 links per chip, 'hccs' has 7"),
        (cluster("nvlink", 16, 8), 8, r"8: not a whole number of nodes of 16 chips"),
        (cluster("nvlinkk", 8, 8), 8, r"'nvlinkk': no such fabric \(did you mean 'nvlink'\?\)"),
        (
            cluster("nvlink", 8, 8, leaf_nodes=4, planes=True, rail_optimised=False),
            16,
            r"planes: true: .*rail_optimised",
        ),
    ],
)
def test_impossible_clusters_are_refused_with_a_remedy(spec: ClusterSpec, chips: int, message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        build_graph(spec, chip(), FABRICS, chips)
    assert len(caught.value.problems) == 1


def test_all_problems_are_told_at_once() -> None:
    fabrics = FABRICS | {"nic": fabric("nic", 50, 2.8)}
    spec = cluster("hccs", 8, 16, limit=16, leaf_nodes=4)
    with pytest.raises(TopologyError) as caught:
        build_graph(spec, chip(), fabrics, 17)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(("chips", "limit_s"), [(2048, 0.06), (8192, 0.4)])
@pytest.mark.parametrize("spec", [DGX, MESH], ids=["switch", "mesh"])
def test_building_is_fast(spec: ClusterSpec, chips: int, limit_s: float) -> None:
    def cpu_s() -> float:
        start = time.process_time()
        build_graph(spec, chip(), FABRICS, chips)
        return time.process_time() - start

    assert min(cpu_s() for _ in range(3)) < limit_s
