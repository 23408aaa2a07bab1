"""Closed forms of collectives, free of calibration where fractions are one."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.calibration.fabrics import (
    CollectiveConstants,
    CopyConstants,
    ExpertParallelConstants,
    FabricCalibration,
    Kernel,
    Protocol,
)
from simulator.cost.collectives import FREE, Kind, all_to_all_v, collective, send_recv, transfer
from simulator.cost.collectives.tree import both_parents
from simulator.errors import UserError
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network, Plane, Tier

STEP, FAR_STEP, LAUNCH = 1e-6, 10e-6, 5e-6
NO_EP = ExpertParallelConstants(
    kind="assumed", source="test", fraction=1, dispatch_fixed_s=0, combine_fixed_s=0, doubling_s=0, copies="rank"
)
COPIES = CopyConstants(kind="assumed", source="test", write_fraction=1, read_fraction=0.5, launch_s=0)
KINDS: tuple[tuple[Kind, float], ...] = (("all_reduce", 2.0), ("all_gather", 1.0), ("reduce_scatter", 1.0))


def constants(**near: object) -> Callable[[str], FabricCalibration]:
    """Fabric `far` has long steps; every other one the given constants."""

    def calibration(name: str) -> FabricCalibration:
        base = {"kind": "assumed", "source": "test", "fraction": 1.0, "step_s": STEP, "launch_s": LAUNCH}
        found = {**base, "step_s": FAR_STEP} if name == "far" else {**base, **near}
        record = CollectiveConstants.model_validate(found)
        return FabricCalibration(fabric=name, collective=record, copies=COPIES, normal=NO_EP, low_latency=NO_EP)

    return calibration


def ranks(*groups: range) -> NDArray[np.int32]:
    return np.array(groups, dtype=np.int32)


def server(size: int, port: float = 100e9, pair: float = np.inf) -> Network:
    one = np.zeros(size, dtype=np.int32)
    tier = Tier("node", 0, one, 1e-6, np.array([np.inf]), pair)
    return Network(size, one, np.arange(size, dtype=np.int32), (Plane("Bus", "near", np.full(size, port)),), (tier,))


def pod(nodes: int, local: int, port: float = 400e9, nic: float = 50e9) -> Network:
    """Nodes with a switch inside and one rail-optimised, non-blocking network outside."""
    total = nodes * local
    node = np.repeat(np.arange(nodes, dtype=np.int32), local)
    rail = np.tile(np.arange(local, dtype=np.int32), nodes)
    planes = (Plane("Bus", "near", np.full(total, port)), Plane("Net", "far", np.full(total, nic)))
    tiers = (
        Tier("node", 0, node, 1e-6, np.full(nodes, np.inf)),
        Tier("leaf", 1, rail, 3e-6, np.full(local, nic * nodes)),
        Tier("spine", 1, np.zeros(total, dtype=np.int32), 4e-6, np.array([np.inf])),
    )
    return Network(total, node, rail, planes, tiers)


def catalogue_network(name: str, chips: int) -> Network:
    spec = cluster(name)
    names = [spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])]
    return network(spec, accelerator(spec.chip), {each: fabric(each) for each in names}, chips)


@pytest.mark.parametrize(("kind", "turns"), KINDS)
@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("size_bytes", [1.0, 1e6, 1e9])
def test_ring_on_a_switch(kind: Kind, turns: float, size: int, size_bytes: float) -> None:
    cost = collective(server(size), ranks(range(size)), kind, size_bytes, constants())
    assert cost.bandwidth_s == pytest.approx(turns * (size - 1) / size * size_bytes / 100e9)
    assert cost.latency_s == pytest.approx(LAUNCH + turns * (size - 1) * STEP)
    assert cost.bound_s == cost.bandwidth_s
    assert cost.time_s == cost.latency_s + cost.bandwidth_s


def test_achieved_fraction_slows_bytes_but_not_the_bound() -> None:
    whole = collective(server(4), ranks(range(4)), "all_gather", 1e9, constants())
    part = collective(server(4), ranks(range(4)), "all_gather", 1e9, constants(fraction=0.5))
    assert part.bandwidth_s == pytest.approx(2 * whole.bandwidth_s)
    assert part.bound_s == pytest.approx(whole.bound_s)


@pytest.mark.parametrize(("kind", "turns"), KINDS)
def test_direct_exchange_uses_every_link_of_a_mesh(kind: Kind, turns: float) -> None:
    size, pair = 8, 28e9
    cost = collective(server(size, pair * (size - 1), pair), ranks(range(size)), kind, 1e9, constants())
    assert cost.bandwidth_s == pytest.approx(turns * 1e9 / size / pair)  # a shard over each link
    assert cost.latency_s == pytest.approx(LAUNCH + turns * STEP)


def test_two_ranks_of_a_mesh_have_one_link() -> None:
    cost = collective(server(8, 196e9, 28e9), ranks(range(2)), "all_gather", 1e9, constants())
    assert cost.bandwidth_s == pytest.approx(0.5e9 / 28e9)
    assert "direct link" in cost.bottleneck


def test_small_messages_take_the_small_protocol() -> None:
    quick = constants(ramp_s=4 * STEP, small=Protocol(share=0.25))
    small, large = (collective(server(8), ranks(range(8)), "all_gather", size, quick) for size in (1e3, 1e9))
    assert small.latency_s == pytest.approx(LAUNCH + 7 * STEP)
    assert large.latency_s == pytest.approx(LAUNCH + 11 * STEP)
    assert small.bandwidth_s == pytest.approx(4 * small.bound_s)
    assert large.bandwidth_s == pytest.approx(large.bound_s)


def test_a_reducing_switch_carries_each_buffer_once_and_each_share_once_more() -> None:
    switch = constants(in_switch=Kernel(fraction=0.8, ramp_s=6 * STEP))
    cost = collective(server(8), ranks(range(8)), "all_reduce", 1e9, switch)
    assert cost.bound_s == pytest.approx(1e9 * (1 + 1 / 8) / 100e9)
    assert cost.bandwidth_s == pytest.approx(cost.bound_s / 0.8)
    assert cost.latency_s == pytest.approx(LAUNCH + 6 * STEP)
    for kind in ("all_gather", "reduce_scatter"):
        assert collective(server(8), ranks(range(8)), kind, 1e9, switch).bandwidth_s == pytest.approx(7 / 8 * 0.01)


def test_ring_over_nodes_leaves_by_every_nic() -> None:
    nodes, local, size = 4, 8, 4e9
    cost = collective(pod(nodes, local), ranks(range(nodes * local)), "all_reduce", size, constants())
    assert cost.bandwidth_s == pytest.approx(2 * 31 / 32 * size / local / 50e9)
    assert cost.latency_s == pytest.approx(LAUNCH + 2 * (3 * FAR_STEP + 28 * STEP))
    assert "Net port" in cost.bottleneck


def test_small_messages_over_many_nodes_go_by_hierarchy_where_the_library_has_it() -> None:
    nodes, local = 4, 8
    hccl = constants(library="HCCL")
    cost = collective(pod(nodes, local), ranks(range(nodes * local)), "all_gather", 1e3, hccl)
    assert cost.algorithm == "hierarchical"
    assert cost.latency_s == pytest.approx(LAUNCH + STEP + 2 * FAR_STEP)  # direct, then halving-doubling
    expected = 1e3 * 7 / 8 / 400e9 + 1e3 / 8 * 3 / 4 / 50e9
    assert cost.bandwidth_s == pytest.approx(expected)


def test_groups_on_their_own_rails_do_not_disturb_each_other() -> None:
    net, nodes, local = pod(4, 8), 4, 8
    rails = np.arange(nodes * local, dtype=np.int32).reshape(nodes, local).T.copy()
    one = collective(net, rails[:1], "reduce_scatter", 1e9, constants())
    assert collective(net, rails, "reduce_scatter", 1e9, constants()).time_s == pytest.approx(one.time_s)


def test_groups_on_one_uplink_share_it() -> None:
    net = catalogue_network("h800-cluster", 16)
    narrow = Tier("leaf", 1, net.node, 3e-6, np.full(2, 100e9))
    net = Network(net.ranks, net.node, net.rail, net.planes, (net.tiers[0], narrow, net.tiers[-1]))
    pairs = np.arange(16, dtype=np.int32).reshape(2, 8).T.copy()
    one = collective(net, pairs[:1], "all_gather", 1e9, constants())
    assert one.bandwidth_s == pytest.approx(0.5e9 / 50e9)
    assert collective(net, pairs, "all_gather", 1e9, constants()).bandwidth_s == pytest.approx(8 * 0.5e9 / 100e9)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_uniform_all_to_all_behind_a_switch(size: int) -> None:
    cost = collective(server(size), ranks(range(size)), "all_to_all", 1e9, constants())
    assert cost.bandwidth_s == pytest.approx((size - 1) / size * 1e9 / 100e9)
    assert cost.latency_s == pytest.approx(LAUNCH + STEP)
    even = all_to_all_v(server(size), ranks(range(size)), np.full((size, size), 1e9 / size), constants())
    assert even.time_s == pytest.approx(cost.time_s)


def test_uneven_all_to_all_waits_for_its_busiest_port() -> None:
    sizes = np.array([[9e9, 1e9, 2e9], [3e9, 0.0, 0.0], [4e9, 0.0, 5e9]])
    cost = all_to_all_v(server(3), ranks(range(3)), sizes, constants())
    assert cost.bandwidth_s == pytest.approx(7e9 / 100e9)  # into rank 0
    assert "in of rank 0" in cost.bottleneck


@pytest.mark.parametrize("size", [2, 3, 5, 8, 16])
def test_double_tree_carries_each_buffer_up_and_down_once(size: int) -> None:
    cost = collective(server(size), ranks(range(size)), "all_reduce", 1e9, constants(), "tree")
    assert cost.latency_s == pytest.approx(LAUNCH + 2 * np.ceil(np.log2(size)) * STEP)
    assert cost.bandwidth_s <= 2 * 1e9 / 100e9 * (1 + 1e-12)
    down = collective(server(size), ranks(range(size)), "broadcast", 1e9, constants(), "tree")
    assert down.latency_s == pytest.approx(LAUNCH + np.ceil(np.log2(size)) * STEP)
    assert down.bandwidth_s <= 1e9 / 100e9 * (1 + 1e-12)


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 6, 7, 12, 16, 31])
def test_both_trees_reach_every_node_and_no_node_is_inside_twice(nodes: int) -> None:
    inside = np.zeros(nodes)
    for above in both_parents(nodes):
        root = np.flatnonzero(above < 0)
        assert root.size == 1
        depth, at = 0, np.arange(nodes)
        while (at != root[0]).any():
            at = np.where(at == root[0], at, above[at])
            depth += 1
        assert depth <= np.ceil(np.log2(nodes))
        children = np.bincount(above[above >= 0], minlength=nodes)
        assert children.max(initial=0) <= 2
        inside += (children > 0) & (above >= 0)  # a root has one child: as little to do as a leaf
        assert children[root[0]] <= 1
    assert inside.max(initial=0) <= 1


@pytest.mark.parametrize("size", [2, 4, 8, 16])
@pytest.mark.parametrize(("kind", "turns"), KINDS)
def test_halving_doubling_takes_few_steps_and_no_more_bytes_than_a_ring(kind: Kind, turns: float, size: int) -> None:
    cost = collective(server(size), ranks(range(size)), kind, 1e9, constants(), "halving-doubling")
    assert cost.bandwidth_s == pytest.approx(turns * (size - 1) / size * 1e9 / 100e9)
    assert cost.latency_s == pytest.approx(LAUNCH + turns * np.log2(size) * STEP)


def test_halving_doubling_folds_ranks_beyond_a_power_of_two() -> None:
    cost = collective(server(6), ranks(range(6)), "all_reduce", 1e9, constants(), "halving-doubling")
    assert cost.bandwidth_s == pytest.approx((2 * 3 / 4 + 2) * 1e9 / 100e9)
    assert cost.latency_s == pytest.approx(LAUNCH + (2 * 2 + 2) * STEP)


@pytest.mark.parametrize("size", [2, 8])
def test_broadcast_round_a_ring_passes_each_byte_on_once(size: int) -> None:
    cost = collective(server(size), ranks(range(size)), "broadcast", 1e9, constants(), "ring")
    assert cost.bandwidth_s == pytest.approx(1e9 / 100e9)
    assert cost.latency_s == pytest.approx(LAUNCH + (size - 1) * STEP)


def test_own_share_is_copied_meanwhile_or_counted() -> None:
    counted = collective(server(4), ranks(range(4)), "all_gather", 1e9, constants(copy_gain=2.0))
    assert counted.bandwidth_s == pytest.approx((3 / 4 + 1 / 4 / 2) * 1e9 / 100e9)


def test_tree_over_nodes_leaves_by_every_nic_and_takes_few_long_steps() -> None:
    nodes, local = 4, 8
    cost = collective(pod(nodes, local), ranks(range(nodes * local)), "all_reduce", 4e9, constants(), "tree")
    assert cost.latency_s == pytest.approx(LAUNCH + 2 * (2 * FAR_STEP + 7 * STEP))
    assert cost.bandwidth_s == pytest.approx(2 * 4e9 / local / 50e9)


def test_switches_reduce_inside_nodes_while_a_tree_joins_them() -> None:
    switch = constants(in_switch=Kernel(fraction=0.8, ramp_s=6 * STEP))
    group = ranks(range(32))
    cost = collective(pod(4, 8), group, "all_reduce", 4e9, switch, "in-switch-tree")
    assert cost.bandwidth_s == pytest.approx(2 * 4e9 / 8 / 50e9)
    slow_inside = collective(pod(4, 8, port=20e9), group, "all_reduce", 4e9, switch, "in-switch-tree")
    assert slow_inside.bandwidth_s == pytest.approx(4e9 * (1 + 1 / 8) / 20e9 / 0.8)


def test_libraries_choose_the_fastest_of_what_they_have() -> None:
    group, net = ranks(range(32)), pod(4, 8)
    small, large = (collective(net, group, "all_reduce", size, constants()) for size in (1e3, 1e10))
    assert (small.algorithm, large.algorithm) == ("tree", "ring")
    assert collective(server(8), ranks(range(8)), "all_reduce", 1e3, constants()).algorithm == "ring"
    assert collective(net, group, "all_to_all", 1e9, constants()).algorithm == "pairwise"


def test_an_algorithm_that_cannot_do_it_is_refused_with_those_that_can() -> None:
    with pytest.raises(UserError, match=r"'tree': can't do this among 6 ranks here; one of auto, ring, direct$"):
        collective(server(6), ranks(range(6)), "all_gather", 1e6, constants(), "tree")


def test_exchange_has_a_kernel_of_its_own_and_a_protocol_for_small_messages() -> None:
    own = constants(exchange=Kernel(fraction=0.5, ramp_s=9 * STEP), small=Protocol(share=0.25))
    source, target = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32)
    small, large = (send_recv(server(2), source, target, np.array([size]), own) for size in (16e3, 1e9))
    assert (small.latency_s, large.latency_s) == pytest.approx((LAUNCH + STEP, LAUNCH + 10 * STEP))
    assert large.bandwidth_s == pytest.approx(1e9 / 100e9 / 0.5)
    assert small.bandwidth_s == pytest.approx(16e3 / 100e9 / 0.5 / 0.25)


def test_reads_and_writes_differ() -> None:
    source, target = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32)
    write, read = (transfer(server(2), source, target, np.array([1e9]), constants(), way) for way in ("write", "read"))
    assert write.bandwidth_s == pytest.approx(1e9 / 100e9)
    assert read.bandwidth_s == pytest.approx(2 * write.bandwidth_s)
    assert write.latency_s == 1e-6


@pytest.mark.parametrize("ranks_", [2, 8, 64])
def test_forms_of_astra_sim(ranks_: int) -> None:
    """Its analytical back ends on one dimension: ring all-reduce, and direct all-to-all behind a contended port."""
    size, rate, step = 2.0**28, 100e9, 3e-6
    one = constants(step_s=step, launch_s=0.0)
    net, group = server(ranks_, rate), ranks(range(ranks_))
    assert collective(net, group, "all_reduce", size, one, "ring").time_s == pytest.approx(
        2 * (ranks_ - 1) * (step + size / (ranks_ * rate))
    )
    assert collective(net, group, "all_to_all", size, one).time_s == pytest.approx(
        step + (ranks_ - 1) / ranks_ * size / rate
    )


def test_ring_over_4096_ranks_and_all_to_all_over_131072_are_priced_quickly() -> None:
    net, group = pod(512, 8), ranks(range(4096))
    ring_s = min(_seconds(lambda: collective(net, group, "all_reduce", 1e9, constants(), "ring")) for _ in range(5))
    assert ring_s < 0.02  # 10 ms on an idle core; the machine of the tests may be busy
    wide, everyone = pod(16_384, 8), ranks(range(131_072))
    assert _seconds(lambda: collective(wide, everyone, "all_to_all", 1e9, constants(), "direct")) < 2.0


def _seconds(priced: Callable[[], object]) -> float:
    start = time.process_time()
    priced()
    return time.process_time() - start


def test_nothing_to_send_is_free() -> None:
    assert collective(server(4), ranks(range(1)), "all_reduce", 1e9, constants()) == FREE
    assert collective(server(4), ranks(range(4)), "all_reduce", 0.0, constants()) == FREE
    alone = np.zeros(1, dtype=np.int32)
    assert transfer(server(4), alone, alone, np.ones(1), constants()) == FREE


@pytest.mark.parametrize("stride", [1, 8, 16])
def test_a_large_cluster_is_priced_quickly(stride: int) -> None:
    net = catalogue_network("deepseek-h800-2048", 2048)
    groups = np.arange(2048, dtype=np.int32).reshape(-1, 128, stride).transpose(0, 2, 1).reshape(-1, 128)
    collective(net, groups, "reduce_scatter", 1e9)
    times = []
    for _ in range(3):
        start = time.process_time()
        collective(net, groups, "reduce_scatter", 1e9)
        times.append(time.process_time() - start)
    assert min(times) < 0.05
