"""Networks without layers as a map: the switches or ranks of a plane where they stand, with every link between them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.style import INK, MUTED, SERIES_COLOURS, save, style
from reports.text import shorten
from simulator.units import bytes_per_s, count, seconds
from topologies.metrics import TierRow, bisection_bytes_per_s, describe, diameter_hops, grids
from topologies.network import Network

if TYPE_CHECKING:
    import networkx as nx

MOST = 160  # points of one map; of more, a corner is drawn
PANEL, FACTS, HEAD = 5.4, 3.4, 0.9
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Map:
    """One plane's points, where they stand, the links between them, and how many points there are in all."""

    plane: int
    at: dict[Any, Place]
    links: list[tuple[Any, Any, float]]
    points: int
    shape: str
    rows: dict[str, float]


def draw_maps(graph: "nx.DiGraph[Any]", network: Network, path: Path | str) -> Path:
    """Draw a map of each plane with several ways between ranks (of all, if none has), and all tiers as text beside.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    network
        The graph, reduced.
    path
        The file to write.
    """
    planes = range(len(network.planes))
    routed = [index for index in planes if network.planes[index].routes is not None]
    maps = [_map(graph, index) for index in routed or planes]
    rows = describe(network)
    with style():
        height = max(PANEL, 0.95 * len(rows) + 0.5) + HEAD
        figure = Figure(figsize=(PANEL * len(maps) + FACTS, height))
        for index, drawn in enumerate(maps):
            width = PANEL / (PANEL * len(maps) + FACTS)
            axes = figure.add_axes((index * width, 1 - (HEAD + PANEL) / height, width, PANEL / height))
            _draw_map(
                axes, drawn, f"{network.planes[drawn.plane].name}, {drawn.shape}", SERIES_COLOURS[drawn.plane % 2]
            )
        _draw_words(figure, graph, network, rows, PANEL * len(maps))
        return save(figure, path)


def _map(graph: "nx.DiGraph[Any]", plane: int) -> Map:
    """Return the map of a plane: of its switches if they are linked to each other, else of its ranks."""
    order = {v: index for index, v in enumerate(graph)}
    both = ((u, v, d) for u, v, d in graph.edges(data=True) if d["plane"] == plane)
    edges = [(u, v, float(d["bytes_per_s"])) for u, v, d in both if order[u] < order[v]]
    switch = {v for v, d in graph.nodes(data=True) if d["kind"] == "switch" and d.get("plane") == plane}
    between = [(u, v, rate) for u, v, rate in edges if u in switch and v in switch]
    chosen = between or [(u, v, rate) for u, v, rate in edges if u not in switch and v not in switch] or edges
    ends = {v for u, v, _ in chosen} | {u for u, v, _ in chosen}
    points = [v for v in graph if v in ends]
    described = graph.graph["planes"][plane]
    at, shape = _places(points, described.get("grid"), graph, switches=bool(between))
    links = [(u, v, rate) for u, v, rate in chosen if u in at and v in at]
    in_rows = not described.get("grid") or (len(described["grid"][1]) < 2 and not between)
    rows = {_tier(graph, v): y + 0.45 for v, (_, y) in at.items()} if in_rows else {}
    return Map(plane, at, links, len(points), shape, rows)


