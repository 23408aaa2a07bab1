"""Graphs in files: what is written is read back, every format says the same, and what is broken is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.run import run
from simulator.scenario_file import load_scenario
from topologies.build import damaged_graph, network, working_chips
from topologies.catalogue.machine_file import machine_parts
from topologies.errors import TopologyError
from topologies.generators import build_graph
from topologies.graph_formats import write_graph
from topologies.network import Network

Table = dict[str, Any]


def table() -> Table:
    """Four ranks in two nodes of a ring, with a switch above."""
    ranks = [{"id": f"r{i}", "kind": "rank", "rank": i, "node": i // 2} for i in range(4)]
    ring = [(f"r{i}", f"r{(i + 1) % 4}", 28e9, 1e-6, 0) for i in range(4)]
    star = [(f"r{i}", "leaf 0", 25e9, 2e-6, 1) for i in range(4)]
    keys = ("source", "target", "bytes_per_s", "latency_s", "plane")
    return {
        "directed": False,
        "graph": {"chip": "ascend-910b", "fabrics": ["hccs-a2", "roce-200g"], "name": "Ring"},
        "nodes": [*ranks, {"id": "leaf 0", "kind": "switch", "tier": "leaf"}],
        "links": [dict(zip(keys, row, strict=True)) for row in ring + star],
    }


def saved(folder: Path, data: Table | bytes | str, name: str = "ours.json") -> str:
    path = folder / name
    raw = json.dumps(data) if isinstance(data, dict) else data
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return str(path)


def reduced(name: str, *faults: str) -> Network:
    spec, chip, fabrics = machine_parts(name)
    return network(spec, chip, fabrics, working_chips(spec, faults), faults)


def as_toml(data: Table) -> str:
    lines = [f"chip = {json.dumps(data['graph']['chip'])}", f"fabrics = {json.dumps(data['graph']['fabrics'])}"]
    for what in ("nodes", "links"):
        for row in data[what]:
            lines += [f"[[{what}]]", *(f"{key} = {json.dumps(value)}" for key, value in row.items())]
    return "\n".join(lines)


def test_a_graph_is_a_machine(tmp_path: Path) -> None:
    spec, chip, fabrics = machine_parts(saved(tmp_path, table()))
    assert (spec.name, spec.chips, spec.chips_per_node, chip.id) == ("Ring", 4, 2, "ascend-910b3")
    assert set(fabrics) == {"hccs-a2", "roce-200g"}
    found = network(spec, chip, fabrics, 4)
    np.testing.assert_array_equal(found.node, [0, 0, 1, 1])
    np.testing.assert_array_equal(found.rail, [0, 1, 0, 1])
    np.testing.assert_allclose(found.planes[0].port_bytes_per_s, 56e9)
    assert found.planes[0].routes is not None
    assert found.tiers[0].hops == 2


@pytest.mark.parametrize("suffix", [".graphml", ".json"])
@pytest.mark.parametrize(
    ("name", "chips"), [("h800-cluster", 64), ("ascend-910b-1024", 24), ("cloudmatrix384", 20), ("torus-example", 70)]
)
def test_what_is_written_is_read_back(tmp_path: Path, name: str, chips: int, suffix: str) -> None:
    parts = machine_parts(name)
    graph = build_graph(*parts, chips)
    path = tmp_path / f"copy{suffix}"
    path.write_bytes(write_graph(graph, parts.chip.id, suffix))
    before, after = network(*parts, chips), reduced(str(path))
    assert before.ranks == after.ranks
    np.testing.assert_array_equal(before.node, after.node)
    np.testing.assert_array_equal(before.rail, after.rail)
    for one, two in zip(before.tiers, after.tiers, strict=True):
        assert (one.name, one.latency_s, one.hops) == (two.name, two.latency_s, two.hops)
        np.testing.assert_array_equal(one.domain, two.domain)
        np.testing.assert_array_equal(one.uplink_bytes_per_s, two.uplink_bytes_per_s)
    for one_plane, two_plane in zip(before.planes, after.planes, strict=True):
        assert (one_plane.name, one_plane.fabric) == (two_plane.name, two_plane.fabric)
        np.testing.assert_allclose(one_plane.port_bytes_per_s, two_plane.port_bytes_per_s)


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    one = reduced(saved(tmp_path, table()))
    two = reduced(saved(tmp_path, as_toml(table()), "ours.toml"))
    assert [tier.name for tier in one.tiers] == [tier.name for tier in two.tiers]
    np.testing.assert_array_equal(one.planes[0].port_bytes_per_s, two.planes[0].port_bytes_per_s)


def test_parallel_links_add_up_and_fewer_chips_can_be_used(tmp_path: Path) -> None:
    data = table()
    data["links"].append(data["links"][0])
    path = saved(tmp_path, data)
    assert reduced(path).planes[0].port_bytes_per_s.tolist() == [84e9, 84e9, 56e9, 56e9]
    assert network(*machine_parts(path), 2).ranks == 2
    with pytest.raises(TopologyError, match="ask for 1 to 4"):
        network(*machine_parts(path), 5)


def test_faults_strike_a_drawn_graph_too(tmp_path: Path) -> None:
    path = saved(tmp_path, table())
    assert reduced(path, "rank 0 - rank 1").tiers[0].hops == 3
    assert reduced(path, "node 1").ranks == 2
    with pytest.raises(TopologyError, match="'leaf 7' is not there"):
        reduced(path, "leaf 7")
    assert damaged_graph(*machine_parts(path), 4).graph.number_of_nodes() == 5


def test_a_drawn_machine_runs(tmp_path: Path) -> None:
    parts = machine_parts("h800-cluster")
    path = tmp_path / "own.graphml"
    path.write_bytes(write_graph(build_graph(*parts, 64), parts.chip.id, ".graphml"))
    settings = ["plan.expert=64", "workload.batch_per_rank=32", "routing.kind=balanced"]
    ours = run(load_scenario("dsv3-decode-h800", [*settings, f"cluster.name={path}"]))
    theirs = run(load_scenario("dsv3-decode-h800", [*settings, "cluster.name=h800-cluster"]))
    assert ours.step_s == pytest.approx(theirs.step_s)


def edit(place: str, index: int, **values: Any) -> Callable[[Table], Any]:
    return lambda data: data[place][index].update(values)


def drop(place: str, index: int, key: str) -> Callable[[Table], Any]:
    return lambda data: data[place][index].pop(key)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (edit("links", 0, bytes_per_s=0), "link 'r0' - 'r1': bytes_per_s must be positive"),
        (edit("links", 0, bytes_per_s=float("inf")), "bytes_per_s must be positive"),
        (edit("links", 0, latency_s=-1), "latency_s at least 0"),
        (edit("links", 0, bytes_per_s="fast"), "needs bytes_per_s and latency_s, numbers"),
        (drop("links", 0, "latency_s"), "needs bytes_per_s and latency_s"),
        (drop("links", 0, "plane"), "plane None: one of 0 to 1"),
        (edit("links", 0, target="r0"), "'r0' - 'r0': a link to itself"),
        (edit("links", 0, target="r9"), "'r9' is no vertex"),
        (edit("links", 7, plane=0), "planes meet in ranks only"),
        (edit("nodes", 1, rank=0), "vertex 'r1': rank 0 is there twice"),
        (edit("nodes", 1, id="r0"), "appears twice"),
        (edit("nodes", 1, rank=7), "not numbered 0 to 3"),
        (edit("nodes", 1, rank=-1), "a rank needs 'rank' and 'node'"),
        (edit("nodes", 1, node=9), "nodes are not numbered 0, 1, 2"),
        (drop("nodes", 1, "node"), "a rank needs 'rank' and 'node'"),
        (drop("nodes", 4, "tier"), "with a 'tier' name"),
        (edit("nodes", 4, kind="router"), "kind 'router'"),
        (lambda data: data["graph"].pop("chip"), "needs 'chip' and 'fabrics'"),
        (lambda data: data["graph"].update(chip="h80"), "did you mean 'h800'"),
        (lambda data: data["graph"].update(fabrics=["hccs-a2", "roc"]), "not in the catalogue"),
        (lambda data: data.update(nodes=3), "nodes: must be a list"),
        (lambda data: data.pop("links"), "not a node-link graph"),
        (lambda data: data.update(links=[]), "cannot reach rank 0|no link leaves it"),
        (lambda data: data.update(directed=True), "no link leaves it|no way back"),
        (lambda data: [row.pop("kind") for row in data["nodes"]], "written for another tool"),
    ],
)
def test_broken_graphs_are_refused_by_name(tmp_path: Path, spoil: Callable[[Table], Any], said: str) -> None:
    data = table()
    spoil(data)
    with pytest.raises(TopologyError, match=said) as caught:
        reduced(saved(tmp_path, data))
    assert all("\n" not in line and len(line) < 300 for line in caught.value.problems)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">
<node id="&b;"/></graph></graphml>"""


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (BOMB, "a.graphml", "declares a document type or entities"),
        (b"<graphml", "a.graphml", "not valid GraphML"),
        (b"<html></html>", "a.graphml", "not valid GraphML|another tool"),
        (b"\x89PNG", "a.graphml", "not valid GraphML"),
        (b"{", "a.json", "not valid JSON"),
        (b"[" * 100_000, "a.json", "not valid JSON"),
        (b"[1, 2]", "a.json", "not a node-link graph"),
        (b'{"model_type": "deepseek_v3"}', "a.json", "not a node-link graph"),
        (b"\xff\xfe", "a.json", "not valid JSON"),
        (b"nodes = 3", "a.toml", "not a node-link graph"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, data: bytes, name: str, said: str) -> None:
    with pytest.raises(TopologyError, match=said):
        machine_parts(saved(tmp_path, data, name))


def test_files_that_are_not_there_or_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TopologyError, match="can't be read"):
        machine_parts(str(tmp_path / "none.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TopologyError, match="a directory"):
        machine_parts(str(tmp_path / "folder.json"))
    for name in ("a\0.json", "a\0.graphml", "a\0.toml"):
        with pytest.raises(TopologyError, match="not a path"):
            machine_parts(name)
    monkeypatch.setattr("topologies.graph_formats.MAX_FILE_BYTES", 10)
    with pytest.raises(TopologyError, match="is this a graph"):
        machine_parts(saved(tmp_path, table()))


def test_the_example_of_the_readme_is_a_graph(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = next(block for block in readme.split("```toml\n")[1:] if block.startswith("chip"))
    assert reduced(saved(tmp_path, example.split("```")[0], "ours.toml")).ranks == 3
