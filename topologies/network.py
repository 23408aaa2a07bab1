"""A cluster reduced to typed arrays: what the cost models read.

A *plane* is a network that a rank enters through one port (NVLink, UB, a NIC). A *tier* is one level of a plane at
which ranks meet: the node switch, the leaf, the spine. Two ranks talk over the first tier, inside out, whose domain
they share. Domains need not nest: the leaf of a rail-optimised fat-tree joins equal rails of many nodes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topologies.errors import TopologyError
from topologies.routes import Routes, path_latency_s

CROSS_RAIL = "cross-rail"  # name of the tier at which rails that never meet exchange by forwarding inside a node


@dataclass(frozen=True, slots=True)
class Plane:
    """One network, and the port each rank enters it through.

    Parameters
    ----------
    name
        Display name, for example ``NVLink4 + NVSwitch``.
    fabric
        Catalogue id of the fabric; calibrations are kept per fabric.
    port_bytes_per_s
        ``[ranks]`` capacity of each rank's port [bytes/s], one direction, all links together.
    routes
        The plane's links, where ranks have several ways to each other; its ranks then meet at one tier. None for full
        meshes and forests.
    """

    name: str
    fabric: str
    port_bytes_per_s: NDArray[np.float64]
    routes: Routes | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """One level of a plane at which ranks meet.

    Parameters
    ----------
    name
        ``node``, ``supernode``, ``leaf``, ``spine`` ...
    plane
        Index into `Network.planes`.
    domain
        ``[ranks]`` domain of each rank at this tier, numbered from 0.
    latency_s
        One-way time of a small message between two ranks that meet here [s].
    uplink_bytes_per_s
        ``[domains]`` capacity from each domain to the plane's next tier [bytes/s], one direction;
        infinite at the plane's top.
    pair_bytes_per_s
        Capacity of the direct link between two ranks of a full-mesh domain [bytes/s], one direction;
        infinite for a switched tier.
    hops
        Links on the route between two ranks that meet here.
    """

    name: str
    plane: int
    domain: NDArray[np.int32]
    latency_s: float
    uplink_bytes_per_s: NDArray[np.float64]
    pair_bytes_per_s: float = np.inf
    hops: int = 2


@dataclass(frozen=True, slots=True)
class Network:
    """A cluster's ranks and the tiers they meet at, inside out. The last tier joins all ranks.

    Parameters
    ----------
    ranks
        Number of ranks (dies on a dual-die package).
    node, rail
        ``[ranks]`` node of each rank and its index inside the node.
    planes, tiers
        See `Plane` and `Tier`.
    """

    ranks: int
    node: NDArray[np.int32]
    rail: NDArray[np.int32]
    planes: tuple[Plane, ...]
    tiers: tuple[Tier, ...]

    @property
    def ranks_per_node(self) -> int:
        """Ranks of the fullest node."""
        return int(self.rail.max()) + 1

    def meeting_tier(self, source: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the innermost tier that joins each pair, or -1 for a rank and itself.

        Parameters
        ----------
        source, target
            Rank indices of equal (broadcastable) shape.
        """
        source, target = np.broadcast_arrays(source, target)
        tier = np.full(source.shape, len(self.tiers) - 1, dtype=np.int32)
        for index in range(len(self.tiers) - 2, -1, -1):
            domain = self.tiers[index].domain
            tier[domain[source] == domain[target]] = index
        tier[source == target] = -1
        return tier

    def latency_s(self, source: NDArray[np.int32], target: NDArray[np.int32]) -> float:
        """Return the one-way time of a small message between the pair that is farthest apart [s].

        Parameters
        ----------
        source, target
            ``[pairs]`` rank indices.
        """
        tier_of = self.meeting_tier(source, target)
        worst = 0.0
        for index in np.unique(tier_of[tier_of >= 0]):
            tier = self.tiers[index]
            routes = self.planes[tier.plane].routes
            here = tier_of == index
            if routes is None or tier.name == CROSS_RAIL:
                worst = max(worst, tier.latency_s)
            else:
                worst = max(worst, float(path_latency_s(routes, source[here], target[here]).max()))
        return worst

    def relay(self, source: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the rank that each flow over the outermost plane goes to first, ``[flows]``.

        It is the target, or where the plane does not lead there, a rank of the target's node that it does lead to.

        Raises
        ------
        TopologyError
            If no rank of the target's node is in reach.
        """
        if self.tiers[-1].name != CROSS_RAIL:
            return target
        domain = next(tier.domain for tier in reversed(self.tiers[:-1]) if tier.plane == self.tiers[-1].plane)
        apart = domain[source] != domain[target]
        relay_of = np.full((int(self.node.max()) + 1, int(domain.max()) + 1), -1, dtype=np.int32)
        relay_of[self.node[::-1], domain[::-1]] = np.arange(self.ranks, dtype=np.int32)[::-1]
        relays = np.where(apart, relay_of[self.node[target], domain[source]], target)
        if (relays < 0).any():
            cut = int(np.flatnonzero(relays < 0)[0])
            raise TopologyError(
                f"network: rank {source[cut]} reaches no rank of the node of rank {target[cut]}; join their planes"
            )
        return relays.astype(np.int32)