def _places(points: Sequence[Any], grid: Any, graph: "nx.DiGraph[Any]", switches: bool) -> tuple[dict[Any, Place], str]:
    """Return where points stand: on their grid, in groups on a ring, or in rows by tier."""
    if grid and len(grid[1]) > 1:
        dims = grid[1]
        shape = " x ".join(map(str, dims)) + (" switches" if switches else " ranks")
        return _on_grid(points[: math.prod(dims)], dims), shape
    if grid and switches:
        per_group = -(-len(points) // max(grid[1][0], 1))
        return _on_rings(points, per_group), f"{grid[1][0]} groups of {per_group} switches"
    return _in_rows(points[:MOST], graph), f"{count(len(points))} vertices"


def _on_grid(points: Sequence[Any], dims: Sequence[int]) -> dict[Any, Place]:
    """Place points by their first two coordinates; a third one aslant, further ones in whole blocks, in turn."""
    room = list(dims)
    while math.prod(room) > MOST:
        widest = room.index(max(room))
        room[widest] -= 1
    found: dict[Any, Place] = {}
    first = 0.7 + 0.3 * room[2] if len(room) == 3 else 1.0
    for index, point in enumerate(points):
        at, place, pitch = index, [0.0, 0.0], [first, first]
        inside = True
        for axis, (size, seen) in enumerate(zip(dims, room, strict=True)):
            at, step = divmod(at, size)
            inside &= step < seen
            if axis == 2 and len(dims) == 3:
                place = [place[0] + 0.3 * step, place[1] + 0.3 * step]
                continue
            place[axis % 2] += step * pitch[axis % 2]
            pitch[axis % 2] *= seen + 0.6
        if inside:
            found[point] = (place[0], place[1])
    return found


def _on_rings(points: Sequence[Any], per_group: int) -> dict[Any, Place]:
    """Place groups on a ring and the points of a group on a small ring of their own; whole groups as far as fit."""
    shown = max(2, min(-(-len(points) // per_group), MOST // per_group))
    small = 0.6 * math.pi / shown if per_group > 1 else 0.0
    found: dict[Any, Place] = {}
    for index, point in enumerate(points[: shown * per_group]):
        group, member = divmod(index, per_group)
        turn, own = 2 * math.pi * group / shown, 2 * math.pi * member / per_group + 2 * math.pi * group / shown
        found[point] = (math.cos(turn) + small * math.cos(own), math.sin(turn) + small * math.sin(own))
    return found


def _in_rows(points: Sequence[Any], graph: "nx.DiGraph[Any]") -> dict[Any, Place]:
    tiers = list(dict.fromkeys(_tier(graph, v) for v in points))
    sizes = Counter(_tier(graph, v) for v in points)
    seen: Counter[str] = Counter()
    found: dict[Any, Place] = {}
    for point in points:
        tier = _tier(graph, point)
        found[point] = ((seen[tier] + 0.5) / sizes[tier] * 10, 3.0 * tiers.index(tier))
        seen[tier] += 1
    return found


def _tier(graph: "nx.DiGraph[Any]", vertex: Any) -> str:
    return str(graph.nodes[vertex].get("tier", "rank"))


def _draw_map(axes: Axes, drawn: Map, title: str, colour: str) -> None:
    axes.axis("off")
    spots = np.array(list(drawn.at.values()))
    span = float(np.ptp(spots, axis=0).max()) or 1.0
    rates = np.array([rate for _, _, rate in drawn.links])
    curves = [_curve(drawn.at[u], drawn.at[v]) for u, v, _ in drawn.links]
    crowd = 1.0 if len(curves) < 150 else 0.5
    widths = crowd * (0.4 + 1.2 * rates / rates.max()) if rates.size else rates
    alpha = 0.75 * crowd
    axes.add_collection(LineCollection(curves, linewidths=widths.tolist(), colors=colour, alpha=alpha, zorder=1))
    apart = np.hypot(*(spots[:, None] - spots[None, :]).T) + 1e9 * np.eye(len(spots))
    size = min(26.0, 0.62 * float(apart.min()) / span * 0.8 * PANEL * 72) ** 2
    axes.scatter(spots[:, 0], spots[:, 1], s=size, color="white", edgecolors=colour, zorder=2)
    if size > 180:
        for vertex, (x, y) in drawn.at.items():
            axes.text(x, y, str(vertex).rsplit(" ", 1)[-1], ha="center", va="center", fontsize=7, color=INK, zorder=3)
    middle = (spots.min(axis=0) + spots.max(axis=0)) / 2
    axes.set_xlim(middle[0] - 0.6 * span, middle[0] + 0.6 * span)
    axes.set_ylim(middle[1] - 0.58 * span, middle[1] + 0.62 * span)
    for tier, y in drawn.rows.items():
        axes.text(middle[0] - 0.58 * span, y, tier, fontsize=8, color=MUTED, va="center")
    part = f"; {count(len(spots))} of {count(drawn.points)} drawn" if len(spots) < drawn.points else ""
    widest = f"{bytes_per_s(float(rates.max()))} per link" if rates.size else ""
    if rates.size and rates.min() < rates.max():
        widest = f"{bytes_per_s(float(rates.min()))} to {widest}"
    axes.text(0.03, 0.985, shorten(title, 62), transform=axes.transAxes, fontsize=9, fontweight="bold", color=colour)
    axes.text(0.03, 0.945, f"{widest}{part}", transform=axes.transAxes, fontsize=8, color=MUTED)


def _curve(start: Place, end: Place) -> NDArray[np.float64]:
    """Return points along a link: straight to a neighbour, bowed over others in between."""
    a, b = np.array(start), np.array(end)
    along = b - a
    length = float(np.hypot(*along))
    bow = 0.14 * length if length > 1.05 and min(abs(along)) < 1e-9 else 0.0
    middle = (a + b) / 2 + bow * np.array([along[1], -along[0]]) / max(length, 1e-9)
    t = np.linspace(0, 1, 2 if not bow else 16)[:, None]
    found: NDArray[np.float64] = (1 - t) ** 2 * a + 2 * t * (1 - t) * middle + t**2 * b
    return found


def _draw_words(
    figure: Figure, graph: "nx.DiGraph[Any]", network: Network, rows: Sequence[TierRow], left_inches: float
) -> None:
    width, height = figure.get_size_inches()
    name = str(graph.graph.get("name", "cluster"))
    figure.text(
        0.35 / width, 1 - 0.35 / height, f"{name}: {count(network.ranks)} ranks", fontsize=11.5, fontweight="bold"
    )
    bisection = bytes_per_s(bisection_bytes_per_s(network, grids(graph)))
    below = f"bisection {bisection} one way; at most {diameter_hops(network)} links between ranks"
    figure.text(0.35 / width, 1 - 0.6 / height, below, fontsize=9, color=MUTED)
    tiers: Mapping[str, int] = Counter(str(d["tier"]) for _, d in graph.nodes(data=True) if d["kind"] != "rank")
    parts = [f"{count(amount)} x {tier}" for tier, amount in tiers.items()]
    y = height - HEAD - 0.25
    for row in rows:
        title = f"{row.tier}, {shorten(row.plane, 34)}"
        lines = [
            f"{count(row.domains)} of up to {count(row.ranks_per_domain)} ranks",
            f"{bytes_per_s(row.port_bytes_per_s)} per rank, at most {row.hops} links",
            f"{seconds(row.latency_s)} one way",
        ]
        figure.text(left_inches / width, y / height, title, fontsize=9, fontweight="bold", color=INK)
        for index, line in enumerate(lines):
            figure.text(left_inches / width, (y - 0.19 * (index + 1)) / height, line, fontsize=8, color=MUTED)
        y -= 0.95
    figure.text(
        left_inches / width, y / height, shorten("switches and NICs: " + ", ".join(parts), 60), fontsize=8, color=INK
    )
