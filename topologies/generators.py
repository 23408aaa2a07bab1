"""From a cluster's description to its graph: ranks, NICs and switches, with capacity and latency on every edge.

A rank is a vertex named by its number; every other vertex is named by what it is (``node 3``, ``nic 12``, ``leaf 5``).
Vertices carry ``kind`` (``rank``, ``nic``, ``switch``); ranks also ``rank``, ``node``, ``rail``; switches and NICs also
``tier`` and ``plane``. Edges run both ways and carry ``bytes_per_s`` (one direction), ``latency_s`` and ``plane``.
The latencies along a route add up to the measured one-way time between its two ranks.

Switches that share load by equal-cost routing are drawn as one: a leaf vertex stands for the switches of its group, the
spine vertex for all spines, and an edge for the sum of the cables. Perfect spreading is thereby assumed; collisions of
hashed flows are a penalty on top, not a different graph.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import networkx as nx
import numpy as np

from topologies.errors import TopologyError
from topologies.specs import Accelerator, ClusterSpec, Fabric, ScaleOut

MAX_RANKS = 131_072
SCALE_UP, SCALE_OUT = 0, 1


@dataclass(frozen=True, slots=True)
class _Layout:
    """How many ranks there are, and how they are grouped."""

    ranks: int
    per_chip: int
    per_node: int
    per_domain: int

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.per_node)

    def members(self, size: int) -> list[range]:
        """Return the ranks of each run of `size` ranks; the last run may be shorter."""
        return [range(first, min(first + size, self.ranks)) for first in range(0, self.ranks, size)]


def build_graph(
    spec: ClusterSpec, chip: Accelerator, fabrics: Mapping[str, Fabric], chips: int
) -> "nx.DiGraph[int | str]":
    """Build the graph of the first `chips` chips of a cluster, only as far up as they need to reach each other.

    A job that fills only a part of a leaf or node owns its share of the cables above, so oversubscription is the same
    everywhere. Dies of one package share its ports equally. The graph's own attributes are ``name`` and ``planes``, for
    each plane a dict of ``name``, ``fabric`` and ``port_bytes_per_s`` (per rank).

    Parameters
    ----------
    spec, chip, fabrics
        The cluster, its chip, and at least the fabrics that it names, by id.
    chips
        Packages to use; whole nodes are not required.

    Raises
    ------
    TopologyError
        If the description contradicts itself, or cannot hold that many chips.
    """
    inner = _fabric(fabrics, spec.scale_up.fabric, f"{spec.id}.scale_up.fabric")
    outer = spec.scale_out and _fabric(fabrics, spec.scale_out.fabric, f"{spec.id}.scale_out.fabric")
    problems = [*_size_problems(spec, chip, chips), *_scale_up_problems(spec, inner)]
    if spec.scale_out and outer and chips > spec.scale_up.domain_chips:
        problems += _scale_out_problems(spec, spec.scale_out, outer)
    if problems:
        raise TopologyError(*problems)
    dies = chip.ranks_per_chip
    layout = _Layout(chips * dies, dies, spec.chips_per_node * dies, spec.scale_up.domain_chips * dies)
    graph: nx.DiGraph[int | str] = nx.DiGraph(name=spec.name, planes=[_plane(inner, dies)])
    graph.add_nodes_from(
        (rank, {"kind": "rank", "rank": rank, "node": rank // layout.per_node, "rail": rank % layout.per_node})
        for rank in range(layout.ranks)
    )
    _add_mesh(graph, layout, inner) if inner.shape == "mesh" else _add_switches(graph, layout, inner)
    if spec.scale_out and outer and layout.ranks > layout.per_domain:
        graph.graph["planes"].append(_plane(outer, dies))
        _add_scale_out(graph, layout, outer, spec.scale_out)
    return graph


def _fabric(fabrics: Mapping[str, Fabric], name: str, place: str) -> Fabric:
    if name in fabrics:
        return fabrics[name]
    near = difflib.get_close_matches(name, fabrics, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise TopologyError(f"{place}: '{name}': no such fabric{hint}; give its record")


def _plane(fabric: Fabric, dies: int) -> dict[str, str | float]:
    return {"name": fabric.name, "fabric": fabric.id, "port_bytes_per_s": fabric.port_bytes_per_s / dies}


def _size_problems(spec: ClusterSpec, chip: Accelerator, chips: int) -> list[str]:
    place = f"{spec.id}.chips: {chips}"
    if chips < 1:
        return [f"{place}: a cluster has at least one chip; ask for 1 or more"]
    if spec.max_chips is not None and chips > spec.max_chips:
        return [f"{place}: the described network reaches {spec.max_chips} chips (max_chips); ask for no more"]
    if spec.scale_out is None and chips > spec.scale_up.domain_chips:
        domain = spec.scale_up.domain_chips
        return [
            f"{place}: without scale_out only one domain of {domain} chips exists; ask for no more, or add scale_out"
        ]
    if chips * chip.ranks_per_chip > MAX_RANKS:
        limit = MAX_RANKS // chip.ranks_per_chip
        return [f"{place}: graphs stop at {MAX_RANKS} ranks, {limit} of these chips; ask for no more"]
    return []


def _scale_up_problems(spec: ClusterSpec, inner: Fabric) -> list[str]:
    node, domain = spec.chips_per_node, spec.scale_up.domain_chips
    place = f"{spec.id}.scale_up.domain_chips: {domain}"
    if domain % node:
        return [f"{place}: not a whole number of nodes of {node} chips; describe each domain as a node, or add chips"]
    if inner.shape == "mesh" and domain > node:
        return [f"{place}: a full mesh ends at the node ({node} chips); set {node}, or use a switched fabric"]
    if inner.shape == "mesh" and (inner.links or domain) < domain - 1:
        return [
            f"{place}: a full mesh needs {domain - 1} links per chip, '{inner.id}' has {inner.links}; use fewer chips"
        ]
    return _latency_problems(inner, needs_far=False)


def _scale_out_problems(spec: ClusterSpec, outer_spec: ScaleOut, outer: Fabric) -> list[str]:
    problems = _latency_problems(outer, needs_far=True)
    if outer_spec.planes and not outer_spec.rail_optimised:
        problems.append(
            f"{spec.id}.scale_out.planes: true: separate planes need rail_optimised; set it, or planes = false"
        )
    return problems


def _latency_problems(fabric: Fabric, needs_far: bool) -> list[str]:
    far = fabric.far_latency_s
    if far is None:
        return [f"{fabric.id}.far_latency_s: missing: switch tiers need it; give the time across them"] * needs_far
    if far < fabric.near_latency_s:
        return [f"{fabric.id}.far_latency_s: {far:g}: below near_latency_s {fabric.near_latency_s:g}; correct either"]
    return []


def _link(
    graph: "nx.DiGraph[int | str]",
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


def _add_mesh(graph: "nx.DiGraph[int | str]", layout: _Layout, fabric: Fabric) -> None:
    """Link every pair of ranks in a node directly.

    The link between two chips is split evenly over their pairs of dies. No record holds the rate between the dies of
    one package: it is assumed to be that of any other pair.
    """
    peers = max(layout.per_domain // layout.per_chip - 1, 1)
    links = fabric.links or peers
    per_chip_pair = fabric.port_bytes_per_s / links * (links // peers)
    pairs = np.array(
        [pair for ranks in layout.members(layout.per_node) for pair in combinations(ranks, 2)], dtype=np.int64
    ).reshape(-1, 2)
    rate = per_chip_pair / layout.per_chip**2
    _link(graph, pairs[:, 0].tolist(), pairs[:, 1].tolist(), rate, fabric.near_latency_s, SCALE_UP)


def _add_switches(graph: "nx.DiGraph[int | str]", layout: _Layout, fabric: Fabric) -> None:
    """Hang ranks on scale-up switches: one tier if the domain is a node or its fabric has no far latency, else two.

    The second tier is non-blocking, as those of CloudMatrix384 and NVL72 are.
    """
    port = fabric.port_bytes_per_s / layout.per_chip
    far = fabric.far_latency_s if layout.per_domain > layout.per_node else None
    beyond_node = layout.per_domain > layout.per_node and far is None
    size, tier = (layout.per_domain, "supernode") if beyond_node else (layout.per_node, "node")
    switches = _add_tier(graph, tier, -(-layout.ranks // size), SCALE_UP)
    ranks = range(layout.ranks)
    _link(graph, ranks, [switches[r // size] for r in ranks], port, fabric.near_latency_s / 2, SCALE_UP)
    if far is None or len(switches) == 1:
        return
    tops = _add_tier(graph, "supernode", -(-layout.ranks // layout.per_domain), SCALE_UP)
    nodes_per_domain = layout.per_domain // layout.per_node
    above = [tops[node // nodes_per_domain] for node in range(layout.nodes)]
    rates = [len(members) * port for members in layout.members(size)]
    _link(graph, switches, above, rates, (far - fabric.near_latency_s) / 2, SCALE_UP)


def _add_tier(graph: "nx.DiGraph[int | str]", tier: str, count: int, plane: int, kind: str = "switch") -> list[str]:
    names = [f"{tier} {index}" for index in range(count)]
    graph.add_nodes_from(names, kind=kind, tier=tier, plane=plane)
    return names


def _add_scale_out(graph: "nx.DiGraph[int | str]", layout: _Layout, fabric: Fabric, spec: ScaleOut) -> None:
    """Give each rank a NIC, join NICs at leaves and leaves at the spine (one spine per rail with `planes`).

    Measured latencies run from memory to memory, so the hop from rank to NIC adds none.
    """
    port = fabric.port_bytes_per_s / layout.per_chip
    ranks = np.arange(layout.ranks)
    rails = layout.per_node if spec.rail_optimised else 1
    leaf = ranks // layout.per_node // spec.leaf_nodes * rails + ranks % layout.per_node % rails
    ports = np.bincount(leaf)
    nics = _add_tier(graph, "nic", layout.ranks, SCALE_OUT, kind="nic")
    leaves = _add_tier(graph, "leaf", len(ports), SCALE_OUT)
    _link(graph, ranks.tolist(), nics, port, 0.0, SCALE_OUT)
    _link(graph, nics, [leaves[i] for i in leaf.tolist()], port, fabric.near_latency_s / 2, SCALE_OUT)
    spines = rails if spec.planes else 1
    if len(leaves) == spines or fabric.far_latency_s is None:
        return
    spine = _add_tier(graph, "spine", spines, SCALE_OUT)
    uplinks = (ports * port / spec.oversubscription).tolist()
    above = [spine[index % spines] for index in range(len(leaves))]
    _link(graph, leaves, above, uplinks, (fabric.far_latency_s - fabric.near_latency_s) / 2, SCALE_OUT)
