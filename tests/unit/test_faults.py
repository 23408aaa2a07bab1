"""Faults as operators write them: what is left of capacity, who sends through whom, who leaves, who is cut off."""

from typing import Any

import numpy as np
import pytest

from simulator.errors import UserError
from simulator.run import run
from simulator.scenario_file import load_scenario
from topologies.build import damaged_graph, network, working_chips
from topologies.catalogue.machine_file import machine_parts
from topologies.errors import TopologyError
from topologies.metrics import bisection_bytes_per_s
from topologies.network import Network

NIC = 50e9  # H800 cluster: 8 ranks per node, 32 nodes per leaf group


def damaged(*faults: str, chips: int = 512, name: str = "h800-cluster") -> Any:
    return damaged_graph(*machine_parts(name), chips, faults)


def reduced(*faults: str, chips: int = 512, name: str = "h800-cluster") -> Network:
    return network(*machine_parts(name), chips, faults)


def rate(graph: Any, low: Any, high: Any) -> float:
    assert graph.edges[low, high]["bytes_per_s"] == graph.edges[high, low]["bytes_per_s"]
    return float(graph.edges[low, high]["bytes_per_s"])


@pytest.mark.parametrize(
    ("fault", "low", "high", "left"),
    [
        ("leaf 3 - spine 0 at 50 %", "leaf 3", "spine 0", 0.5),
        ("spine 0 - Leaf 3 at 12.5%", "leaf 3", "spine 0", 0.125),
        ("2 of 8 uplinks of leaf 3", "leaf 3", "spine 0", 0.75),
        ("1 of 16 switches of spine 0", "leaf 0", "spine 0", 15 / 16),
        ("nic 17 at 50 %", "nic 17", "leaf 1", 0.5),
        ("nic 17 at 50 %", 17, "nic 17", 0.5),
        ("rank 3 - node 0 at 25 %", 3, "node 0", 0.25),
        ("node switch 2 at 25 %", 17, "node 2", 0.25),
        ("1 of 2 uplinks of nic 17", "nic 17", "leaf 1", 0.5),
    ],
)
def test_a_share_of_the_capacity_is_left_both_ways(fault: str, low: Any, high: Any, left: float) -> None:
    whole, hurt = damaged().graph, damaged(fault)
    assert rate(hurt.graph, low, high) == pytest.approx(left * rate(whole, low, high))
    changed = [e for e in whole.edges if whole.edges[e] != hurt.graph.edges[e]]
    assert all(low in e or high in e for e in changed)
    assert hurt.notes == ()


def test_uplinks_are_read_back_as_tier_capacity() -> None:
    uplink = reduced("leaf 3 - spine 0 at 50 %").tiers[1].uplink_bytes_per_s
    np.testing.assert_allclose(uplink, np.where(np.arange(16) == 3, 0.5, 1.0) * 32 * NIC)


def test_a_rank_without_its_nic_sends_through_a_neighbours() -> None:
    hurt = damaged("nic 17")
    assert "nic 17" not in hurt.graph
    assert hurt.notes == ("rank 17 sends through nic 16, which rank 16 uses too",)
    assert rate(hurt.graph, 17, "nic 16") == NIC
    assert hurt.graph.edges[17, "nic 16"]["latency_s"] == pytest.approx(3.33e-6)
    found = reduced("nic 17")
    shared = next(tier for tier in found.tiers if tier.name == "nic")
    assert shared.domain[16] == shared.domain[17]
    np.testing.assert_allclose(shared.uplink_bytes_per_s, NIC)
    assert np.bincount(shared.domain).max() == 2
    leaf = next(tier for tier in found.tiers if tier.name == "leaf")
    assert leaf.domain[17] == leaf.domain[16]
    assert bisection_bytes_per_s(found) == pytest.approx(bisection_bytes_per_s(reduced()) - NIC)


def test_all_but_one_nic_of_a_node_share_the_last() -> None:
    hurt = damaged(*(f"nic {i}" for i in range(7)))
    assert sorted(hurt.graph.predecessors("nic 7"), key=str) == [*range(8), "leaf 7"]
    assert len(hurt.notes) == 7


def test_load_of_dead_nics_is_spread() -> None:
    graph = damaged(*(f"nic {i}" for i in range(4))).graph
    assert all(sum(1 for u in graph.predecessors(f"nic {i}") if isinstance(u, int)) == 2 for i in range(4, 8))


@pytest.mark.parametrize("fault", ["leaf 3", "leaf 3 - spine 0", "8 of 8 uplinks of leaf 3"])
def test_a_leaf_that_reaches_nothing_is_left_by_all_its_ranks(fault: str) -> None:
    hurt = damaged(fault)
    assert "leaf 3" not in hurt.graph
    assert len(hurt.notes) == 32
    assert reduced(fault).ranks == 512


def test_a_plane_is_gone_as_a_whole() -> None:
    hurt = damaged("plane 2", name="deepseek-h800-2048")
    assert len(hurt.notes) == 64
    assert "spine 2" not in hurt.graph
    assert reduced("plane 2", name="deepseek-h800-2048").tiers[-1].name == "cross-rail"


