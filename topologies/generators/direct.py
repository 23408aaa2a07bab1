"""Chips linked to chips: full meshes in several dimensions, with racks on top, and tori."""

import math

import numpy as np

from topologies.generators.grid import mesh_pairs, torus_pairs
from topologies.generators.layout import Graph, Layout, add_tier, join_pairs, link, new_plane
from topologies.shapes import NdMesh, TorusOfChips
from topologies.specs import Fabric


def add_nd_mesh(graph: Graph, layout: Layout, fabric: Fabric, spec: NdMesh) -> None:
    """Mesh the chips of each rack, and join racks if there are several.

    Racks are a plane of their own, as the links that lead there are: a chip reaches its rack's switch with all of its
    uplinks, whatever the mesh carries.
    """
    rate = fabric.port_bytes_per_s / (fabric.links or 1)
    per_rack = math.prod(spec.dims)
    inside = sum((size - 1) * links for size, links in zip(spec.dims, spec.links, strict=True))
    plane = new_plane(graph, fabric.name, fabric, inside * rate, (1, spec.dims))
    for first in range(0, layout.ranks, per_rack):
        pairs = mesh_pairs(spec.dims, min(per_rack, layout.ranks - first))
        links = np.array(spec.links)[pairs.dimension]
        join_pairs(graph, range(first, first + per_rack), pairs, links * rate, fabric.near_latency_s, plane)
    if layout.ranks > per_rack:
        _add_racks(graph, layout, fabric, spec, rate, per_rack)


def _add_racks(
    graph: Graph, layout: Layout, fabric: Fabric, spec: NdMesh, link_bytes_per_s: float, per_rack: int
) -> None:
    """Hang chips on their rack's switch, and join racks within a domain: by a mesh, or by switches above."""
    port = spec.rack_uplinks * link_bytes_per_s
    plane = new_plane(graph, f"{fabric.name}, between racks", fabric, port, (per_rack, spec.rack_dims))
    members = layout.members(per_rack)
    racks = add_tier(graph, "rack", len(members), plane)
    ranks = range(layout.ranks)
    link(graph, ranks, [racks[r // per_rack] for r in ranks], port, fabric.near_latency_s / 2, plane)
    step_s = ((fabric.far_latency_s or fabric.near_latency_s) - fabric.near_latency_s) / (1 if spec.rack_dims else 2)
    per_domain = layout.per_domain // per_rack
    if spec.rack_dims:
        for first in range(0, len(racks), per_domain):
            pairs = mesh_pairs(spec.rack_dims, min(per_domain, len(racks) - first))
            rates = np.array(spec.rack_links)[pairs.dimension] * link_bytes_per_s
            join_pairs(graph, racks[first : first + per_domain], pairs, rates, step_s, plane)
        return
    tops = add_tier(graph, "supernode", -(-len(racks) // per_domain), plane)
    above = [tops[index // per_domain] for index in range(len(racks))]
    link(graph, racks, above, [len(ranks) * port for ranks in members], step_s, plane)


def add_torus(graph: Graph, layout: Layout, fabric: Fabric, spec: TorusOfChips) -> None:
    """Link each chip to its neighbours; dimensions of one chip have none, and their links none either."""
    plane = new_plane(graph, fabric.name, fabric, fabric.port_bytes_per_s, (1, spec.dims))
    rate = fabric.port_bytes_per_s / (2 * len(spec.dims))
    for first in range(0, layout.ranks, layout.per_domain):
        pairs = torus_pairs(spec.dims, min(layout.per_domain, layout.ranks - first))
        ends = range(first, first + layout.per_domain)
        join_pairs(graph, ends, pairs, pairs.links * rate, fabric.near_latency_s, plane)
