"""Unequal sources: bytes against sending every token by hand, and against the fast form where sources are equal."""

import time
from collections import Counter
from collections.abc import Callable

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
)
from simulator.cost.expert_parallel import ExpertPaths, Mode, expert_paths, over_nics
from simulator.cost.expert_parallel_sources import Sent, sent_cost, sent_loads
from simulator.cost.expert_parallel_time import dispatch_cost
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network, Plane, Tier
from workloads.placement import EMPTY, Placement
from workloads.traffic import traffic

RING = CollectiveConstants(kind="assumed", source="test", fraction=1, step_s=0, launch_s=0)
COPIES = CopyConstants(kind="assumed", source="test", write_fraction=1, read_fraction=1, launch_s=0)


def constants(**given: float) -> Callable[[str], FabricCalibration]:
    base = {"kind": "assumed", "source": "test", "fraction": 0.8, "dispatch_fixed_s": 0.0, "combine_fixed_s": 0.0}
    normal, low_latency = (
        ExpertParallelConstants.model_validate({**base, **given, "copies": copies}) for copies in ("rank", "expert")
    )
    shared = {"collective": RING, "copies": COPIES, "normal": normal, "low_latency": low_latency}
    return lambda name: FabricCalibration.model_validate({"fabric": name, **shared})


def pods(sizes: list[int]) -> Network:
    """Nodes of any sizes on rails below one spine."""
    total, nodes = sum(sizes), len(sizes)
    node = np.repeat(np.arange(nodes, dtype=np.int32), sizes)
    rail = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    planes = (Plane("Bus", "near", np.full(total, 200.0)), Plane("Net", "far", np.full(total, 50.0)))
    tiers = (
        Tier("node", 0, node, 1e-6, np.full(nodes, np.inf)),
        Tier("leaf", 1, rail, 3e-6, np.full(int(rail.max()) + 1, 40.0)),
        Tier("spine", 1, np.zeros(total, dtype=np.int32), 4e-6, np.array([np.inf])),
    )
    return Network(total, node, rail, planes, tiers)


def by_hand(net: Network, placement: Placement, experts: NDArray[np.int64], tokens: list[int], mode: Mode) -> Counter:
    """Send every token of one layer: a copy per node, forwarded to each rank, or a copy per expert."""
    links: Counter[tuple[str, int]] = Counter()

    def send(source: int, target: int) -> None:
        if source != target:
            plane = "Bus" if net.node[source] == net.node[target] else "Net"
            links[f"{plane} port out of rank", source] += 1
            links[f"{plane} port in of rank", target] += 1

    sources = [rank for rank, count in enumerate(tokens) for _ in range(count)]
    for token, (source, chosen) in enumerate(zip(sources, experts, strict=True)):
        homes = [np.flatnonzero((placement.slot_expert[0] == expert).any(axis=1)) for expert in chosen]
        ranks = [int(home[token % len(home)]) for home in homes]
        if mode == "low-latency":
            for rank in ranks:
                send(source, rank)
            continue
        for node in {int(net.node[rank]) for rank in ranks}:
            inside = np.flatnonzero(net.node == node)
            peer = int(inside[net.rail[source] % len(inside)])
            send(source, peer)
            for rank in {rank for rank in ranks if net.node[rank] == node}:
                send(peer, rank)
    return links


@st.composite
def cases(draw: st.DrawFn) -> tuple[Network, Placement, NDArray[np.int64], list[int]]:
    """Nodes with an uneven last one, replicas or more ranks than experts, a hot source."""
    per_node = draw(st.integers(1, 4))
    sizes = [per_node] * draw(st.integers(1, 3)) + [draw(st.integers(1, per_node))]
    ranks, slots = sum(sizes), draw(st.integers(1, 3))
    experts = draw(st.integers(1, ranks * slots))
    top_k = draw(st.integers(1, min(experts, 4)))
    draws = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # every expert once, then a replica or nothing in each slot that is left; no expert twice on a rank
    held = np.full(ranks * slots, EMPTY, dtype=np.int64)
    held[draws.permutation(ranks * slots)[:experts]] = np.arange(experts)
    held = held.reshape(1, ranks, slots)
    for rank in range(ranks):
        for slot in np.flatnonzero(held[0, rank] == EMPTY):
            expert = int(draws.integers(experts))
            if expert not in held[0, rank] and draws.random() < 0.7:
                held[0, rank, slot] = expert
    tokens = draws.integers(0, 5, ranks)
    tokens[draws.integers(ranks)] += draw(st.integers(1, 20))
    chosen = np.argsort(draws.random((int(tokens.sum()), experts)), axis=1)[:, :top_k]
    return pods(sizes), Placement(held, experts), chosen, tokens.tolist()


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_every_port_carries_what_tokens_sent_by_hand_put_on_it(
    mode: Mode, case: tuple[Network, Placement, NDArray[np.int64], list[int]]
) -> None:
    net, placement, chosen, tokens = case
    ranks = np.arange(net.ranks, dtype=np.int32)[None, :]
    counted = traffic(chosen[:, None, :].astype(np.int64), np.array(tokens), placement, 1)
    paths = expert_paths(net, ranks, mode, constants(), fold=False)
    to_rank = counted.routes[0] if paths.counts_expert_copies else counted.to_rank[0]
    loads = sent_loads(net, ranks, paths, Sent(to_rank, per_node(net, placement, chosen, tokens)))
    found: Counter[tuple[str, int]] = Counter()
    for links in loads.links:
        for number, copies in zip(links.number.tolist(), links.size_bytes[:, 0].tolist(), strict=True):
            if "port" in links.kind and copies > 1e-9:
                found[links.kind, number] += round(copies, 6)  # type: ignore[assignment]
    expected = by_hand(net, placement, chosen, tokens, mode)
    assert found == expected


