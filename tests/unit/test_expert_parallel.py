"""Dispatch and combine against closed forms, and against counting copies one pair of ranks at a time."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.calibration.fabrics import CollectiveConstants, CopyConstants, ExpertParallelConstants, FabricCalibration
from simulator.cost.expert_parallel import ExpertPaths, Mode, Op, expert_paths, over_nics, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network, Plane, Tier

Floats = NDArray[np.float64]
FIXED = 20e-6
OPS: tuple[Op, Op] = ("dispatch", "combine")
COPIES = CopyConstants(kind="assumed", source="test", write_fraction=1, read_fraction=1, launch_s=0)
RING = CollectiveConstants(kind="assumed", source="test", fraction=1, step_s=0, launch_s=0)


def constants(**given: Any) -> Callable[[str], FabricCalibration]:
    def calibration(name: str) -> FabricCalibration:
        base = {"fraction": 1.0, "dispatch_fixed_s": FIXED, "combine_fixed_s": 2 * FIXED, "doubling_s": 1e-6}
        found = {"kind": "assumed", "source": "test", **base, **given}
        normal, low_latency = (
            ExpertParallelConstants.model_validate({"copies": copies, **found}) for copies in ("rank", "expert")
        )
        return FabricCalibration(fabric=name, collective=RING, copies=COPIES, normal=normal, low_latency=low_latency)

    return calibration


def catalogue_network(name: str, chips: int) -> Network:
    spec = cluster(name)
    names = [spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])]
    return network(spec, accelerator(spec.chip), {each: fabric(each) for each in names}, chips)


def groups_of(net: Network, ranks: int) -> NDArray[np.int32]:
    return np.arange(net.ranks, dtype=np.int32).reshape(-1, ranks)


def rail_pod(nodes: int = 4, local: int = 4, uplink: float = 40.0) -> Network:
    """Rail-optimised pods of two nodes below a spine, uplinks narrow unless told otherwise."""
    total = nodes * local
    node = np.repeat(np.arange(nodes, dtype=np.int32), local)
    rail = np.tile(np.arange(local, dtype=np.int32), nodes)
    leaf = (node // 2 * local + rail).astype(np.int32)
    planes = (Plane("Bus", "near", np.full(total, 200.0)), Plane("Net", "far", np.full(total, 50.0)))
    tiers = (
        Tier("node", 0, node, 1e-6, np.full(nodes, np.inf)),
        Tier("leaf", 1, leaf, 3e-6, np.full(leaf.max() + 1, uplink)),
        Tier("spine", 1, np.zeros(total, dtype=np.int32), 4e-6, np.array([np.inf])),
    )
    return Network(total, node, rail, planes, tiers)


def supernode(nodes: int = 4, local: int = 4) -> Network:
    """One scale-up plane over all nodes, narrower between them."""
    total = nodes * local
    node = np.repeat(np.arange(nodes, dtype=np.int32), local)
    tiers = (
        Tier("node", 0, node, 1e-6, np.full(nodes, 300.0)),
        Tier("supernode", 0, np.zeros(total, dtype=np.int32), 2e-6, np.array([np.inf])),
    )
    return Network(
        total, node, (np.arange(total) % local).astype(np.int32), (Plane("UB", "near", np.full(total, 100.0)),), tiers
    )


def mesh(size: int = 8) -> Network:
    one = np.zeros(size, dtype=np.int32)
    tier = Tier("node", 0, one, 1e-6, np.array([np.inf]), 28.0)
    return Network(size, one, np.arange(size, dtype=np.int32), (Plane("Mesh", "near", np.full(size, 196.0)),), (tier,))


def price(paths: ExpertPaths, to_rank: Floats, to_node: Floats, size: float = 1.0) -> float:
    return float(dispatch_cost(paths, "dispatch", to_rank, to_node, size).bandwidth_s)


def busiest_s(net: Network, flows: list[tuple[int, int, float]]) -> float:
    """Load every link with every flow, one at a time."""
    load: dict[object, float] = defaultdict(float)
    for s, d, size in flows:
        if s == d:
            continue
        met = next(index for index, tier in enumerate(net.tiers) if tier.domain[s] == tier.domain[d])
        plane, joined = net.tiers[met].plane, net.tiers[met]
        for side, rank in (("out", s), ("in", d)):
            load[side, plane, rank] += size / net.planes[plane].port_bytes_per_s[rank]
            for index, tier in enumerate(net.tiers[:met]):
                if tier.plane == plane:
                    load[side, "up", index, tier.domain[rank]] += size / tier.uplink_bytes_per_s[tier.domain[rank]]
        load["pair", s, d] += size / joined.pair_bytes_per_s
    return max(load.values(), default=0.0)


def oracle_s(net: Network, groups: NDArray[np.int32], forwarded: bool, to_rank: Floats, to_node: Floats) -> float:
    """Send every copy of every pair; where copies are forwarded, the two stages run side by side."""
    size, first, second = groups.shape[1], [], []
    for group in groups.tolist():
        nodes = [[rank for rank in group if net.node[rank] == node] for node in dict.fromkeys(net.node[group].tolist())]
        for s in group:
            if not forwarded:
                first += [(s, d, to_rank[j] / size) for j, d in enumerate(group)]
                continue
            mine = next(node for node in nodes if s in node)
            first += [(s, node[mine.index(s)], to_node[n] / size) for n, node in enumerate(nodes)]
            second += [(s, d, to_rank[group.index(d)] / len(mine)) for d in mine]
    return max(busiest_s(net, first), busiest_s(net, second))


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
@pytest.mark.parametrize(
    ("net", "ranks"), [(rail_pod(), 8), (rail_pod(), 16), (supernode(), 8), (supernode(), 16), (mesh(), 8)]
)
def test_busiest_link_equals_counting_every_pair(net: Network, ranks: int, mode: Mode) -> None:
    draw = np.random.default_rng(ranks)
    groups = groups_of(net, ranks)
    nodes = len(np.unique(net.node[groups[0]]))
    forwarded = mode == "normal" and len(net.planes) > 1
    paths = expert_paths(net, groups, mode, constants())
    for _ in range(5):
        to_rank, to_node = draw.uniform(0, 100, ranks), draw.uniform(0, 400, nodes)
        expected = oracle_s(net, groups, forwarded, to_rank, to_node)
        assert price(paths, to_rank, to_node) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
def test_ports_carry_every_copy_that_leaves_and_no_other(mode: Mode) -> None:
    net = rail_pod(nodes=2, uplink=np.inf)
    paths = expert_paths(net, groups_of(net, 8), mode, constants())
    carried = {
        load.plane: (load.target, load.line_s_per_byte.sum(axis=0) * net.planes[load.plane].port_bytes_per_s[0])
        for load in paths.loads
    }
    # Each copy is counted where it leaves and where it arrives; the share from the same rank or node does neither.
    remote = {"normal": ("node", np.full(2, 2 * 1 / 2)), "low-latency": ("rank", np.full(8, 2 * 4 / 8))}[mode]
    inside = {"normal": ("rank", np.full(8, 2 * 3 / 4)), "low-latency": ("rank", np.full(8, 2 * 3 / 8))}[mode]
    for plane, (target, share) in enumerate((inside, remote)):
        assert carried[plane][0] == target
        np.testing.assert_allclose(carried[plane][1], share)


def test_wire_formats() -> None:
    assert token_bytes(7168, "fp8") == 7408
    assert token_bytes(7168, "bf16") == 14336
    assert token_bytes(7168, "int8") == 7680


@pytest.mark.parametrize("ranks", [16, 32, 64])
def test_low_latency_time_follows_the_remote_fraction(ranks: int) -> None:
    net = catalogue_network("h800-cluster", 64)
    paths = expert_paths(net, groups_of(net, ranks)[:1], "low-latency", constants())
    cost = dispatch_cost(paths, "dispatch", np.full(ranks, 128 * 8.0), np.zeros(ranks // 8), 7408)
    assert cost.bandwidth_s == pytest.approx((1 - 8 / ranks) * 128 * 8 * 7408 / 50e9)
    assert cost.latency_s == pytest.approx(FIXED + 1e-6 * np.log2(ranks))
    assert paths.counts_expert_copies


@pytest.mark.parametrize(
    ("ranks", "dispatch_us", "combine_us"), [(8, 77, 114), (16, 118, 195), (32, 155, 273), (64, 173, 314)]
)
def test_shipped_constants_reproduce_deepep(ranks: int, dispatch_us: float, combine_us: float) -> None:
    """128 tokens of hidden size 7,168, top-8, on H800 (deepseek-ai/DeepEP:docs/legacy.md, June 2025)."""
    net = catalogue_network("h800-cluster", 64)
    paths = expert_paths(net, groups_of(net, ranks)[:1], "low-latency")
    copies, nodes = np.full(ranks, 128 * 8.0), np.zeros(paths.nodes)
    dispatch = dispatch_cost(paths, "dispatch", copies, nodes, token_bytes(7168, "fp8"))
    combine = dispatch_cost(paths, "combine", copies, nodes, token_bytes(7168, "bf16"))
    assert dispatch.time_s == pytest.approx(dispatch_us * 1e-6, rel=0.13)
    assert combine.time_s == pytest.approx(combine_us * 1e-6, rel=0.13)


def test_normal_mode_sends_a_copy_per_node_then_per_rank() -> None:
    net = catalogue_network("h800-cluster", 32)
    paths = expert_paths(net, groups_of(net, 32), "normal", constants())
    far = price(paths, np.zeros(32), np.full(4, 1000.0), 7408)
    near = price(paths, np.full(32, 1000.0), np.zeros(4), 7408)
    assert far == pytest.approx(3 / 4 * 1000 * 4 / 32 * 7408 / 50e9)
    assert near == pytest.approx(7 / 8 * 1000 * 7408 / 200e9)
    both = price(paths, np.full(32, 1000.0), np.full(4, 1000.0), 7408)
    assert both == pytest.approx(max(far, near))


def test_stages_that_hide_badly_add_up_in_part() -> None:
    net = catalogue_network("h800-cluster", 32)
    to_rank, to_node = np.full(32, 1000.0), np.full(4, 9000.0)
    times = {
        exponent: price(
            expert_paths(net, groups_of(net, 32), "normal", constants(overlap_exponent=exponent)), to_rank, to_node
        )
        for exponent in (1.0, 2.0)
    }
    far, near = 3 / 4 * 9000 * 4 / 32 / 50e9, 7 / 8 * 1000 / 200e9
    assert times[1.0] == pytest.approx(far + near)
    assert times[2.0] == pytest.approx(np.hypot(far, near))


def test_inside_one_plane_normal_mode_is_not_forwarded() -> None:
    net = catalogue_network("gb200-nvl72", 72)
    paths = expert_paths(net, groups_of(net, 72), "normal", constants())
    assert {load.target for load in paths.loads} == {"rank"}
    assert price(paths, np.full(72, 1000.0), np.zeros(18)) == pytest.approx(71 / 72 * 1000 / 900e9)


def test_batches_and_layers_are_priced_at_once() -> None:
    net = rail_pod()
    paths = expert_paths(net, groups_of(net, 16), "normal", constants(overlap_exponent=2.0))
    draw = np.random.default_rng(0)
    to_rank, to_node = draw.uniform(0, 9, (2, 3, 16)), draw.uniform(0, 9, (2, 3, 4))
    together = dispatch_cost(paths, "combine", to_rank, to_node, 10.0)
    assert together.time_s.shape == (2, 3)
    alone = dispatch_cost(paths, "combine", to_rank[1, 2], to_node[1, 2], 10.0)
    assert together.time_s[1, 2] == pytest.approx(float(alone.time_s))
    assert together.latency_s == pytest.approx(2 * FIXED + 4e-6)
    assert (together.balanced_s <= together.bandwidth_s).all()
    assert (together.bound_s <= together.bandwidth_s * (1 + 1e-12)).all()


def test_even_copies_leave_no_imbalance() -> None:
    net = rail_pod()
    paths = expert_paths(net, groups_of(net, 16), "normal", constants())
    cost = dispatch_cost(paths, "dispatch", np.full(16, 5.0), np.full(4, 9.0), 10.0)
    assert cost.balanced_s == cost.bandwidth_s


def test_one_rank_sends_nothing() -> None:
    paths = expert_paths(mesh(), groups_of(mesh(), 1), "low-latency", constants())
    assert dispatch_cost(paths, "dispatch", np.ones(1), np.ones(1), 1e9).time_s == 0


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
def test_a_large_cluster_is_folded_quickly(mode: Mode) -> None:
    net = catalogue_network("deepseek-h800-2048", 2048)
    times = []
    for _ in range(3):
        start = time.process_time()
        expert_paths(net, groups_of(net, 64), mode)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


# 128 tokens of hidden size 7,168, top-8: dispatch in FP8 or INT8, combine in BF16 [us].
RDMA_ALONE = {8: (163, 318), 16: (173, 329), 32: (182, 350), 64: (186, 353), 128: (192, 369), 256: (194, 360)}
NVLINK_AND_RDMA = {16: (118, 195), 32: (155, 273), 64: (173, 314)}
CANN = {16: (131, 132), 32: (133, 146), 64: (141, 150)}


def slopes_us(name: str, ranks: list[int], nic: bool = False, payload: str = "fp8") -> dict[int, tuple[float, float]]:
    found = {}
    for size in ranks:
        chips = max(16, size) if name == "h800-cluster" else max(8, size // 2)
        net = catalogue_network(name, chips)
        group = np.arange(size, dtype=np.int32)[None, :]
        paths = expert_paths(over_nics(net) if nic else net, group, "low-latency")
        copies, nodes = np.full(size, 1024.0), np.zeros(paths.nodes)
        formats = {"dispatch": payload, "combine": "bf16"}
        times = [dispatch_cost(paths, op, copies, nodes, token_bytes(7168, formats[op])).time_s for op in OPS]
        found[size] = (1e6 * float(times[0]), 1e6 * float(times[1]))
    return found


@pytest.mark.parametrize(
    ("measured", "predicted"),
    [
        (RDMA_ALONE, lambda: slopes_us("h800-cluster", list(RDMA_ALONE), nic=True)),
        (NVLINK_AND_RDMA, lambda: slopes_us("h800-cluster", list(NVLINK_AND_RDMA))),
        (CANN, lambda: slopes_us("cloudmatrix384", list(CANN), payload="int8")),
    ],
    ids=["RDMA alone", "NVLink and RDMA", "CANN EP over UB"],
)
def test_growth_with_ep_is_as_measured(
    measured: dict[int, tuple[float, float]], predicted: Callable[[], dict[int, tuple[float, float]]]
) -> None:
    """deepseek-ai/DeepEP:README.md (February 2025) and docs/legacy.md (June 2025); arXiv:2506.12708 Table 7."""
    found = predicted()
    first, last = min(measured), max(measured)
    for column in range(2):
        grown = measured[last][column] / measured[first][column]
        assert found[last][column] / found[first][column] == pytest.approx(grown, rel=0.13)


def test_forms_of_growth_differ_by_mechanism() -> None:
    """Only where scale-up links carry a share that shrinks with EP does the time grow with the remote share."""
    mixed, alone = slopes_us("h800-cluster", [16, 64]), slopes_us("h800-cluster", [16, 64], nic=True)
    flat = slopes_us("cloudmatrix384", [16, 64], payload="int8")
    growth = [found[64][1] / found[16][1] for found in (mixed, alone, flat)]
    assert growth[0] > 1.5
    assert max(growth[1:]) < 1.2
    # between the fixed and signalling times, (1 - 8 / EP) x bytes over the NIC's rate
    wire_us = 1024 * 14336 / 50e9 * 1e6
    remote = mixed[64][1] - mixed[16][1]
    assert remote == pytest.approx((7 / 8 - 1 / 2) * wire_us, rel=0.15)
