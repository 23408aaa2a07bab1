"""What holds for every cluster that can be described."""

from typing import Any

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies.build import network
from topologies.generators import build_graph
from topologies.metrics import bisection_bytes_per_s, count_parts, describe, diameter_hops
from topologies.network import Network
from topologies.reduction import reduce_graph
from topologies.specs import Accelerator, ClusterSpec, Fabric, Memory, Peak, ScaleOut, ScaleUp

PEAK = Peak(bf16_flop_per_s=1e15, source="test")
MEMORY = Memory(capacity_bytes=64e9, bandwidth_bytes_per_s=1e12, source="test")


@st.composite
def cases(draw: st.DrawFn, most: int = 70) -> tuple[ClusterSpec, Accelerator, dict[str, Fabric], int]:
    node = draw(st.sampled_from([1, 2, 4, 8]))
    mesh = draw(st.booleans())
    domain = node * (1 if mesh else draw(st.integers(1, 4)))
    far_latency_s = draw(st.sampled_from([None, 2e-6]))
    inner = Fabric(
        id="in", name="In", kind="scale-up", shape="mesh" if mesh else "switch", port_bytes_per_s=100e9,
        near_latency_s=1e-6, far_latency_s=far_latency_s, source="test",
    )  # fmt: skip
    outer = Fabric(
        id="out", name="Out", kind="scale-out", port_bytes_per_s=25e9, near_latency_s=3e-6, far_latency_s=5e-6,
        source="test",
    )  # fmt: skip
    rails = draw(st.booleans())
    scale_out = ScaleOut(
        fabric="out", leaf_nodes=draw(st.integers(1, 5)), rail_optimised=rails, planes=rails and draw(st.booleans()),
        oversubscription=draw(st.sampled_from([1.0, 2.0, 7.0])),
    )  # fmt: skip
    scale_up = ScaleUp(fabric="in", domain_chips=domain)
    spec = ClusterSpec(
        id="c", name="C", chip="x", chips=8, chips_per_node=node, scale_up=scale_up, scale_out=scale_out, source="test"
    )
    dies = draw(st.integers(1, 3))
    chip = Accelerator(id="x", name="x", vendor="v", family="f", ranks_per_chip=dies, peak=PEAK, memory=MEMORY)
    return spec, chip, {"in": inner, "out": outer}, draw(st.integers(1, most))


def flow_bytes_per_s(graph: Any, inside: list[bool]) -> float:
    """Most that ranks `inside` can send to the others at once, by a general maximum-flow algorithm."""
    joined: Any = nx.DiGraph()
    side = {True: "source", False: "sink"}
    for u, v, attributes in graph.edges(data=True):
        tail, head = (side[inside[end]] if isinstance(end, int) else end for end in (u, v))
        known = joined.get_edge_data(tail, head, {"capacity": 0.0})["capacity"]
        joined.add_edge(tail, head, capacity=known + attributes["bytes_per_s"])
    return float(nx.maximum_flow_value(joined, "source", "sink"))


@settings(max_examples=40, deadline=None)
@given(cases(most=20))
def test_bisection_is_the_least_maximum_flow_between_halves(
    case: tuple[ClusterSpec, Accelerator, dict[str, Fabric], int],
) -> None:
    spec, chip, fabrics, chips = case
    graph = build_graph(spec, chip, fabrics, chips)
    reduced = reduce_graph(graph)
    flows = [0.0] if reduced.ranks == 1 else []
    domains: list[Any] = [np.arange(reduced.ranks), reduced.node, *(tier.domain for tier in reduced.tiers)]
    for domain in domains:
        members = [np.flatnonzero(domain == index).tolist() for index in range(int(domain.max()) + 1)]
        half: list[int] = []
        for ranks in members:
            if len(half) + len(ranks) > reduced.ranks / 2:
                break
            half += ranks
        if half:
            flows.append(flow_bytes_per_s(graph, [rank in half for rank in range(reduced.ranks)]))
    np.testing.assert_allclose(bisection_bytes_per_s(reduced), min(flows))


def check_tiers(reduced: Network) -> None:
    for tier in reduced.tiers:
        assert tier.domain.shape == (reduced.ranks,)
        assert set(tier.domain.tolist()) == set(range(tier.uplink_bytes_per_s.size))
        assert (tier.uplink_bytes_per_s > 0).all()
        assert tier.pair_bytes_per_s > 0
    assert not reduced.tiers[-1].domain.any()
    for plane in reduced.planes:
        assert plane.port_bytes_per_s.shape == (reduced.ranks,)
        assert (plane.port_bytes_per_s > 0).all()
        assert np.isfinite(plane.port_bytes_per_s).all()


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_cluster_reduces_to_whole_tiers(
    case: tuple[ClusterSpec, Accelerator, dict[str, Fabric], int],
) -> None:
    spec, chip, fabrics, chips = case
    reduced = network(spec, chip, fabrics, chips)
    assert reduced.ranks == chips * chip.ranks_per_chip
    check_tiers(reduced)
    ranks = np.arange(reduced.ranks, dtype=np.int32)
    meeting = reduced.meeting_tier(ranks[:, None], ranks[None, :])
    np.testing.assert_array_equal(meeting, meeting.T)
    assert (np.diag(meeting) == -1).all()
    assert ((meeting >= 0) | np.eye(reduced.ranks, dtype=bool)).all()
    same_node = reduced.node[:, None] == reduced.node[None, :]
    assert (meeting[same_node] <= 0).all()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_metrics_hold_together(case: tuple[ClusterSpec, Accelerator, dict[str, Fabric], int]) -> None:
    spec, chip, fabrics, chips = case
    graph = build_graph(spec, chip, fabrics, chips)
    reduced = reduce_graph(graph)
    rows = describe(reduced)
    for row in rows:
        if row.tier == "leaf" and row.oversubscription is not None and spec.scale_out:
            np.testing.assert_allclose(row.oversubscription, spec.scale_out.oversubscription)
        elif row.oversubscription is not None:
            np.testing.assert_allclose(row.oversubscription, 1.0)
    parts = count_parts(graph)
    assert parts.nics == (reduced.ranks if len(reduced.planes) == 2 else 0)
    assert parts.nodes == -(-chips // spec.chips_per_node)
    assert 2 * parts.links == graph.number_of_edges()
    bisection = bisection_bytes_per_s(reduced)
    ports = sum(float(plane.port_bytes_per_s.sum()) for plane in reduced.planes)
    assert (bisection > 0) == (reduced.ranks > 1)
    assert bisection <= ports
    assert diameter_hops(graph) == (max(row.hops for row in rows) if reduced.ranks > 1 else 0)


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(1.5, 10.0))
def test_faster_ports_widen_the_bisection_in_proportion(
    case: tuple[ClusterSpec, Accelerator, dict[str, Fabric], int], factor: float
) -> None:
    spec, chip, fabrics, chips = case
    faster = {
        name: fabric.model_copy(update={"port_bytes_per_s": fabric.port_bytes_per_s * factor})
        for name, fabric in fabrics.items()
    }
    before = bisection_bytes_per_s(network(spec, chip, fabrics, chips))
    np.testing.assert_allclose(bisection_bytes_per_s(network(spec, chip, faster, chips)), before * factor)
