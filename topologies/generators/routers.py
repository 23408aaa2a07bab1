"""Switches linked to switches: dragonfly, dragonfly+ and torus."""

import numpy as np

from topologies.generators.grid import Pairs, mesh_pairs, torus_pairs
from topologies.generators.layout import Floats, Graph, Layout, add_nics, add_tier, join_pairs, link, new_plane
from topologies.shapes import Dragonfly, TorusOfRouters
from topologies.specs import Fabric


def add_dragonfly(graph: Graph, layout: Layout, fabric: Fabric, spec: Dragonfly) -> None:
    """Hang NICs on switches, join the switches of a group, and the groups with each other.

    Only groups in use are there, so detours over idle groups are not; a group in use is there with all its switches.
    """
    per_group = spec.switch_nodes * spec.group_switches * layout.per_node
    grid = (per_group, (-(-layout.ranks // per_group),))
    plane = new_plane(graph, fabric.name, fabric, fabric.port_bytes_per_s / layout.per_chip, grid)
    tier = "leaf" if spec.group_spines else "switch"
    switches, entering = _hang_nics(graph, layout, fabric, spec, plane, tier)
    if spec.group_spines:
        _join_trees(graph, switches, entering, fabric, spec, plane)
        return
    group = spec.group_switches
    if len(switches) > group:
        switches = add_tier(graph, tier, -(-len(switches) // group) * group, plane)
    for first in range(0, len(switches), group):
        pairs = mesh_pairs((group,), min(group, len(switches) - first))
        rates = np.full(pairs.low.size, spec.local_links * fabric.port_bytes_per_s)
        join_pairs(graph, switches[first : first + group], pairs, rates, _hop_s(fabric), plane)
    pairs = _global_pairs(spec, -(-len(switches) // group))
    join_pairs(graph, switches, pairs, pairs.links * fabric.port_bytes_per_s, _hop_s(fabric), plane)


def _join_trees(graph: Graph, leaves: list[str], entering: Floats, fabric: Fabric, spec: Dragonfly, plane: int) -> None:
    """Hang the leaves of each group on its spines, drawn as one, and join the spines of all groups."""
    if len(leaves) == 1:
        return
    group = np.arange(len(leaves)) // spec.group_switches
    spines = add_tier(graph, "spine", int(group[-1]) + 1, plane)
    link(graph, leaves, [spines[i] for i in group.tolist()], entering.tolist(), _hop_s(fabric), plane)
    per_pair = (spec.group_spines or 1) * spec.global_links // max(spec.groups - 1, 1)
    pairs = mesh_pairs((len(spines),), len(spines))
    join_pairs(graph, spines, pairs, np.full(pairs.low.size, per_pair * fabric.port_bytes_per_s), _hop_s(fabric), plane)


def _global_pairs(spec: Dragonfly, groups: int) -> Pairs:
    """Return which switches of different groups are linked, and how often.

    Global port k of group g leads to group g + 1 + (k mod (groups - 1)), and port k sits on switch k // global_links;
    ports that would not complete a round over all other groups stay empty, so that every pair of groups has the same.
    """
    others = max(spec.groups - 1, 1)
    rounds = spec.group_switches * spec.global_links // others
    low, high = (np.repeat(side, rounds) for side in np.triu_indices(groups, 1))
    turn = np.tile(np.arange(rounds), low.size // max(rounds, 1)) * others
    ends = [
        here * spec.group_switches + (turn + (there - here - 1) % spec.groups) // spec.global_links
        for here, there in ((low, high), (high, low))
    ]
    switches = groups * spec.group_switches
    keys, links = np.unique(ends[0] * switches + ends[1], return_counts=True)
    return Pairs(keys // switches, keys % switches, np.zeros_like(keys), links.astype(np.int64))


def add_router_torus(graph: Graph, layout: Layout, fabric: Fabric, spec: TorusOfRouters) -> None:
    """Hang NICs on routers, and link neighbouring routers."""
    grid = (spec.switch_nodes * layout.per_node, spec.dims)
    plane = new_plane(graph, fabric.name, fabric, fabric.port_bytes_per_s / layout.per_chip, grid)
    routers, _ = _hang_nics(graph, layout, fabric, spec, plane, "router")
    pairs = torus_pairs(spec.dims, len(routers))
    join_pairs(graph, routers, pairs, pairs.links * (spec.links * fabric.port_bytes_per_s), _hop_s(fabric), plane)


def _hop_s(fabric: Fabric) -> float:
    """Return the time from switch to switch [s]: the far latency is that of two such hops more."""
    return ((fabric.far_latency_s or fabric.near_latency_s) - fabric.near_latency_s) / 2


def _hang_nics(
    graph: Graph, layout: Layout, fabric: Fabric, spec: Dragonfly | TorusOfRouters, plane: int, tier: str
) -> tuple[list[str], Floats]:
    """Hang NICs on the switches of their nodes; return the switches, and what enters each [bytes/s]."""
    nics = add_nics(graph, layout, fabric, spec.chips_per_nic, plane)
    at = nics.node // spec.switch_nodes
    switches = add_tier(graph, tier, int(at[-1]) + 1, plane)
    above = [switches[i] for i in at.tolist()]
    link(graph, nics.names, above, nics.bytes_per_s, fabric.near_latency_s / 2, plane)
    return switches, np.bincount(at) * nics.bytes_per_s
