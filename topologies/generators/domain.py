"""Inside a scale-up domain: one full mesh per node, or switches in one or two tiers."""

from itertools import combinations

import numpy as np

from topologies.generators.layout import Graph, Layout, add_tier, link, new_plane
from topologies.specs import Fabric


def add_mesh(graph: Graph, layout: Layout, fabric: Fabric) -> None:
    """Link every pair of ranks in a node directly.

    The link between two chips is split evenly over their pairs of dies. No record holds the rate between the dies of
    one package: it is assumed to be that of any other pair.
    """
    plane = new_plane(graph, fabric.name, fabric, fabric.port_bytes_per_s / layout.per_chip)
    peers = max(layout.per_domain // layout.per_chip - 1, 1)
    links = fabric.links or peers
    per_chip_pair = fabric.port_bytes_per_s / links * (links // peers)
    pairs = np.array(
        [pair for ranks in layout.members(layout.per_node) for pair in combinations(ranks, 2)], dtype=np.int64
    ).reshape(-1, 2)
    rate = per_chip_pair / layout.per_chip**2
    link(graph, pairs[:, 0].tolist(), pairs[:, 1].tolist(), rate, fabric.near_latency_s, plane)


def add_switches(graph: Graph, layout: Layout, fabric: Fabric) -> None:
    """Hang ranks on scale-up switches: one tier if the domain is a node or its fabric has no far latency, else two.

    The second tier is non-blocking, as those of CloudMatrix384 and NVL72 are.
    """
    port = fabric.port_bytes_per_s / layout.per_chip
    plane = new_plane(graph, fabric.name, fabric, port)
    far = fabric.far_latency_s if layout.per_domain > layout.per_node else None
    beyond_node = layout.per_domain > layout.per_node and far is None
    size, tier = (layout.per_domain, "supernode") if beyond_node else (layout.per_node, "node")
    switches = add_tier(graph, tier, -(-layout.ranks // size), plane)
    ranks = range(layout.ranks)
    link(graph, ranks, [switches[r // size] for r in ranks], port, fabric.near_latency_s / 2, plane)
    if far is None or len(switches) == 1:
        return
    tops = add_tier(graph, "supernode", -(-layout.ranks // layout.per_domain), plane)
    nodes_per_domain = layout.per_domain // layout.per_node
    above = [tops[node // nodes_per_domain] for node in range(layout.nodes)]
    rates = [len(members) * port for members in layout.members(size)]
    link(graph, switches, above, rates, (far - fabric.near_latency_s) / 2, plane)