def test_the_next_working_node_takes_the_place_of_a_lost_one() -> None:
    hurt = damaged("node 5", "node 9", chips=80)
    ranks = [d for _, d in hurt.graph.nodes(data=True) if d["kind"] == "rank"]
    assert sorted(d["rank"] for d in ranks) == list(range(80))
    assert sorted({d["node"] for d in ranks}) == list(range(10))
    assert rate(hurt.graph, 5 * 8, "node 6") > 0
    assert "nic 40" not in hurt.graph
    assert not any(v in hurt.graph for v in ("node 5", "node 9"))
    np.testing.assert_array_equal(np.bincount(reduced("node 5", "node 9", chips=80).node), 8)


@pytest.mark.parametrize("chips", [12, 20, 44])
def test_a_partly_used_last_node_stays_so(chips: int) -> None:
    found = reduced("node 1", chips=chips)
    assert found.ranks == chips
    assert np.bincount(found.node).tolist() == np.bincount(reduced(chips=chips).node).tolist()


def test_working_chips_are_those_of_working_nodes() -> None:
    spec = machine_parts("h800-cluster").spec
    assert working_chips(spec, ()) == 2048
    assert working_chips(spec, ("node 5", "node 6", "node 6", "nic 3", "node 9999")) == 2032


def test_lost_nodes_beyond_the_cluster_are_asked_for() -> None:
    with pytest.raises(TopologyError, match=r"1 node lost: 2040 of 2048 chips work, 2048 are asked for; .*2040"):
        reduced("node 5", chips=2048)
    assert reduced("node 5", chips=2040).ranks == 2040


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("leaf 99", "'leaf 99' is not there; leaf 0 to 15 are in use"),
        ("leef 3", r"parts in use are called .* \(did you mean 'leaf'\?\)"),
        ("leaf 3 - leaf 4", "no such link; leaf 3 is linked to"),
        ("node 64", "the job uses nodes 0 to 63; leave it out"),
        ("node 5 at 50 %", "'node switch 5'"),
        ("rank 3", "a rank fails with its node"),
        ("plane 2", "no separate planes"),
        ("spine 0 at 150 %", "150 % is more than all"),
        ("9 of 8 uplinks of leaf 3", "9 of 8 can't be lost"),
        ("0 of 8 uplinks of leaf 3", "0 of 8 can't be lost"),
        ("1 of 8 uplinks of spine 0", "spine 0 has no uplinks"),
        ("the left one", "not understood; for example 'node 5'"),
        ("", "not understood"),
        ("x" * 10_000, "not understood"),
        ("leaf 99999999999999999999", "not understood"),
    ],
)
def test_faults_that_are_none_are_named(fault: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said) as caught:
        damaged(fault)
    assert len(str(caught.value)) < 300


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        damaged("leaf 99", "leef 3", "node 3")
    assert len(caught.value.problems) == 2


def test_ranks_without_any_way_are_named() -> None:
    with pytest.raises(TopologyError, match=r"ranks 8, 9, 10, .* are cut off .*leave node 1, or keep a path"):
        damaged(*(f"nic {i}" for i in range(8, 16)))


def test_rails_that_lose_their_spines_still_reach_all_nodes() -> None:
    hurt = damaged("spine 0", chips=64)
    assert hurt.notes == ()
    assert [tier.name for tier in reduced("spine 0", chips=64).tiers] == ["node", "leaf", "cross-rail"]


def test_leaf_groups_without_a_spine_are_cut_off() -> None:
    with pytest.raises(TopologyError, match=r"spine 0: ranks .* \(256\) are cut off"):
        damaged("spine 0", chips=512)


def test_a_rank_without_its_scale_up_link_uses_its_nic() -> None:
    found = reduced("rank 3 - node 0", chips=64)
    assert found.meeting_tier(np.array([3]), np.array([4]))[0] > 0


def test_a_damaged_mesh_is_routed_around_the_gap() -> None:
    found = reduced("rank 3 - rank 5", chips=8, name="ascend-910b-1024")
    assert found.planes[0].routes is not None
    assert found.tiers[0].hops == 2


def decode(*faults: str) -> float:
    listed = ", ".join(f'"{fault}"' for fault in faults)
    settings = ["plan.expert=64", "workload.batch_per_rank=32", "routing.kind=balanced", f"cluster.faults=[{listed}]"]
    return run(load_scenario("dsv3-decode-h800", settings)).step_s


def test_a_run_slows_down_by_what_the_fault_takes() -> None:
    whole = decode()
    assert decode("nic 17 at 50 %") > whole
    assert decode("nic 17") > whole
    assert decode("node 5") == pytest.approx(whole)


def test_a_run_says_which_faults_it_has() -> None:
    result = run(load_scenario("dsv3-decode-h800", ["plan.expert=64", 'cluster.faults=["nic 17"]']))
    assert any("nic 17" in line for line in result.warnings)
    with pytest.raises((UserError, TopologyError), match="2040 or fewer"):
        run(load_scenario("dsv3-train-h800", ['cluster.faults=["node 5"]']))


def test_a_rail_that_misses_a_node_is_still_used() -> None:
    hurt = damaged("nic 17", chips=128, name="deepseek-h800-2048")
    assert hurt.notes == ("rank 17 sends through nic 16, which rank 16 uses too",)
    assert "leaf 1" in hurt.graph
    assert damaged("spine 2", chips=512, name="deepseek-h800-2048").notes[0].startswith("rank 2 sends through")
