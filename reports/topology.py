"""A cluster's graph as a picture: one node in full, its like folded, scale-up below the ranks and scale-out above."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyBboxPatch

from reports.style import INK, MUTED, SERIES_COLOURS, save, style
from reports.text import shorten
from reports.topology_layout import BOX, COPIES, FOLDED, GAP, LEFT, PITCH, STACK, STEP, Scene, lay_out, layered
from reports.topology_map import draw_maps
from simulator.units import bytes_per_s, count, number, seconds
from topologies.metrics import bisection_bytes_per_s, diameter_hops
from topologies.network import CROSS_RAIL
from topologies.reduction import reduce_graph

if TYPE_CHECKING:
    import networkx as nx

UP, OUT = SERIES_COLOURS[0], SERIES_COLOURS[1]
TINTS = {UP: "#DCEBF5", OUT: "#FBE6DA"}
FRAME = ("#F4F6F8", "#B8BFC7")
WIDEST = 48  # characters of a fact
NAMES = {"node": "node switch", "supernode": "supernode switch"}


def draw_topology(graph: "nx.DiGraph[Any]", path: Path | str) -> Path:
    """Draw a cluster's graph in layers, and write it as PNG, SVG or PDF by the suffix of `path`.

    The first node is drawn in full; the others are folded into stacks that say how many they stand for. Blue is
    scale-up, orange is scale-out; rates are in one direction.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    path
        The file to write.

    Raises
    ------
    TopologyError
        If the graph cannot be reduced.
    ValueError
        If the suffix is none of the picture formats.
    """
    network = reduce_graph(graph)
    if not layered(network):
        return draw_maps(graph, network, path)
    scene = lay_out(graph, network)
    with style():
        figure = Figure(figsize=(scene.width, scene.height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, scene.width), ylim=(0, scene.height))
        axes.axis("off")
        _draw_title(axes, scene, str(graph.graph.get("name", "cluster")))
        _draw_nodes(axes, scene)
        _draw_mesh(axes, scene) if scene.mesh else _draw_scale_up(axes, scene)
        if "leaf" in scene.y:
            _draw_leaves(axes, scene)
        if "spine" in scene.y:
            _draw_spines(axes, scene)
        if "core" in scene.y:
            _draw_core(axes, scene)
        _draw_facts(axes, scene)
        return save(figure, path)


def _box(
    axes: Axes, x: float, y: float, width: float, colours: tuple[str, str], copies: int = 1, **look: float
) -> None:
    """Draw a rounded box centred at (x, y), with a face and an edge colour; several copies show as a stack."""
    height, order = look.get("height", BOX), look.get("order", 3.0)
    for depth in reversed(range(min(copies, COPIES))):
        corner = (x - width / 2 + STEP * depth, y - height / 2 + STEP * depth)
        shape = FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.06", zorder=order - 0.1 * depth)
        shape.set(facecolor=colours[0], edgecolor=colours[1])
        axes.add_patch(shape)


def _switch(axes: Axes, x: float, y: float, width: float, text: str, colour: str, copies: int = 1) -> None:
    _box(axes, x, y, width, (TINTS[colour], colour), copies)
    _text(axes, x, y, text)


def _text(axes: Axes, x: float, y: float, text: str, colour: str = INK, size: float = 8.5, **look: Any) -> None:
    axes.text(x, y, text, color=colour, fontsize=size, zorder=4, va="center", **{"ha": "center", **look})


def _line(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, faint: bool = False) -> None:
    """Draw a link; those of folded nodes are faint, so that the node drawn in full stays in front."""
    width, alpha, order = (0.8, 0.3, 1) if faint else (1.4, 1.0, 2)
    axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=width, alpha=alpha, zorder=order)


def _rate(axes: Axes, x: float, y: float, value_bytes_per_s: float, what: str, colour: str) -> None:
    """Write a link's capacity on it."""
    room = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15"}
    _text(axes, x, y, f"{bytes_per_s(value_bytes_per_s)} {what}", colour, 8, bbox=room)


def _nodes(amount: int) -> str:
    return f"{count(amount)} node{'s' * (amount != 1)}"


def _ranks(amount: int) -> str:
    return f"{count(amount)} rank{'s' * (amount != 1)}"


def _draw_title(axes: Axes, scene: Scene, name: str) -> None:
    top = scene.height - 0.3
    title = f"{name}: {_ranks(scene.parts.ranks)} in {_nodes(scene.parts.nodes)}"
    _text(axes, LEFT, top, title, size=11.5, ha="left", fontweight="bold")
    bisection, hops = bytes_per_s(bisection_bytes_per_s(scene.network)), diameter_hops(scene.network)
    below = f"bisection {bisection} one way; at most {hops} link{'s' * (hops != 1)} between ranks"
    below += "; switches in parallel are drawn as one" * bool(scene.parts.switches)
    _text(axes, LEFT, top - 0.26, below, MUTED, ha="left")


