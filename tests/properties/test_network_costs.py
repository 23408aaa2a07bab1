"""What holds for every transfer, collective and exchange, whatever the network."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulator.calibration.fabrics import (
    CollectiveConstants,
    CopyConstants,
    ExpertParallelConstants,
    FabricCalibration,
    Kernel,
    Protocol,
)
from simulator.cost.collectives import ALGORITHMS, KINDS, Algorithm, CommCost, Kind, collective, transfer
from simulator.cost.expert_parallel import Mode, expert_paths
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.errors import UserError
from topologies.build import network
from topologies.network import Network
from topologies.specs import Accelerator, ClusterSpec, Fabric, Memory, Peak, ScaleOut, ScaleUp

PEAK = Peak(bf16_flop_per_s=1e15, source="test")
MEMORY = Memory(capacity_bytes=64e9, bandwidth_bytes_per_s=1e12, source="test")
MODES: tuple[Mode, ...] = ("normal", "low-latency")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Whole nodes, at least two ranks."""
    node = draw(st.sampled_from([1, 2, 4, 8]))
    mesh = draw(st.booleans())
    inner = Fabric(
        id="in", name="In", kind="scale-up", shape="mesh" if mesh else "switch", port_bytes_per_s=200e9,
        near_latency_s=1e-6, source="test",
    )  # fmt: skip
    outer = Fabric(
        id="out", name="Out", kind="scale-out", port_bytes_per_s=50e9, near_latency_s=3e-6, far_latency_s=5e-6,
        source="test",
    )  # fmt: skip
    rails = draw(st.booleans())
    scale_out = ScaleOut(
        fabric="out", leaf_nodes=draw(st.integers(1, 3)), rail_optimised=rails, planes=rails and draw(st.booleans()),
        oversubscription=draw(st.sampled_from([1.0, 3.0])),
    )  # fmt: skip
    scale_up = ScaleUp(fabric="in", domain_chips=node * (1 if mesh else draw(st.integers(1, 3))))
    spec = ClusterSpec(
        id="c", name="C", chip="x", chips=8, chips_per_node=node, scale_up=scale_up, scale_out=scale_out, source="test"
    )
    chip = Accelerator(id="x", name="x", vendor="v", family="f", peak=PEAK, memory=MEMORY)
    nodes = draw(st.integers(1 if node > 1 else 2, 6))
    return network(spec, chip, {"in": inner, "out": outer}, node * nodes)


@st.composite
def calibrations(draw: st.DrawFn) -> Callable[[str], FabricCalibration]:
    fraction, time_s = st.floats(0.1, 1.0), st.floats(0.0, 1e-4)
    sourced = {"kind": "assumed", "source": "test"}
    protocols = {
        name: draw(st.none() | st.builds(Protocol, share=fraction, ramp_s=time_s)) for name in ("medium", "small")
    }
    kernels = {
        name: draw(st.none() | st.builds(Kernel, fraction=fraction, ramp_s=time_s))
        for name in ("in_switch", "exchange")
    }
    library = {"library": draw(st.sampled_from(["NCCL", "HCCL", "RCCL"])), "copy_gain": draw(st.none() | st.just(2.0))}
    found = {}
    for name in ("in", "out"):
        ring = {"fraction": draw(fraction), **{key: draw(time_s) for key in ("step_s", "launch_s", "ramp_s")}}
        copies = CopyConstants.model_validate(
            {**sourced, "write_fraction": draw(fraction), "read_fraction": draw(fraction), "launch_s": draw(time_s)}
        )
        fixed = {key: draw(time_s) for key in ("dispatch_fixed_s", "combine_fixed_s", "doubling_s")}
        rate = draw(st.none() | st.floats(1e9, 1e11))
        how = {"overlap_exponent": draw(st.none() | st.floats(1.0, 8.0)), "core_bytes_per_s": rate, "cores": 20}
        normal, low_latency = (
            ExpertParallelConstants.model_validate(
                {**sourced, **fixed, **how, "fraction": draw(fraction), "copies": sent}
            )
            for sent in ("rank", "expert")
        )
        ring_constants = CollectiveConstants.model_validate({**sourced, **ring, **protocols, **kernels, **library})
        found[name] = FabricCalibration(
            fabric=name, collective=ring_constants, copies=copies, normal=normal, low_latency=low_latency
        )
    return found.__getitem__


def widened(net: Network, plane: int, factor: float) -> Network:
    planes = tuple(
        replace(each, port_bytes_per_s=each.port_bytes_per_s * factor) if index == plane else each
        for index, each in enumerate(net.planes)
    )
    tiers = tuple(
        replace(
            tier, uplink_bytes_per_s=tier.uplink_bytes_per_s * factor, pair_bytes_per_s=tier.pair_bytes_per_s * factor
        )
        if tier.plane == plane
        else tier
        for tier in net.tiers
    )
    return replace(net, planes=planes, tiers=tiers)


