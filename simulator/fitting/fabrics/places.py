"""Where a measured operation ran: a network of just enough nodes, and the ranks that took part."""

import numpy as np
from numpy.typing import NDArray

from simulator.fitting.fabrics.series import Series
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network


def place(
    series: Series, name: str, ranks: int, per_node: int, *, apart: bool = False
) -> tuple[Network, NDArray[np.int32]]:
    """Return a network of just enough nodes, and the ``[1, ranks]`` group of `per_node` ranks on each of them.

    Parameters
    ----------
    series
        Says which inner fabric replaces the cluster's, if any.
    name
        Catalogue id of the cluster.
    per_node
        Ranks on one node; 0 for full nodes.
    apart
        Whether nodes are so far from each other that no scale-up link joins them.
    """
    spec = cluster(name)
    if series.scale_up:
        spec = spec.model_copy(update={"scale_up": spec.scale_up.model_copy(update={"fabric": series.scale_up})})
    chip = accelerator(spec.chip)
    node_ranks = spec.chips_per_node * chip.ranks_per_chip
    used = min(per_node or node_ranks, ranks, node_ranks)
    nodes = -(-ranks // used)
    names = [spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])]
    stride = max(1, spec.scale_up.domain_chips // spec.chips_per_node) if apart else 1
    chips = ((nodes - 1) * stride + 1) * spec.chips_per_node
    built = network(spec, chip, {name: fabric(name) for name in names}, chips)
    members = np.arange(nodes)[:, None] * (stride * node_ranks) + np.arange(used)
    return built, members.reshape(1, -1)[:, :ranks].astype(np.int32)
