"""Flow-level simulation against times worked out by hand, and against the busiest link."""

from typing import Any

import networkx as nx
import numpy as np
import pytest

from simulator.cost.flow_links import flow_links
from simulator.cost.links import busiest_links
from simulator.engine.flows import Transfer, simulate_flows
from simulator.errors import UserError
from topologies.network import Network, Plane, Tier
from topologies.reduction import reduce_graph

PORT, UPLINK = 10.0, 12.0


def two_leaves(uplink: float = UPLINK, ranks: int = 8) -> Network:
    """Half of the ranks on each of two leaves below one spine."""
    leaf = (np.arange(ranks) // (ranks // 2)).astype(np.int32)
    tiers = (
        Tier("leaf", 0, leaf, 1e-6, np.full(2, uplink)),
        Tier("spine", 0, np.zeros(ranks, dtype=np.int32), 2e-6, np.array([np.inf])),
    )
    node = np.arange(ranks, dtype=np.int32)
    return Network(ranks, node, np.zeros(ranks, dtype=np.int32), (Plane("Net", "net", np.full(ranks, PORT)),), tiers)


def transfer(*flows: tuple[int, int, float], **times: Any) -> Transfer:
    source, target, size = zip(*flows, strict=True)
    return Transfer(np.array(source, np.int32), np.array(target, np.int32), np.array(size, float), **times)


def test_a_flow_alone_takes_its_narrowest_link() -> None:
    found = simulate_flows(two_leaves(uplink=4.0), [transfer((0, 4, 100.0), start_s=3.0, latency_s=0.5)])
    assert found.start_s.tolist() == [3.0]
    assert found.end_s == pytest.approx([3.5 + 25.0])
    assert found.bound_s == pytest.approx([25.0])


def test_two_flows_share_a_port_until_one_ends() -> None:
    found = simulate_flows(two_leaves(), [transfer((0, 1, 20.0), (0, 2, 60.0))])
    assert found.finish_s[0] == pytest.approx([4.0, 8.0])  # 5 each for 4 s, then 40 left at 10


def test_three_flows_max_min() -> None:
    """a and b leave rank 0, b and c enter rank 5; the uplink of 12 carries a (to 4), b and c."""
    found = simulate_flows(two_leaves(), [transfer((0, 4, 40.0), (0, 5, 40.0), (1, 5, 40.0), (1, 2, 60.0))])
    # 4 each on the uplink; rank 1's port has 6 left for the flow that stays on the leaf.
    assert found.finish_s[0] == pytest.approx([10.0, 10.0, 10.0, 10.0])


def test_a_late_flow_slows_an_early_one() -> None:
    early, late = transfer((0, 1, 100.0)), transfer((0, 2, 30.0), start_s=4.0)
    found = simulate_flows(two_leaves(), [early, late])
    assert found.end_s == pytest.approx([13.0, 10.0])  # 40 alone, 30 each in 6 s, then 30 at full rate


def test_ring_steps_wait_for_each_other() -> None:
    ring = [(rank, (rank + 1) % 8, 30.0) for rank in range(8)]
    steps = [transfer(*ring, after=(step - 1,) if step else (), latency_s=1.0) for step in range(7)]
    found = simulate_flows(two_leaves(), steps)
    assert found.end_s == pytest.approx([4.0 * (step + 1) for step in range(7)])
    assert found.rounds == 7


def test_a_collective_in_two_phases_shares_links_with_another() -> None:
    """While the first phase of one crosses the uplink, the other gets half of it; then all."""
    first = transfer((0, 4, 60.0))
    second = transfer((4, 0, 60.0), after=(0,))
    other = transfer((1, 5, 90.0))
    found = simulate_flows(two_leaves(), [first, second, other])
    assert found.end_s == pytest.approx([10.0, 16.0, 13.0])


def test_background_traffic_takes_its_part() -> None:
    alone = simulate_flows(two_leaves(), [transfer((0, 4, 100.0))]).end_s[0]
    background = transfer((1, 5, 9.0))  # 9 of the uplink's 12 bytes/s
    beside = simulate_flows(two_leaves(), [transfer((0, 4, 100.0))], background).end_s[0]
    assert (alone, beside) == pytest.approx((10.0, 100.0 / 3))
    with pytest.raises(UserError, match="leaves nothing of leaf up link 0"):
        simulate_flows(two_leaves(), [transfer((0, 4, 100.0))], transfer((1, 5, 9.0), (2, 6, 9.0)))


def test_a_link_that_fails_and_comes_back() -> None:
    changes = [(2.0, two_leaves(uplink=2.0)), (12.0, two_leaves())]
    found = simulate_flows(
        two_leaves(), [transfer((0, 4, 100.0)), transfer((0, 1, 5.0), start_s=30.0)], changes=changes
    )
    assert found.end_s == pytest.approx([2.0 + 10.0 + 6.0, 30.5])  # 20, then 20 in 10 s, then 60 at 10


def clos(*dead: tuple[str, str]) -> Network:
    graph: Any = nx.DiGraph(planes=[{"name": "Net", "fabric": "net", "port_bytes_per_s": PORT}])
    for rank in range(4):
        graph.add_node(rank, kind="rank", rank=rank, node=rank, rail=0)
    graph.add_nodes_from(["leaf 0", "leaf 1"], kind="switch", tier="leaf", plane=0)
    graph.add_nodes_from(["spine 0", "spine 1"], kind="switch", tier="spine", plane=0)
    cables = [(rank, f"leaf {rank // 2}", PORT) for rank in range(4)]
    cables += [(f"leaf {leaf}", f"spine {spine}", 6.0) for leaf in range(2) for spine in range(2)]
    for low, high, rate in cables:
        if (low, high) not in dead:
            graph.add_edge(low, high, bytes_per_s=rate, latency_s=1e-6, plane=0)
            graph.add_edge(high, low, bytes_per_s=rate, latency_s=1e-6, plane=0)
    return reduce_graph(graph)


def test_flows_take_another_way_after_a_fault() -> None:
    assert simulate_flows(clos(), [transfer((0, 2, 100.0))]).end_s == pytest.approx([10.0])  # 5 over either spine
    found = simulate_flows(clos(), [transfer((0, 2, 100.0))], changes=[(4.0, clos(("leaf 0", "spine 1")))])
    assert found.end_s == pytest.approx([4.0 + 10.0])  # 40 before, 60 left over one spine of 6


def test_transfers_that_wait_for_each_other_are_refused() -> None:
    one, other = transfer((0, 1, 1.0), after=(1,)), transfer((0, 1, 1.0), after=(0,))
    with pytest.raises(UserError, match="never ends"):
        simulate_flows(two_leaves(), [one, other])


def test_nothing_to_send_ends_at_once() -> None:
    found = simulate_flows(two_leaves(), [transfer((0, 0, 5.0), (1, 2, 0.0), start_s=2.0)])
    assert found.end_s.tolist() == [2.0]


@pytest.mark.parametrize("resolution", [0.01, 0.1])
def test_ends_taken_together_change_little(resolution: float) -> None:
    draw = np.random.default_rng(3)
    matrix = draw.lognormal(0, 1, (40, 40)) * draw.lognormal(0, 0.3, 40)
    source, target = (side.ravel().astype(np.int32) for side in np.indices(matrix.shape))
    flows = Transfer(source, target, matrix.ravel())
    net = two_leaves(uplink=60.0, ranks=40)
    exact, merged = (simulate_flows(net, [flows], resolution=each) for each in (0.0, resolution))
    assert merged.rounds < exact.rounds / 4
    assert merged.end_s[0] >= merged.bound_s[0] * (1 - 1e-9)
    assert merged.end_s == pytest.approx(exact.end_s, rel=0.01)
    moved = merged.finish_s[0][source != target], exact.finish_s[0][source != target]
    assert np.median(np.abs(moved[0] / moved[1] - 1)) < 0.02


def test_flows_load_the_links_that_the_bound_counts() -> None:
    draw = np.random.default_rng(8)
    source, target = draw.integers(0, 8, (2, 60)).astype(np.int32)
    size = draw.uniform(1, 9, 60)
    for net in (two_leaves(), two_leaves(3.0)):
        links = flow_links(net, source, target)
        bound = max(busiest_links(net, source, target, size), key=lambda link: link.time_s)
        assert links.busiest(size) == bound


@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
def test_closed_forms_of_one_dimension(ranks: int) -> None:
    """Ring all-reduce 2 (N - 1) (h l + S / (N B)), all-to-all behind a switch 2 l + (N - 1) / N S / B.

    The forms of ASTRA-sim's analytical back end with port contention; h = 2 links of latency l through the switch.
    """
    size_bytes, hop_s = 960.0, 0.25
    net = two_leaves(uplink=PORT * ranks, ranks=ranks)
    ring = [(rank, (rank + 1) % ranks, size_bytes / ranks) for rank in range(ranks)]
    steps = 2 * (ranks - 1)
    turns = [transfer(*ring, after=(step - 1,) if step else (), latency_s=2 * hop_s) for step in range(steps)]
    assert simulate_flows(net, turns).end_s[-1] == pytest.approx(steps * (2 * hop_s + size_bytes / (ranks * PORT)))
    pairs = [(one, other, size_bytes / ranks) for one in range(ranks) for other in range(ranks) if one != other]
    exchange = simulate_flows(net, [transfer(*pairs, latency_s=2 * hop_s)])
    assert exchange.end_s[0] == pytest.approx(2 * hop_s + (ranks - 1) / ranks * size_bytes / PORT)