def _draw_nodes(axes: Axes, scene: Scene) -> None:
    """Draw the first node's frame, ranks and NICs, and the stacks of its like."""
    low, high = scene.frame
    middle, tall = (low + high) / 2, high - low
    _box(axes, scene.centre, middle, scene.node_right - LEFT, FRAME, height=tall, order=0.0)
    _text(axes, LEFT + 0.11, middle, "node 0", MUTED, 8, rotation=90)
    where = "on the same leaves" if scene.rails else "on the same leaf"
    for x, amount, note in (
        (scene.near_x, scene.near, where if scene.leaves else "like node 0"),
        (scene.far_x, scene.far, "on other leaves"),
    ):
        if amount:
            _box(axes, x - 0.05, middle, STACK - 0.1, FRAME, amount, height=tall)
            _text(axes, x - 0.05, middle + 0.11, f"+ {_nodes(amount)}", size=10.5, fontweight="bold")
            _text(axes, x - 0.05, middle - 0.13, note, MUTED, 8)
            if x == scene.stacks[-1] and scene.last_node < scene.network.ranks_per_node:
                _text(axes, x - 0.05, middle - 0.3, f"(the last: {_ranks(scene.last_node)})", MUTED, 8)
    pitch = scene.x[1] - scene.x[0] if len(scene.x) > 1 else PITCH
    for rank, x in zip(scene.ranks, scene.x, strict=True):
        if rank == FOLDED:
            _text(axes, x, scene.y["rank"], ". . .")
            continue
        _box(axes, x, scene.y["rank"], 0.78 * pitch, (INK, INK))
        _text(axes, x, scene.y["rank"], str(rank), "white")
    for x, width, ranks in scene.nics if "nic" in scene.y else []:
        for rank_x in ranks:
            end = rank_x if abs(rank_x - x) < width / 2 else x
            _line(axes, (rank_x, scene.y["rank"] + BOX / 2), (end, scene.y["nic"] - 0.11), OUT)
        _box(axes, x, scene.y["nic"], width, (TINTS[OUT], OUT), height=0.22)
        _text(axes, x, scene.y["nic"], "NIC", size=7)


def _draw_mesh(axes: Axes, scene: Scene) -> None:
    """Draw an arc for each pair of ranks, below them."""
    foot = scene.y["rank"] - BOX / 2
    reach = max(scene.rank_x[-1] - scene.rank_x[0], 0.1)
    for index, start in enumerate(scene.rank_x):
        for end in scene.rank_x[index + 1 :]:
            tall = 2 * 0.85 * ((end - start) / reach) ** 0.7
            arc = Arc(((start + end) / 2, foot), end - start, tall, theta1=180, theta2=360, color=UP, lw=0.9, zorder=2)
            axes.add_patch(arc)
    if len(scene.rank_x) > 1:
        _rate(axes, scene.centre, foot - 0.87, scene.rows["node"].pair_bytes_per_s, "per pair", UP)


def _draw_scale_up(axes: Axes, scene: Scene) -> None:
    foot = scene.y["rank"] - BOX / 2
    for tier in ("node", "supernode"):
        if tier not in scene.y:
            continue
        row, y = scene.rows[tier], scene.y[tier]
        if tier == "node":
            _switch(axes, scene.centre, y, scene.x[-1] - scene.x[0] + 0.46, NAMES[tier], UP)
        else:
            copies = f" (1 of {count(row.domains)})" if row.domains > 1 else ""
            _switch(axes, (LEFT + scene.right) / 2, y, scene.right - LEFT, NAMES[tier] + copies, UP, row.domains)
            for x in scene.stacks:
                _line(axes, (x, scene.frame[0]), (x, y + BOX / 2), UP)
        if tier == "supernode" and "node" in scene.y:
            low = scene.y["node"] - BOX / 2
            _line(axes, (scene.centre, low), (scene.centre, y + BOX / 2), UP)
            room = (scene.frame[0] + y + BOX / 2) / 2
            _rate(axes, scene.centre, room, scene.uplink_bytes_per_s("node"), "per node", UP)
        else:
            for x in scene.rank_x:
                _line(axes, (x, foot), (x, y + BOX / 2), UP)
            _rate(axes, scene.centre, (foot + y + BOX / 2) / 2, row.port_bytes_per_s, "per rank", UP)


