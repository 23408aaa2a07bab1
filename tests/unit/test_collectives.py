"""Closed forms of collectives, free of calibration where fractions are one."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.calibration.fabrics import CollectiveConstants, ExpertParallelConstants, FabricCalibration, Protocol
from simulator.cost.collectives import FREE, Kind, collective, transfer
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network, Plane, Tier

STEP, FAR_STEP, LAUNCH = 1e-6, 10e-6, 5e-6
NO_EP = ExpertParallelConstants(
    kind="assumed", source="test", fraction=1, dispatch_fixed_s=0, combine_fixed_s=0, doubling_s=0, copies="rank"
)
KINDS: tuple[tuple[Kind, float], ...] = (("all_reduce", 2.0), ("all_gather", 1.0), ("reduce_scatter", 1.0))


def constants(**near: object) -> Callable[[str], FabricCalibration]:
    """Fabric `far` has long steps; every other one the given constants."""

    def calibration(name: str) -> FabricCalibration:
        base = {"kind": "assumed", "source": "test", "fraction": 1.0, "step_s": STEP, "launch_s": LAUNCH}
        found = {**base, "step_s": FAR_STEP} if name == "far" else {**base, **near}
        record = CollectiveConstants.model_validate(found)
        return FabricCalibration(fabric=name, collective=record, normal=NO_EP, low_latency=NO_EP)

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
    quick = constants(small=Protocol(fraction=0.25, step_s=STEP / 4))
    small, large = (collective(server(8), ranks(range(8)), "all_gather", size, quick) for size in (1e3, 1e9))
    assert small.latency_s == pytest.approx(LAUNCH + 7 * STEP / 4)
    assert small.bandwidth_s == pytest.approx(4 * small.bound_s)
    assert large == collective(server(8), ranks(range(8)), "all_gather", 1e9, constants())


def test_a_reducing_switch_carries_each_buffer_once_and_each_share_once_more() -> None:
    switch = constants(in_switch=Protocol(fraction=0.8, step_s=3 * STEP))
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


def test_small_messages_over_many_nodes_go_by_hierarchy() -> None:
    nodes, local = 4, 8
    cost = collective(pod(nodes, local), ranks(range(nodes * local)), "all_gather", 1e3, constants())
    assert cost.latency_s == pytest.approx(LAUNCH + 7 * STEP + LAUNCH + 3 * FAR_STEP)
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


@pytest.mark.parametrize("size", [2, 8])
def test_uniform_all_to_all_behind_a_switch(size: int) -> None:
    source, target = (side.ravel().astype(np.int32) for side in np.indices((size, size)))
    cost = transfer(server(size), source, target, np.full(size * size, 1e9 / size), constants())
    assert cost.bandwidth_s == pytest.approx((size - 1) / size * 1e9 / 100e9)
    assert cost.latency_s == 1e-6


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
