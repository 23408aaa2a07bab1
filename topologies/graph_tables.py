"""A cluster graph as columns, checked: every problem of the graph as a whole is found here."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError

SHOWN = 5  # problem lines of one kind; a broken graph breaks the same way a thousand times

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edges:
    """Directed edges as columns; vertices are numbered, ranks first. `[edges]` each."""

    source: Ints
    target: Ints
    bytes_per_s: Floats
    latency_s: Floats
    plane: Ints

    def take(self, index: NDArray[np.bool_] | Ints) -> "Edges":
        """Return the edges at `index`, a mask or numbers."""
        return Edges(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Vertices:
    """Vertices as columns. `[vertices]` each, ranks first in the order of their numbers."""

    names: list[Any]
    is_nic: NDArray[np.bool_]
    tier: list[str]
    ranks: int


def refuse(problems: Sequence[str]) -> None:
    """Raise the first few of `problems`, if there are any."""
    if len(problems) > SHOWN:
        problems = [*problems[:SHOWN], f"... and {len(problems) - SHOWN} more like these"]
    if problems:
        raise TopologyError(*problems)


def read_planes(graph: "nx.DiGraph[Any]") -> list[tuple[str, str, float]]:
    """Return name, fabric and nominal port [bytes/s] of each plane."""
    try:
        planes = [(p["name"], p["fabric"], float(p["port_bytes_per_s"])) for p in graph.graph["planes"]]
    except (KeyError, TypeError, ValueError) as error:
        line = f"graph.planes: {error}: missing or malformed; give each plane a name, a fabric and port_bytes_per_s"
        raise TopologyError(line) from None
    if not planes:
        raise TopologyError("graph.planes: empty: no network to reduce; describe at least one plane")
    return planes


def read_vertices(graph: "nx.DiGraph[Any]") -> tuple[Vertices, NDArray[np.int32], NDArray[np.int32]]:
    """Return all vertices, and `[ranks]` node and rail."""
    ranks = [(v, d) for v, d in graph.nodes(data=True) if d.get("kind") == "rank"]
    rest = [(v, d) for v, d in graph.nodes(data=True) if d.get("kind") != "rank"]
    problems = [
        f"vertex {v!r}: kind {d.get('kind')!r}: use 'rank', or 'nic' or 'switch' with a tier name"
        for v, d in rest
        if d.get("kind") not in {"nic", "switch"} or "tier" not in d
    ]
    problems += [
        f"vertex {v!r}: a rank needs rank, node and rail; set them"
        for v, d in ranks
        if not {"rank", "node", "rail"} <= set(d)
    ]
    refuse(problems if ranks else ["graph: no rank: nothing to reduce; add vertices of kind 'rank'"])
    ranks.sort(key=lambda item: item[1]["rank"])
    table = np.array([(d["rank"], d["node"], d["rail"]) for _, d in ranks], dtype=np.int32)
    if not np.array_equal(table[:, 0], np.arange(len(ranks))):
        raise TopologyError(f"graph: ranks are not numbered 0 to {len(ranks) - 1}; number them so")
    names = [v for v, _ in ranks] + [v for v, _ in rest]
    is_nic = np.array([False] * len(ranks) + [d["kind"] == "nic" for _, d in rest])
    tier = ["rank"] * len(ranks) + [d["tier"] for _, d in rest]
    return Vertices(names, is_nic, tier, len(ranks)), table[:, 1].copy(), table[:, 2].copy()


def read_edges(graph: "nx.DiGraph[Any]", vertices: Vertices) -> Edges:
    """Return all edges; each is positive and finite, and has its equal in reverse."""
    number = {name: index for index, name in enumerate(vertices.names)}
    around = dict(graph.adjacency())
    found = list(chain.from_iterable(near.values() for near in around.values()))
    needed = ("bytes_per_s", "latency_s", "plane")
    try:
        columns = np.fromiter(map(itemgetter(*needed), found), [(key, np.float64) for key in needed], len(found))
    except (KeyError, TypeError, ValueError):
        lacking = [(u, v, sorted({*needed} - set(d))) for u, v, d in graph.edges(data=True) if {*needed} - set(d)]
        refuse([f"edge {u!r} -> {v!r}: missing {', '.join(names)}; set it" for u, v, names in lacking])
        raise TopologyError("graph: an edge's bytes_per_s, latency_s or plane is not a number; give numbers") from None
    starts = np.fromiter(map(number.__getitem__, around), np.int64, len(around))
    source = np.repeat(starts, np.fromiter(map(len, around.values()), np.int64, len(around)))
    target = np.fromiter(map(number.__getitem__, chain.from_iterable(around.values())), np.int64, len(found))
    rate, latency, own = (np.ascontiguousarray(columns[key]) for key in needed)
    planes = len(read_planes(graph))
    known = (own >= 0) & (own < planes) & (own == np.floor(own))
    edges = Edges(source, target, rate, latency, np.where(known, own, -1).astype(np.int64))
    linked = np.bincount(source, minlength=len(vertices.names)) > 0
    loose = np.flatnonzero(~linked[vertices.ranks :]) + vertices.ranks
    refuse([f"vertex {vertices.names[i]!r}: no link leaves it; join it to the rest, or remove it" for i in loose])
    _check_edges(edges, vertices, planes)
    return edges


def _check_edges(edges: Edges, vertices: Vertices, planes: int) -> None:
    def lines(bad: NDArray[np.bool_], what: str) -> list[str]:
        named = ((vertices.names[edges.source[i]], vertices.names[edges.target[i]]) for i in np.flatnonzero(bad))
        return [f"edge {u!r} -> {v!r}: {what}" for u, v in named]

    problems = lines(edges.source == edges.target, "a link to itself; remove it")
    rate = edges.bytes_per_s
    problems += lines(~(np.isfinite(rate) & (rate > 0)), "bytes_per_s must be positive and finite")
    problems += lines(~(np.isfinite(edges.latency_s) & (edges.latency_s >= 0)), "latency_s must be finite, at least 0")
    problems += lines(edges.plane < 0, f"plane must be a number from 0 to {planes - 1}")
    size = len(vertices.names)
    forward, backward = edges.source * size + edges.target, edges.target * size + edges.source
    order, back = (np.argsort(each, kind="stable") for each in (forward, backward))  # nearly in order
    if (forward[order] != backward[back]).any():
        problems += lines(~np.isin(forward, backward), "no way back; links are full duplex, add the reverse edge")
    else:
        reverse = np.empty_like(forward)
        reverse[order] = back
        uneven = (rate != rate[reverse]) | (edges.plane != edges.plane[reverse])
        problems += lines(
            uneven & np.isfinite(rate), "the reverse edge differs in bytes_per_s or plane; make them equal"
        )
    refuse(problems)
