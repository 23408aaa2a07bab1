"""How ranks are grouped, and the two ways in which every generator adds to a graph: vertices of a tier, and links."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topologies.generators.grid import Pairs
from topologies.specs import Fabric

Graph: TypeAlias = "nx.DiGraph[int | str]"
Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """How many ranks there are, and how they are grouped."""

    ranks: int
    per_chip: int
    per_node: int
    per_domain: int

    @property
    def nodes(self) -> int:
        """Nodes in use; the last may be partly filled."""
        return -(-self.ranks // self.per_node)

    def members(self, size: int) -> list[range]:
        """Return the ranks of each run of `size` ranks; the last run may be shorter."""
        return [range(first, min(first + size, self.ranks)) for first in range(0, self.ranks, size)]


@dataclass(frozen=True, slots=True)
class Nics:
    """The NICs of a cluster: `[nics]` names, node and index in the node, and their rate [bytes/s]."""

    names: list[str]
    node: Ints
    index: Ints
    per_node: int
    bytes_per_s: float


def new_plane(
    graph: Graph, name: str, fabric: Fabric, port_bytes_per_s: float, grid: tuple[int, Sequence[int]] | None = None
) -> int:
    """Add a plane, and return its number; `grid` is the ranks of a point of it, and its points per dimension."""
    planes: list[dict[str, Any]] = graph.graph["planes"]
    planes.append({"name": name, "fabric": fabric.id, "port_bytes_per_s": port_bytes_per_s})
    if grid:
        planes[-1]["grid"] = (grid[0], tuple(grid[1]))
    return len(planes) - 1


def add_tier(graph: Graph, tier: str, count: int, plane: int, kind: str = "switch") -> list[str]:
    """Add `count` vertices of a tier, and return their names."""
    names = [f"{tier} {index}" for index in range(count)]
    graph.add_nodes_from(names, kind=kind, tier=tier, plane=plane)
    return names


def link(
    graph: Graph,
    low: Iterable[int | str],
    high: Iterable[int | str],
    bytes_per_s: float | Sequence[float],
    latency_s: float,
    plane: int,
) -> None:
    """Join pairs of vertices both ways, at one capacity or at one capacity per pair."""
    low, high = list(low), list(high)
    shared = {"latency_s": latency_s, "plane": plane}
    if isinstance(bytes_per_s, Sequence):
        own = [{"bytes_per_s": rate} for rate in bytes_per_s]
        graph.add_edges_from(chain(zip(low, high, own, strict=True), zip(high, low, own, strict=True)), **shared)
    else:
        pairs = chain(zip(low, high, strict=True), zip(high, low, strict=True))
        graph.add_edges_from(pairs, bytes_per_s=bytes_per_s, **shared)


def join_pairs(
    graph: Graph, ends: Sequence[int | str], pairs: Pairs, bytes_per_s: Floats, latency_s: float, plane: int
) -> None:
    """Join pairs of `ends`, which the numbers in `pairs` count; `[pairs]` capacity of each."""
    low, high = ([ends[i] for i in side.tolist()] for side in (pairs.low, pairs.high))
    link(graph, low, high, bytes_per_s.tolist(), latency_s, plane)


def add_nics(graph: Graph, layout: Layout, fabric: Fabric, chips_per_nic: int, plane: int) -> Nics:
    """Give each rank a NIC of its own, or every `chips_per_nic` chips of a node one in common.

    Measured latencies run from memory to memory, so the hop from rank to NIC adds none.
    """
    shared = 1 if chips_per_nic == 1 else chips_per_nic * layout.per_chip
    rate = fabric.port_bytes_per_s / (layout.per_chip if shared == 1 else 1)
    per_node = -(-layout.per_node // shared)
    ranks = np.arange(layout.ranks)
    node, slot = ranks // layout.per_node, ranks % layout.per_node // shared
    key = node * per_node + slot
    found, own = (key, ranks) if shared == 1 else np.unique(key, return_inverse=True)
    names = add_tier(graph, "nic", len(found), plane, kind="nic")
    link(graph, ranks.tolist(), [names[i] for i in own.tolist()], rate, 0.0, plane)
    return Nics(names, found // per_node, found % per_node, per_node, rate)