def _draw_leaves(axes: Axes, scene: Scene) -> None:
    y, row, nic_top = scene.y["leaf"], scene.rows["leaf"], scene.y["nic"] + 0.11
    others = row.domains - scene.leaves
    if scene.rails:
        for x, width, _ in scene.nics:
            _switch(axes, x, y, width, "leaf", OUT)
    else:
        right = scene.near_x + STACK / 2 if scene.near else scene.node_right
        _switch(axes, (LEFT + right) / 2, y, right - LEFT, "leaf", OUT)
    for x in scene.nic_x:
        _line(axes, (x, nic_top), (x, y - BOX / 2), OUT)
    _rate(axes, scene.centre, (nic_top + y - BOX / 2) / 2 + 0.1, row.port_bytes_per_s, "per NIC", OUT)
    if scene.near:
        for x in scene.nic_x if scene.rails else [scene.near_x]:
            _line(axes, (scene.near_x, scene.stack_top(scene.near)), (x, y - BOX / 2), OUT, faint=scene.rails)
    if scene.far:
        _switch(axes, scene.far_x - 0.05, y, STACK - 0.1, f"{count(others)} more", OUT, others)
        _line(axes, (scene.far_x, scene.stack_top(scene.far)), (scene.far_x, y - BOX / 2), OUT)


def _draw_spines(axes: Axes, scene: Scene) -> None:
    y, spines, leaf_top = scene.y["spine"], scene.rows["spine"].domains, scene.y["leaf"] + BOX / 2
    own = scene.nic_x if scene.rails else [scene.centre]
    pods, foot = "core" in scene.y, y - BOX / 2
    for x in own:
        _line(axes, (x, leaf_top), (x, foot), OUT)
    if spines > 1 and not pods:
        pitch = scene.x[1] - scene.x[0]
        for x in own:
            _switch(axes, x, y, 0.82 * pitch, "spine", OUT)
            _line(axes, (scene.far_x, leaf_top), (x, foot), OUT, faint=True)
    else:
        copies = f" (1 of {count(spines)})" if pods else ""
        _switch(axes, (LEFT + scene.right) / 2, y, scene.right - LEFT, f"spine{copies}", OUT, spines if pods else 1)
        _line(axes, (scene.far_x, leaf_top + 0.1), (scene.far_x, foot), OUT)
    _rate(axes, scene.centre, (leaf_top + foot) / 2, scene.uplink_bytes_per_s("leaf"), "per leaf", OUT)


def _draw_core(axes: Axes, scene: Scene) -> None:
    y, spine_top = scene.y["core"], scene.y["spine"] + BOX / 2 + STEP * (min(scene.rows["spine"].domains, COPIES) - 1)
    _switch(axes, (LEFT + scene.right) / 2, y, scene.right - LEFT, "core", OUT, scene.rows["core"].domains)
    for x in (scene.centre, scene.far_x):
        _line(axes, (x, spine_top), (x, y - BOX / 2), OUT)
    _rate(axes, scene.centre, (spine_top + y - BOX / 2) / 2, scene.uplink_bytes_per_s("spine"), "per pod", OUT)


def _draw_facts(axes: Axes, scene: Scene) -> None:
    """Say beside each layer what it is, how many there are and how long a message takes across it."""
    x = scene.right + GAP
    for name, y in scene.y.items():
        title, lines, colour = _facts(scene, name)
        _text(axes, x, y + 0.2, title, colour, 9, ha="left", fontweight="bold")
        for index, line in enumerate(lines):
            _text(axes, x, y + 0.02 - 0.17 * index, line, INK if index == 0 else MUTED, 8, ha="left")


def _facts(scene: Scene, name: str) -> tuple[str, list[str], str]:
    if name == "rank":
        return "Ranks", [f"{count(scene.parts.ranks)}, {count(scene.network.ranks_per_node)} per node"], INK
    if name == "nic":
        each = "one per rank" if scene.parts.nics == scene.parts.ranks else f"for {_ranks(scene.parts.ranks)}"
        return "NICs", [f"{count(scene.parts.nics)}, {each}", shorten(scene.rows["leaf"].plane, WIDEST)], OUT
    row = scene.rows[name]
    title = "full mesh" if name == "node" and scene.mesh else NAMES.get(name, name)
    joins = _ranks(row.ranks_per_domain)
    each = "each joins" if row.domains * row.ranks_per_domain == scene.parts.ranks else "each joins up to"
    lines = [f"{count(row.domains)}, {each} {joins}" if row.domains > 1 else f"joins all {joins}"]
    lines[0] += f", {seconds(row.latency_s)} one way"
    if name == "node" and scene.mesh:
        lines.append(f"{bytes_per_s(row.port_bytes_per_s)} per rank, over all its links")
    if row.oversubscription is not None:
        blocking = (
            "non-blocking" if row.oversubscription < 1.005 else f"oversubscribed {number(row.oversubscription)} : 1"
        )
        lines.append(f"{blocking} upwards")
    if CROSS_RAIL in scene.rows and name == ("spine" if "spine" in scene.y else "leaf"):
        cross = seconds(scene.rows[CROSS_RAIL].latency_s)
        lines.append(f"rails never meet: forwarded in a node, {cross}")
    colour = UP if name in {"node", "supernode"} else OUT
    if colour == UP:
        lines.insert(1, shorten(row.plane, WIDEST))
    return f"{title[0].upper()}{title[1:]}", lines, colour
