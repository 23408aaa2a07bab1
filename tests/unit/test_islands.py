"""Islands of different chips: each keeps its network, and what joins them is the bottleneck that it is said to be."""

from pathlib import Path

import numpy as np
import pytest

from simulator.errors import UserError
from simulator.run import run
from simulator.scenario_file import load_scenario
from topologies.build import joined_graph, network
from topologies.catalogue.machine_file import archipelago, machine_parts
from topologies.errors import TopologyError
from topologies.metrics import bisection_bytes_per_s, describe, diameter_hops
from topologies.network import Network
from topologies.reduction import reduce_graph

MIXED = """
name = "Mixed"

[[islands]]
name = "ascend"
cluster = "cloudmatrix384"
chips = 32

[[islands]]
name = "gpu"
cluster = "h800-cluster"
chips = 64

[between]
fabric = "roce-200g"
chips_per_nic = 8
oversubscription = 2.0
"""
NIC = 25e9


def written(folder: Path, text: str = MIXED) -> str:
    path = folder / "mixed.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_example_of_the_readme_is_two_islands(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = next(block for block in readme.split("```toml\n")[1:] if "[[islands]]" in block)
    assert reduced(written(tmp_path, example.split("```")[0])).ranks == 192


def reduced(path: str, *faults: str) -> Network:
    found = archipelago(path)
    assert found
    return reduce_graph(joined_graph(found, faults).graph)


def test_every_island_keeps_its_own_tiers_and_one_network_joins_them(tmp_path: Path) -> None:
    found = reduced(written(tmp_path))
    assert found.ranks == 64 + 64
    assert np.bincount(found.node).tolist() == [16] * 4 + [8] * 8
    rows = [(row.tier, row.domains, row.ranks_per_domain) for row in describe(found)]
    assert rows == [
        ("node", 4, 16), ("supernode", 1, 64), ("node", 8, 8), ("leaf", 8, 8), ("spine", 1, 64), ("nic", 12, 16),
        ("island", 2, 64), ("between", 1, 128),
    ]  # fmt: skip
    assert [plane.fabric for plane in found.planes] == ["ub1", "nvlink4-h800", "ib-400g", "roce-200g"]
    assert all(plane.routes is None for plane in found.planes)


@pytest.mark.parametrize("name", ["ascend", "gpu"])
def test_pairs_of_an_island_meet_as_they_do_alone(tmp_path: Path, name: str) -> None:
    path = written(tmp_path)
    whole, first = reduced(path), 0 if name == "ascend" else 64
    parts = machine_parts(path, island=name)
    alone = network(*parts, parts.spec.chips)
    at = np.arange(64, dtype=np.int32)
    here = whole.meeting_tier(at[:, None] + first, at[None, :] + first)
    there = alone.meeting_tier(at[:, None], at[None, :])
    pairs = here >= 0
    np.testing.assert_array_equal(pairs, there >= 0)
    latency = np.array([tier.latency_s for tier in whole.tiers])
    np.testing.assert_allclose(latency[here[pairs]], np.array([tier.latency_s for tier in alone.tiers])[there[pairs]])


def test_islands_are_joined_by_their_narrow_uplinks(tmp_path: Path) -> None:
    found = reduced(written(tmp_path))
    assert bisection_bytes_per_s(found) == pytest.approx(4 * NIC / 2)
    np.testing.assert_allclose(found.tiers[-2].uplink_bytes_per_s, np.array([4, 8]) * NIC / 2)
    ends = np.array([0], dtype=np.int32), np.array([127], dtype=np.int32)
    assert found.meeting_tier(*ends)[0] == len(found.tiers) - 1
    assert diameter_hops(found) == 6
    assert found.tiers[-1].latency_s == pytest.approx(5.6e-6)


def test_faults_strike_islands_under_their_names(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert reduced(path, "node 1").ranks == 112
    assert reduced(path, "island 0 - between 0 at 50 %").tiers[-2].uplink_bytes_per_s.tolist() == [NIC, 4 * NIC]
    assert reduced(path, "gpu leaf 3 - gpu spine 0 at 50 %").ranks == 128
    with pytest.raises(TopologyError, match="are cut off"):
        reduced(path, "island 0 - between 0")


def test_a_run_takes_one_island(tmp_path: Path) -> None:
    path = written(tmp_path)
    settings = ["plan.expert=64", "workload.batch_per_rank=32", "routing.kind=balanced"]
    ours = run(load_scenario("dsv3-decode-h800", [*settings, f"cluster.name={path}", "cluster.island=gpu"]))
    theirs = run(load_scenario("dsv3-decode-h800", [*settings, "cluster.name=h800-cluster"]))
    assert ours.step_s == theirs.step_s
    with pytest.raises(UserError, match="set it to one of 'ascend', 'gpu'"):
        run(load_scenario("dsv3-decode-h800", [*settings, f"cluster.name={path}"]))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"gpu"', '"ascend"', "a name appears twice"),
        ('"gpu"', '"GPU 1"', r"islands\[1\]\.name"),
        ("chips = 64", "chips = 0", r"islands\[1\]\.chips"),
        ("chips = 64", "chips = 99_999", "reaches 16384"),
        ("h800-cluster", "h80-cluster", "did you mean"),
        ("roce-200g", "roce-20g", "did you mean"),
        ("[between]", "[betwixt]", "betwixt: unknown key|between.fabric"),
        ("oversubscription = 2.0", "oversubscription = 0.5", r"between\.oversubscription"),
        ('fabric = "roce-200g"', "", r"between\.fabric: missing"),
        ("h800-cluster", "deepseek-h800-2048", "its rails never meet"),
    ],
)
def test_impossible_islands_are_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        reduced(written(tmp_path, MIXED.replace(before, after)))


def test_an_island_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="'npu': no such island"):
        machine_parts(written(tmp_path), island="npu")
    with pytest.raises(TopologyError, match="h800-cluster has no islands"):
        machine_parts("h800-cluster", island="gpu")
