"""From a cluster's description to its graph: ranks, NICs and switches, with capacity and latency on every edge.

A rank is a vertex named by its number; every other vertex is named by what it is (``node 3``, ``nic 12``, ``leaf 5``).
Vertices carry ``kind`` (``rank``, ``nic``, ``switch``); ranks also ``rank``, ``node``, ``rail``; switches and NICs also
``tier`` and ``plane``. Edges run both ways and carry ``bytes_per_s`` (one direction), ``latency_s`` and ``plane``.
The latencies along a route add up to the measured one-way time between its two ranks.

Switches that share load by equal-cost routing are drawn as one: a leaf vertex stands for the switches of its group, the
spine vertex for all spines, and an edge for the sum of the cables. Perfect spreading is thereby assumed; collisions of
hashed flows are a penalty on top, not a different graph.
"""

from collections.abc import Mapping

import networkx as nx

from topologies.errors import TopologyError
from topologies.generators.checks import find_fabric, problems_of
from topologies.generators.direct import add_nd_mesh, add_torus
from topologies.generators.domain import add_mesh, add_switches
from topologies.generators.fat_tree import add_fat_tree
from topologies.generators.layout import Graph, Layout
from topologies.generators.routers import add_dragonfly, add_router_torus
from topologies.shapes import AnyScaleOut, AnyScaleUp, Dragonfly, NdMesh, ScaleOut, TorusOfChips
from topologies.specs import Accelerator, ClusterSpec, Fabric


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
    inner = find_fabric(fabrics, spec.scale_up.fabric, f"{spec.id}.scale_up.fabric")
    outer = spec.scale_out and find_fabric(fabrics, spec.scale_out.fabric, f"{spec.id}.scale_out.fabric")
    if problems := problems_of(spec, chip, inner, outer or None, chips):
        raise TopologyError(*problems)
    dies = chip.ranks_per_chip
    layout = Layout(chips * dies, dies, spec.chips_per_node * dies, spec.scale_up.domain_chips * dies)
    graph: nx.DiGraph[int | str] = nx.DiGraph(name=spec.name, planes=[])
    graph.add_nodes_from(
        (rank, {"kind": "rank", "rank": rank, "node": rank // layout.per_node, "rail": rank % layout.per_node})
        for rank in range(layout.ranks)
    )
    _add_scale_up(graph, layout, inner, spec.scale_up)
    if spec.scale_out and outer and layout.ranks > layout.per_domain:
        _add_scale_out(graph, layout, outer, spec.scale_out)
    return graph


def _add_scale_up(graph: Graph, layout: Layout, fabric: Fabric, spec: AnyScaleUp) -> None:
    if isinstance(spec, NdMesh):
        add_nd_mesh(graph, layout, fabric, spec)
    elif isinstance(spec, TorusOfChips):
        add_torus(graph, layout, fabric, spec)
    elif fabric.shape == "mesh":
        add_mesh(graph, layout, fabric)
    else:
        add_switches(graph, layout, fabric)


def _add_scale_out(graph: Graph, layout: Layout, fabric: Fabric, spec: AnyScaleOut) -> None:
    if isinstance(spec, ScaleOut):
        add_fat_tree(graph, layout, fabric, spec)
    elif isinstance(spec, Dragonfly):
        add_dragonfly(graph, layout, fabric, spec)
    else:
        add_router_torus(graph, layout, fabric, spec)
