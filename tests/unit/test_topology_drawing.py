"""The picture of a topology says what the graph says, is one file, and is the same file each time."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Arc

import reports.topology
from reports.topology import draw_topology
from reports.topology_layout import FOLDED, lay_out
from reports.topology_map import draw_maps
from topologies.catalogue.machine_file import machine_parts
from topologies.faults import damage, read_faults
from topologies.generators import build_graph
from topologies.reduction import reduce_graph
from topologies.specs import Accelerator, ClusterSpec, Fabric, Memory, Peak, ScaleOut, ScaleUp

LONG = "with a name too long for the margin (made for this test, and others)"


def fabric(name: str, gb_per_s: float, far_us: float | None = None, **extra: Any) -> Fabric:
    far = None if far_us is None else far_us * 1e-6
    kind = "scale-out" if name == "nic" else "scale-up"
    return Fabric(
        id=name, name=f"{name} {LONG}", kind=kind, port_bytes_per_s=gb_per_s * 1e9, near_latency_s=1e-6,
        far_latency_s=far, source="test", **extra,
    )  # fmt: skip


FABRICS = {
    f.id: f
    for f in (
        fabric("switch", 450), fabric("mesh", 196, shape="mesh"), fabric("ub", 392, 1.9), fabric("nic", 50, 3.7)
    )
}  # fmt: skip


def graph(up: str, node: int, domain: int, chips: int, dies: int = 1, **out: Any) -> Any:
    chip = Accelerator(
        id="x", name="x", vendor="v", family="f", ranks_per_chip=dies, peak=Peak(bf16_flop_per_s=1e15, source="test"),
        memory=Memory(capacity_bytes=64e9, bandwidth_bytes_per_s=1e12, source="test"),
    )  # fmt: skip
    scale_out = ScaleOut(fabric="nic", **out) if out else None
    scale_up = ScaleUp(fabric=up, domain_chips=domain)
    spec = ClusterSpec(
        id="c", name="Test cluster", chip="x", chips=chips, chips_per_node=node, scale_up=scale_up, scale_out=scale_out,
        source="test",
    )  # fmt: skip
    return build_graph(spec, chip, FABRICS, chips)


CASES = {
    "three layers": graph("switch", 8, 8, 512, leaf_nodes=4, pod_nodes=32, pod_oversubscription=2.0),
    "shared NICs": graph("switch", 8, 8, 64, leaf_nodes=4, chips_per_nic=2),
    "rail-optimised": graph("switch", 8, 8, 512, leaf_nodes=32),
    "plain leaf": graph("mesh", 8, 8, 256, leaf_nodes=4, rail_optimised=False, oversubscription=2.0),
    "multi-plane": graph("switch", 8, 8, 512, leaf_nodes=32, planes=True),
    "multi-plane, one leaf": graph("mesh", 8, 8, 9, leaf_nodes=32, planes=True),
    "supernode": graph("ub", 8, 384, 384, dies=2),
    "two supernodes": graph("ub", 4, 8, 16, leaf_nodes=1),
    "one tier": graph("switch", 4, 72, 72),
    "big node": graph("switch", 64, 64, 64),
    "one chip": graph("mesh", 8, 8, 1),
    "one chip per node": graph("switch", 1, 1, 2, leaf_nodes=1, planes=True),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect figures instead of writing them."""
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        figure.draw_without_rendering()
        figures.append(figure)
        return path

    monkeypatch.setattr(reports.topology, "save", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("name", CASES)
def test_no_text_leaves_the_page(name: str, drawn: list[Figure]) -> None:
    draw_topology(CASES[name], "unused.png")
    page = drawn[0].bbox
    for text in drawn[0].axes[0].texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "rail-optimised",
            ["+ 31 nodes", "+ 32 nodes", "450 GB/s per rank", "50.0 GB/s per NIC", "1.60 TB/s per leaf"],
        ),
        ("plain leaf", ["28.0 GB/s per pair", "oversubscribed 2.00 : 1 upwards", "7 more", "800 GB/s per leaf"]),
        ("multi-plane", ["rails never meet: forwarded in a node, 4.70 us", "8 more"]),
        ("multi-plane, one leaf", ["+ 1 node", "(the last: 1 rank)", "rails never meet: forwarded in a node, 2.00 us"]),
        (
            "supernode",
            ["+ 47 nodes", "196 GB/s per rank", "3.14 TB/s per node", "joins all 768 ranks, 1.90 us one way"],
        ),
        ("two supernodes", ["supernode switch (1 of 2)", "+ 3 nodes", "on other leaves"]),
        ("one tier", ["+ 17 nodes", "joins all 72 ranks, 1.00 us one way"]),
        ("big node", ["63", ". . ."]),
        ("one chip", ["Test cluster: 1 rank in 1 node"]),
    ],
)
def test_rates_and_folded_parts_are_written(name: str, expected: list[str], drawn: list[Figure]) -> None:
    draw_topology(CASES[name], "unused.png")
    assert set(expected) <= set(texts(drawn[0]))


