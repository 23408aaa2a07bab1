"""A tree of switches above the NICs: leaves, spines, and a core where pods meet."""

import numpy as np

from topologies.generators.layout import Floats, Graph, Ints, Layout, add_nics, add_tier, link, new_plane
from topologies.specs import Fabric, ScaleOut


def add_fat_tree(graph: Graph, layout: Layout, fabric: Fabric, spec: ScaleOut) -> None:
    """Join NICs at leaves, leaves at spines and pods at the core, only as far up as there is more than one to join.

    With `planes` each rail has spines and a core of its own. Each further layer takes as long as the second one does.
    """
    plane = new_plane(graph, fabric.name, fabric, fabric.port_bytes_per_s / layout.per_chip)
    nics = add_nics(graph, layout, fabric, spec.chips_per_nic, plane)
    rails = nics.per_node if spec.rail_optimised else 1
    leaf = nics.node // spec.leaf_nodes * rails + nics.index % rails
    leaves, rates = _hang(graph, nics.names, leaf, "leaf", np.full(leaf.size, nics.bytes_per_s), fabric, plane)
    found = np.unique(leaf)
    pod = found // rails * spec.leaf_nodes // spec.pod_nodes if spec.pod_nodes else np.zeros_like(found)
    spines = rails if spec.planes else 1
    spine = pod * spines + found % spines
    if len(leaves) == spines or fabric.far_latency_s is None:
        return
    rates = rates / spec.oversubscription
    names, rates = _hang(graph, leaves, spine, "spine", rates, fabric, plane)
    core = np.unique(spine) % spines
    if pod.any():
        _hang(graph, names, core, "core", rates / spec.pod_oversubscription, fabric, plane)


def _hang(
    graph: Graph, below: list[str], group: Ints, tier: str, rates: Floats, fabric: Fabric, plane: int
) -> tuple[list[str], Floats]:
    """Add a vertex for each group of those `below`, hang them on it, and return its name and what enters it."""
    _, index = np.unique(group, return_inverse=True)
    above = add_tier(graph, tier, int(index.max()) + 1, plane)
    near, far = fabric.near_latency_s, fabric.far_latency_s
    latency_s = (near if tier == "leaf" else (far or near) - near) / 2
    link(graph, below, [above[i] for i in index.tolist()], rates.tolist(), latency_s, plane)
    return above, np.bincount(index, rates).astype(np.float64)
