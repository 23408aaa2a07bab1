"""How groups of ranks lie on nodes and planes."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives.records import Groups
from topologies.network import Network, Tier


def local_size(network: Network, groups: Groups) -> int:
    """Return the members of each group per node, if equal and contiguous; else 1."""
    first = network.node[groups[0]]
    local = int((first == first[0]).sum())
    if groups.shape[1] % local:
        return 1
    blocks = network.node[groups].reshape(len(groups), -1, local)
    return local if bool((blocks == blocks[..., :1]).all()) else 1


def by_node(network: Network, groups: Groups) -> NDArray[np.int32]:
    """Return ``[groups, nodes, local]`` members."""
    return groups.reshape(len(groups), -1, local_size(network, groups))


def met_tiers(network: Network, groups: Groups) -> list[Tier]:
    """Return the tiers at which the first member of a group meets the others."""
    found = np.unique(network.meeting_tier(groups[:, :1], groups[:, 1:]))
    return [network.tiers[tier] for tier in found]


def outermost_plane(network: Network, groups: Groups) -> int:
    """Return the outermost plane that joins the members of a group."""
    return max(tier.plane for tier in met_tiers(network, groups))