def test_mesh_has_an_arc_for_each_pair(drawn: list[Figure]) -> None:
    draw_topology(CASES["plain leaf"], "unused.png")
    assert sum(isinstance(patch, Arc) for patch in drawn[0].axes[0].patches) == 8 * 7 // 2


@pytest.mark.parametrize("name", CASES)
def test_drawn_and_folded_nodes_add_up(name: str) -> None:
    scene = lay_out(CASES[name], reduce_graph(CASES[name]))
    assert 1 + scene.near + scene.far == scene.parts.nodes
    shown = [rank for rank in scene.ranks if rank != FOLDED]
    assert (scene.network.node[shown] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_same_graph_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = (draw_topology(CASES["supernode"], tmp_path / f"{index}.{suffix}") for index in range(2))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[:5] in {b"\x89PNG\r", b"<?xml"}


@pytest.mark.parametrize(
    ("name", "chips", "said"),
    [
        ("ub-mesh-1024", 1024, ["8 x 8 ranks", "4 x 4 switches", "64 of 1,024 drawn", "1.79 TB/s per link"]),
        ("dragonfly-example", 1088, ["17 groups of 8 switches", "50.0 GB/s per link"]),
        ("torus-example", 512, ["4 x 4 x 4 switches", "200 GB/s per link"]),
        ("atlas-950-superpod", 200, ["supernode, UB 2.0"]),
    ],
)
def test_networks_without_layers_are_maps(
    name: str, chips: int, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_graph(*machine_parts(name), chips)
    figures: list[Figure] = []
    monkeypatch.setattr("reports.topology_map.save", lambda figure, path: figures.append(figure) or path)
    draw_maps(built, reduce_graph(built), tmp_path / "a.png")
    texts = [text.get_text() for text in (*figures[0].texts, *(t for axes in figures[0].axes for t in axes.texts))]
    for words in said:
        assert any(words in text for text in texts), words


def test_maps_are_the_same_file_each_time(tmp_path: Path) -> None:
    built = build_graph(*machine_parts("torus-example"), 512)
    one, two = (draw_topology(built, tmp_path / name) for name in ("a.png", "b.png"))
    assert one.read_bytes() == two.read_bytes()


def test_a_shared_nic_is_drawn_once_above_its_ranks() -> None:
    pairs = lay_out(CASES["shared NICs"], reduce_graph(CASES["shared NICs"]))
    assert [ranks for _, _, ranks in pairs.nics] == [list(pairs.x[start : start + 2]) for start in range(0, 8, 2)]
    assert all(x == pytest.approx(sum(ranks) / 2) for x, _, ranks in pairs.nics)
    own = lay_out(CASES["rail-optimised"], reduce_graph(CASES["rail-optimised"]))
    assert own.nic_x == own.rank_x


def test_a_nic_of_ranks_apart_stands_above_the_first() -> None:
    hurt = damage(graph("switch", 8, 8, 64, leaf_nodes=4), read_faults(["nic 1", "nic 2", "nic 3"])).graph
    scene = lay_out(hurt, reduce_graph(hurt))
    assert sorted(rank for _, _, ranks in scene.nics for rank in ranks) == list(scene.x)
    pitch = scene.x[1] - scene.x[0]
    apart = [(x, width, ranks) for x, width, ranks in scene.nics if len(ranks) * pitch < ranks[-1] - ranks[0]]
    assert apart
    for x, width, ranks in apart:
        assert (x, width) == pytest.approx((ranks[0], 0.78 * pitch))