@settings(max_examples=60, deadline=None)
@given(networks(), calibrations(), st.integers(0, 2**32 - 1))
def test_no_transfer_undercuts_any_link(
    net: Network, calibration: Callable[[str], FabricCalibration], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    source, target = draw.integers(0, net.ranks, (2, 20)).astype(np.int32)
    size = draw.uniform(1, 1e9, 20)
    cost = transfer(net, source, target, size, calibration)
    assert cost.bandwidth_s >= cost.bound_s * (1 - 1e-12)
    tier = net.meeting_tier(source, target)
    for flow in np.flatnonzero(source != target):
        met = net.tiers[tier[flow]]
        port = net.planes[met.plane].port_bytes_per_s
        narrowest = min(port[source[flow]], port[target[flow]], met.pair_bytes_per_s)
        assert cost.bound_s >= size[flow] / narrowest * (1 - 1e-12)
    for index, level in enumerate(net.tiers[:-1]):
        crossing = (tier > index) & np.array([net.tiers[each].plane == level.plane for each in tier])
        for domain in np.unique(level.domain[source[crossing]]):
            sent = size[crossing & (level.domain[source] == domain)].sum()
            assert cost.bound_s >= sent / level.uplink_bytes_per_s[domain] * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(networks(), calibrations(), st.sampled_from(KINDS), st.floats(1, 1e10), st.floats(1, 8), st.data())
def test_collectives_are_bounded_and_never_hurt_by_bandwidth(
    net: Network,
    calibration: Callable[[str], FabricCalibration],
    kind: Kind,
    size_bytes: float,
    factor: float,
    data: st.DataObject,
) -> None:
    count = data.draw(st.sampled_from([n for n in range(1, net.ranks) if net.ranks % n == 0]))
    strided = data.draw(st.booleans())
    groups = np.arange(net.ranks, dtype=np.int32).reshape(count, -1)
    groups = groups if not strided else np.arange(net.ranks, dtype=np.int32).reshape(-1, count).T.copy()
    cost = collective(net, groups, kind, size_bytes, calibration)
    assert 0 < cost.bound_s <= cost.bandwidth_s * (1 + 1e-12)
    for plane in range(len(net.planes)):
        wider = collective(widened(net, plane, factor), groups, kind, size_bytes, calibration)
        assert wider.time_s <= cost.time_s * (1 + 1e-9)
    alone = collective(net, groups[:1], kind, size_bytes, calibration)
    # Unequal groups are priced with the constants of the outermost plane that any of them uses, so a group that stays
    # inside compares only if that is its plane too.
    if alone.plane == cost.plane:
        assert alone.time_s <= cost.time_s * (1 + 1e-9)
    assert collective(net, groups, kind, 2 * size_bytes, calibration).time_s >= cost.time_s * (1 - 1e-9)


@settings(max_examples=80, deadline=None)
@given(
    networks(),
    calibrations(),
    st.sampled_from(KINDS),
    st.sampled_from(ALGORITHMS),
    st.floats(1, 1e10),
    st.floats(1, 8),
    st.integers(0, 2**32 - 1),
)
def test_each_algorithm_is_bounded_and_follows_bytes_and_bandwidth(
    net: Network,
    calibration: Callable[[str], FabricCalibration],
    kind: Kind,
    algorithm: Algorithm,
    size_bytes: float,
    factor: float,
    seed: int,
) -> None:
    group = np.arange(net.ranks, dtype=np.int32)[None, :]

    def cost(of: Network, ranks: NDArray[np.int32], size: float) -> CommCost | None:
        try:
            return collective(of, ranks, kind, size, calibration, algorithm)
        except UserError:
            return None

    found = cost(net, group, size_bytes)
    if found is None:
        return
    assert 0 < found.bound_s <= found.bandwidth_s * (1 + 1e-12)
    more, wider = cost(net, group, size_bytes * factor), cost(widened(net, 0, factor), group, size_bytes)
    assert more is not None
    assert wider is not None
    assert more.time_s >= found.time_s * (1 - 1e-9)
    assert wider.time_s <= found.time_s * (1 + 1e-9)
    if algorithm == "direct":  # whoever sends to everyone has no order
        mixed = cost(net, np.random.default_rng(seed).permuted(group, axis=1), size_bytes)
        assert mixed is not None
        assert mixed.time_s == pytest.approx(found.time_s)


@settings(max_examples=60, deadline=None)
@given(networks(), calibrations(), st.sampled_from(MODES), st.integers(0, 2**32 - 1), st.floats(1, 8))
def test_exchanges_are_bounded_and_never_hurt_by_bandwidth(
    net: Network, calibration: Callable[[str], FabricCalibration], mode: Mode, seed: int, factor: float
) -> None:
    draw = np.random.default_rng(seed)
    groups = np.arange(net.ranks, dtype=np.int32)[None, :]
    paths = expert_paths(net, groups, mode, calibration)
    to_rank, to_node = draw.uniform(0, 1e3, (4, paths.ranks)), draw.uniform(0, 1e3, (4, paths.nodes))
    cost = dispatch_cost(paths, "dispatch", to_rank, to_node, 7408)
    assert (cost.bound_s <= cost.bandwidth_s * (1 + 1e-12)).all()
    assert (cost.balanced_s <= cost.bandwidth_s * (1 + 1e-12)).all()
    for plane in range(len(net.planes)):
        wider = expert_paths(widened(net, plane, factor), groups, mode, calibration)
        assert (dispatch_cost(wider, "dispatch", to_rank, to_node, 7408).time_s <= cost.time_s * (1 + 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(networks(), calibrations(), st.sampled_from(MODES), st.integers(0, 2**32 - 1))
def test_order_of_ranks_inside_nodes_does_not_matter(
    net: Network, calibration: Callable[[str], FabricCalibration], mode: Mode, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    groups = np.arange(net.ranks, dtype=np.int32)[None, :]
    paths = expert_paths(net, groups, mode, calibration)
    to_rank, to_node = draw.uniform(0, 1e3, paths.ranks), draw.uniform(0, 1e3, paths.nodes)
    local = draw.permutation(net.ranks_per_node)
    moved = to_rank.reshape(paths.nodes, -1)[:, local].ravel()
    before, after = (dispatch_cost(paths, "combine", copies, to_node, 14336).time_s for copies in (to_rank, moved))
    np.testing.assert_allclose(before, after, rtol=1e-9)
