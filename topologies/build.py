"""From a description to the reduced network in one step, remembered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from topologies.catalogue.machine_file import Archipelago
from topologies.errors import TopologyError
from topologies.faults import Damage, Fault, damage, lost_nodes, read_faults
from topologies.faults.text import PLACE
from topologies.generators import build_graph
from topologies.graph_file import read_graph
from topologies.islands import Shore, join
from topologies.network import CROSS_RAIL, Network
from topologies.reduction import reduce_graph
from topologies.routes import Policy
from topologies.specs import Accelerator, ClusterSpec, Fabric, GraphFile
from topologies.subgraph import drop_loose, without_ranks


def network(
    spec: ClusterSpec,
    chip: Accelerator,
    fabrics: Mapping[str, Fabric],
    chips: int,
    faults: Sequence[str] = (),
    policy: Policy = "ecmp",
) -> Network:
    """Return the reduced network of `chips` chips of a cluster; equal descriptions share one (read-only) result.

    Parameters
    ----------
    spec, chip, fabrics, chips, faults
        As for `damaged_graph`.
    policy
        As for `topologies.reduction.reduce_graph`.

    Raises
    ------
    TopologyError
        If the description contradicts itself, or cannot hold that many chips, or faults leave no way.
    """
    used = {spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])}
    used |= set(spec.graph.fabrics if spec.graph else ())
    known = tuple((name, fabrics[name]) for name in sorted(used) if name in fabrics)
    return _network(spec, chip, known, chips, tuple(faults), policy)


def damaged_graph(
    spec: ClusterSpec, chip: Accelerator, fabrics: Mapping[str, Fabric], chips: int, faults: Sequence[str] = ()
) -> Damage:
    """Return the graph of `chips` chips in working nodes, with the faults of its links, NICs and switches.

    The job takes the first nodes that work, of the cluster's nominal size or of what it asks for if that is more.

    Parameters
    ----------
    spec, chip, fabrics, chips
        As for `topologies.generators.build_graph`.
    faults
        As operators write them, see `topologies.faults.text`.

    Raises
    ------
    TopologyError
        As `network` says.
    """
    if spec.graph:
        return _damaged_file(spec, spec.graph, fabrics, chips, faults)
    if not faults:
        return Damage(build_graph(spec, chip, fabrics, chips), ())
    found = read_faults(faults)
    return damage(build_graph(spec, chip, fabrics, _chips_to_build(spec, chips, found)), found)


def joined_graph(found: Archipelago, faults: Sequence[str] = ()) -> Damage:
    """Return the graph of all islands of a machine, with the faults of its links, NICs, switches and nodes.

    Raises
    ------
    TopologyError
        If islands can't be built or joined, or faults leave no way.
    """
    shores = []
    for name, (spec, chip, fabrics) in found.islands.items():
        graph = build_graph(spec, chip, fabrics, spec.chips)
        if reduce_graph(graph).tiers[-1].name == CROSS_RAIL:
            raise TopologyError(f"islands.{name}: its rails never meet; take a cluster whose network joins all ranks")
        shared = found.between.chips_per_nic
        rate = found.fabric.port_bytes_per_s / (chip.ranks_per_chip if shared == 1 else 1)
        shores.append(Shore(name, graph, 1 if shared == 1 else shared * chip.ranks_per_chip, rate))
    graph = join(found.name, shores, found.fabric, found.between)
    return damage(graph, read_faults(faults)) if faults else Damage(graph, ())


def _damaged_file(
    spec: ClusterSpec, file: GraphFile, fabrics: Mapping[str, Fabric], chips: int, faults: Sequence[str]
) -> Damage:
    """Return the graph of a file with its faults, cut to the first ranks that are left."""
    graph: Any = read_graph(Path(file.path), file.sha256).copy()
    whole = sum(1 for _, kind in graph.nodes(data="kind") if kind == "rank")
    wanted = chips * whole // spec.chips
    if not 1 <= chips <= spec.chips:
        raise TopologyError(f"{spec.id}.chips: {chips}: the graph has {spec.chips}; ask for 1 to {spec.chips}")
    graph.graph["planes"] = [_plane_of(graph, index, fabrics[name]) for index, name in enumerate(file.fabrics)]
    hurt = damage(graph, read_faults(faults)) if faults else Damage(graph, ())
    ranks = [v for v, d in hurt.graph.nodes(data=True) if d["kind"] == "rank"]
    if wanted > len(ranks):
        rest = len(ranks) * spec.chips // whole
        raise TopologyError(
            f"{PLACE}: {rest} of {spec.chips} chips work, {chips} are asked for; ask for {rest} or fewer"
        )
    cut = without_ranks(hurt.graph, {v for v in ranks if hurt.graph.nodes[v]["rank"] >= wanted})
    if len(ranks) > wanted:
        drop_loose(cut)
    return Damage(cut, hurt.notes)


def _plane_of(graph: Any, index: int, fabric: Fabric) -> dict[str, str | float]:
    """Return a plane's record; its port is the widest that a rank has."""
    ports: Counter[Any] = Counter()
    for vertex, _, edge in graph.edges(data=True):
        if edge["plane"] == index and graph.nodes[vertex]["kind"] == "rank":
            ports[vertex] += edge["bytes_per_s"]
    port = max(ports.values(), default=fabric.port_bytes_per_s)
    return {"name": fabric.name, "fabric": fabric.id, "port_bytes_per_s": port}


def working_chips(spec: ClusterSpec, faults: Sequence[str]) -> int:
    """Return the chips of the cluster's nominal size that are in working nodes."""
    lost = lost_nodes(read_faults(faults))
    if spec.graph:
        nodes = [
            d["node"] for _, d in read_graph(Path(spec.graph.path), spec.graph.sha256).nodes(data=True) if "node" in d
        ]
        return sum(node not in lost for node in nodes) * spec.chips // len(nodes)
    there = [node * spec.chips_per_node for node in lost if node * spec.chips_per_node < spec.chips]
    return spec.chips - sum(min(spec.chips_per_node, spec.chips - first) for first in there)


def _chips_to_build(spec: ClusterSpec, chips: int, faults: Sequence[Fault]) -> int:
    """Return how many chips reach far enough that `chips` of them are in working nodes."""
    lost, size = lost_nodes(faults), spec.chips_per_node
    pool = max(spec.chips, chips)
    working = ~np.isin(np.arange(-(-chips // size) + len(lost)), list(lost))
    reached = np.cumsum(working) * size
    last = int(np.searchsorted(reached, chips))
    total = last * size + chips - (int(reached[last]) - size)
    if unused := sorted(node for node in lost if node * size >= total):
        raise TopologyError(f"{PLACE}: node {unused[0]}: the job uses nodes 0 to {-(-total // size) - 1}; leave it out")
    if total > pool:
        rest = pool - sum(min(size, pool - node * size) for node in lost if node * size < pool)
        count = f"{len(lost)} node{'s' * (len(lost) > 1)}"
        line = f"{count} lost: {rest} of {pool} chips work, {chips} are asked for; set cluster.chips to {rest} or fewer"
        raise TopologyError(f"{PLACE}: {line}")
    return total


@lru_cache(maxsize=32)
def _network(
    spec: ClusterSpec,
    chip: Accelerator,
    fabrics: tuple[tuple[str, Fabric], ...],
    chips: int,
    faults: tuple[str, ...],
    policy: Policy,
) -> Network:
    graph: nx.DiGraph[int | str] = damaged_graph(spec, chip, dict(fabrics), chips, faults).graph
    return reduce_graph(graph, policy)