def per_node(net: Network, placement: Placement, chosen: NDArray[np.int64], tokens: list[int]) -> NDArray[np.int64]:
    """Count copies to nodes, one per token and node."""
    counts = np.zeros((net.ranks, int(net.node.max()) + 1), dtype=np.int64)
    sources = np.repeat(np.arange(net.ranks), tokens)
    for token, (source, experts) in enumerate(zip(sources, chosen, strict=True)):
        homes = [np.flatnonzero((placement.slot_expert[0] == expert).any(axis=1)) for expert in experts]
        counts[source, list({int(net.node[home[token % len(home)]]) for home in homes})] += 1
    return counts


def h800(ranks: int) -> Network:
    spec = cluster("h800-cluster")
    names = (spec.scale_up.fabric, "ib-400g")
    return network(spec, accelerator(spec.chip), {name: fabric(name) for name in names}, ranks)


CORES = {"core_bytes_per_s": 15e9, "cores": 20, "overlap_exponent": 3.0}


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("given", [{}, CORES])
def test_equal_sources_cost_what_the_fast_form_says(mode: Mode, groups: int, given: dict[str, float]) -> None:
    net = h800(64)
    members = np.arange(64, dtype=np.int32).reshape(groups, -1)
    paths = expert_paths(net, members, mode, constants(**given))
    draw = np.random.default_rng(groups)
    to_rank, to_node = draw.uniform(10, 99, paths.ranks), draw.uniform(50, 500, paths.nodes)
    fast = dispatch_cost(paths, "combine", to_rank, to_node, 14336.0)
    spread = Sent(np.tile(to_rank / paths.ranks, (paths.ranks, 1)), np.tile(to_node / paths.ranks, (paths.ranks, 1)))
    found = sent_cost(net, members, paths, "combine", spread, 14336.0)
    for name in ("latency_s", "bandwidth_s", "balanced_s", "bound_s"):
        assert getattr(found, name) == pytest.approx(getattr(fast, name), rel=1e-9), name


@pytest.mark.parametrize("mode", ["normal", "low-latency"])
def test_a_hot_source_is_priced(mode: Mode) -> None:
    """With all tokens on one rank its port carries all of them."""
    net = h800(32)
    members = np.arange(32, dtype=np.int32)[None, :]
    paths = expert_paths(net, members, mode, constants(), fold=False)
    even = Sent(np.full((32, 32), 4.0), np.full((32, 4), 16.0))
    hot = Sent(np.zeros((32, 32)), np.zeros((32, 4)))
    hot.to_rank[3], hot.to_node[3] = 128.0, 512.0
    times = [sent_cost(net, members, paths, "dispatch", sent, 7408.0) for sent in (even, hot)]
    assert times[1].balanced_s == pytest.approx(times[0].bandwidth_s)
    leaving = (3 * 512.0 if mode == "normal" else 24 * 128.0) * 7408 / 50e9
    assert times[1].bound_s == pytest.approx(leaving)


def test_over_nics_the_scale_up_links_stay_unused() -> None:
    net = h800(16)
    members = np.arange(16, dtype=np.int32)[None, :]
    paths = expert_paths(over_nics(net), members, "low-latency", constants())
    assert {load.plane for load in paths.loads} == {1}
    cost = dispatch_cost(paths, "dispatch", np.full(16, 1024.0), np.zeros(2), 7408.0)
    assert cost.bound_s == pytest.approx(15 / 16 * 1024 * 7408 / 50e9)


def test_copies_of_several_groups_share_uplinks() -> None:
    net = pods([2, 2, 2, 2])
    groups = np.array([[0, 2], [4, 6]], dtype=np.int32)
    paths = expert_paths(net, groups, "low-latency", constants(), fold=False)
    loads = sent_loads(net, groups, paths, Sent(np.full((2, 2), 5.0), np.zeros((2, 2))))
    assert sum(float(links.size_bytes.sum()) for links in loads.links if "port out" in links.kind) == 2 * 2 * 5


def test_uneven_sources_on_a_thousand_ranks_are_priced_quickly() -> None:
    net = h800(1024)
    members = np.arange(1024, dtype=np.int32)[None, :]
    draw = np.random.default_rng(0)
    sent = Sent(draw.integers(0, 50, (1024, 1024)), draw.integers(0, 200, (1024, 128)))
    for mode in ("normal", "low-latency"):
        taken = []
        for _ in range(3):
            start = time.process_time()
            paths: ExpertPaths = expert_paths(net, members, mode, fold=False)  # type: ignore[arg-type]
            sent_cost(net, members, paths, "dispatch", sent, 7408.0)
            taken.append(time.process_time() - start)
        assert min(taken) < 0.1
