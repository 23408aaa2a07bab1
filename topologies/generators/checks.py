"""What can be wrong with a cluster's description, found all at once before anything is built."""

import difflib
import math
from collections.abc import Mapping

from topologies.errors import TopologyError
from topologies.shapes import AnyScaleOut, Dragonfly, NdMesh, ScaleOut, TorusOfChips
from topologies.specs import Accelerator, ClusterSpec, Fabric

MAX_RANKS = 131_072


def find_fabric(fabrics: Mapping[str, Fabric], name: str, place: str) -> Fabric:
    """Return the record of a fabric.

    Raises
    ------
    TopologyError
        If there is none of that name.
    """
    if name in fabrics:
        return fabrics[name]
    near = difflib.get_close_matches(name, fabrics, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise TopologyError(f"{place}: '{name}': no such fabric{hint}; give its record")


def problems_of(spec: ClusterSpec, chip: Accelerator, inner: Fabric, outer: Fabric | None, chips: int) -> list[str]:
    """Return one line for each thing that keeps `chips` chips of the cluster from being built."""
    problems = _size_problems(spec, chip, chips)
    if isinstance(spec.scale_up, NdMesh):
        problems += _nd_mesh_problems(spec, spec.scale_up, inner, chip)
    elif isinstance(spec.scale_up, TorusOfChips):
        problems += _torus_problems(spec, spec.scale_up, inner, chip)
    else:
        problems += _domain_problems(spec, inner)
    if spec.scale_out and outer and chips > spec.scale_up.domain_chips:
        problems += _scale_out_problems(spec, spec.scale_out, outer, chips)
    return problems


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


def _domain_problems(spec: ClusterSpec, inner: Fabric) -> list[str]:
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


def _nd_mesh_problems(spec: ClusterSpec, mesh: NdMesh, inner: Fabric, chip: Accelerator) -> list[str]:
    place, rack = f"{spec.id}.scale_up", math.prod(mesh.dims)
    problems = _one_rank(place, chip)
    if len(mesh.links) != len(mesh.dims):
        return [*problems, f"{place}.links: {list(mesh.links)}: give one number for each of dims {list(mesh.dims)}"]
    if rack % spec.chips_per_node:
        problems.append(f"{place}.dims: {list(mesh.dims)}: not a whole number of nodes of {spec.chips_per_node} chips")
    if mesh.domain_chips % rack:
        problems.append(f"{place}.domain_chips: {mesh.domain_chips}: not a whole number of racks of {rack} chips")
    racks = mesh.domain_chips // rack
    inside = sum((size - 1) * links for size, links in zip(mesh.dims, mesh.links, strict=True))
    if inner.links is None:
        problems.append(f"{inner.id}.links: missing: a mesh divides the port over its links; give their number")
    elif inside + mesh.rack_uplinks > inner.links:
        used = f"{inside} in the rack and {mesh.rack_uplinks} out of it"
        problems.append(f"{place}: {used} are more links than the {inner.links} of '{inner.id}'; use fewer")
    if racks > 1 and not mesh.rack_uplinks:
        problems.append(f"{place}.rack_uplinks: 0: {racks} racks can't reach each other; give each chip's links out")
    if mesh.rack_dims or mesh.rack_links:
        problems += _rack_mesh_problems(place, mesh, racks, rack)
    return problems + _latency_problems(inner, needs_far=racks > 1)


def _rack_mesh_problems(place: str, mesh: NdMesh, racks: int, rack: int) -> list[str]:
    if len(mesh.rack_links) != len(mesh.rack_dims):
        return [f"{place}.rack_links: {list(mesh.rack_links)}: give one number for each of rack_dims"]
    if math.prod(mesh.rack_dims) != racks:
        return [f"{place}.rack_dims: {list(mesh.rack_dims)}: domain_chips makes {racks} racks; make them agree"]
    needed = sum((size - 1) * links for size, links in zip(mesh.rack_dims, mesh.rack_links, strict=True))
    if needed > rack * mesh.rack_uplinks:
        has = rack * mesh.rack_uplinks
        return [
            f"{place}.rack_links: {list(mesh.rack_links)}: need {needed} links per rack, which has {has}; use fewer"
        ]
    return []


def _torus_problems(spec: ClusterSpec, torus: TorusOfChips, inner: Fabric, chip: Accelerator) -> list[str]:
    place, dims = f"{spec.id}.scale_up", list(torus.dims)
    problems = _one_rank(place, chip)
    if math.prod(dims) != torus.domain_chips:
        problems.append(f"{place}.dims: {dims}: that is {math.prod(dims)} chips, domain_chips is {torus.domain_chips}")
    if inner.links is not None and inner.links % (2 * len(dims)):
        problems.append(f"{place}.dims: {dims}: {inner.links} links don't divide over {2 * len(dims)} neighbours")
    if torus.domain_chips % spec.chips_per_node:
        problems.append(f"{place}.domain_chips: {torus.domain_chips}: not a whole number of nodes")
    return problems


def _one_rank(place: str, chip: Accelerator) -> list[str]:
    if chip.ranks_per_chip == 1:
        return []
    return [f"{place}.shape: links join chips of one rank, '{chip.id}' has {chip.ranks_per_chip}; use shape 'domain'"]


def _scale_out_problems(spec: ClusterSpec, outer_spec: AnyScaleOut, outer: Fabric, chips: int) -> list[str]:
    place, problems = f"{spec.id}.scale_out", _latency_problems(outer, needs_far=True)
    shared = outer_spec.chips_per_nic
    if spec.chips_per_node % shared:
        problems.append(f"{place}.chips_per_nic: {shared}: does not divide the node's {spec.chips_per_node} chips")
    if isinstance(outer_spec, ScaleOut):
        return problems + _fat_tree_problems(place, outer_spec)
    nodes = -(-chips // spec.chips_per_node)
    if isinstance(outer_spec, Dragonfly):
        room = outer_spec.groups * outer_spec.group_switches * outer_spec.switch_nodes
        ports = (outer_spec.group_spines or outer_spec.group_switches) * outer_spec.global_links
        if ports < outer_spec.groups - 1:
            problems.append(f"{place}.groups: {outer_spec.groups}: a group has {ports} global links; use fewer groups")
    else:
        room = math.prod(outer_spec.dims) * outer_spec.switch_nodes
    if nodes > room:
        problems.append(
            f"{spec.id}.chips: {chips}: the network has room for {room} nodes; ask for fewer, or enlarge it"
        )
    return problems


def _fat_tree_problems(place: str, tree: ScaleOut) -> list[str]:
    problems = []
    if tree.planes and not tree.rail_optimised:
        problems.append(f"{place}.planes: true: separate planes need rail_optimised; set it, or planes = false")
    if tree.pod_nodes and tree.pod_nodes % tree.leaf_nodes:
        problems.append(f"{place}.pod_nodes: {tree.pod_nodes}: not a whole number of leaf groups of {tree.leaf_nodes}")
    if tree.pod_nodes is None and tree.pod_oversubscription != 1.0:
        problems.append(f"{place}.pod_oversubscription: {tree.pod_oversubscription:g}: without pod_nodes; give both")
    return problems


def _latency_problems(fabric: Fabric, needs_far: bool) -> list[str]:
    far = fabric.far_latency_s
    if far is None:
        return [f"{fabric.id}.far_latency_s: missing: switch tiers need it; give the time across them"] * needs_far
    if far < fabric.near_latency_s:
        return [f"{fabric.id}.far_latency_s: {far:g}: below near_latency_s {fabric.near_latency_s:g}; correct either"]
    return []
