"""Where the parts of a topology picture go, and what is folded.

All lengths are inches: the axes cover the figure one to one, so that text and shapes keep their proportions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topologies.metrics import Parts, TierRow, count_parts, describe
from topologies.network import CROSS_RAIL, Network

if TYPE_CHECKING:
    import networkx as nx

MOST_RANKS = 16  # drawn one by one; of more, the first seven and the last
FOLDED = -1  # stands for the ranks between them
LEFT, NODE_PAD, GAP, STACK, FACTS = 0.35, 0.18, 0.42, 1.62, 3.1
PITCH = 0.58  # between ranks, where there is room
BOX, ROW, HEAD, FOOT, NARROWEST = 0.34, 1.02, 0.95, 0.62, 7.0
COPIES, STEP = 3, 0.05  # a stack shows at most so many copies, each so far up and right of the one before
LAYERS = ("supernode", "node", "rank", "nic", "leaf", "spine", "core")  # bottom to top


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn where.

    Parameters
    ----------
    network, parts, rows
        The reduced graph, its counts, and its tiers by name.
    ranks, x
        Ranks of node 0 that are drawn (`FOLDED` for a gap), and their centres.
    near, far
        Other nodes that share a leaf with node 0, and those that do not.
    leaves
        Leaves that node 0 hangs on.
    node_right
        Right end of node 0.
    y
        Centre of each layer that is there.
    width, height
        Of the figure.
    """

    network: Network
    parts: Parts
    rows: dict[str, TierRow]
    ranks: tuple[int, ...]
    x: tuple[float, ...]
    near: int
    far: int
    leaves: int
    node_right: float
    y: dict[str, float]
    width: float
    height: float

    @property
    def rank_x(self) -> list[float]:
        """Centres of the ranks drawn one by one."""
        return [x for x, rank in zip(self.x, self.ranks, strict=True) if rank != FOLDED]

    @property
    def nics(self) -> list[tuple[float, float, list[float]]]:
        """Centre and width of each NIC that is drawn, and the centres of the ranks on it.

        A NIC of neighbours is as wide as they are; one of ranks apart, as after a fault, stands above the first.
        """
        shared = next((tier.domain for tier in self.network.tiers if tier.name == "nic"), np.arange(self.network.ranks))
        places: dict[int, list[int]] = {}
        for place, rank in enumerate(self.ranks):
            if rank != FOLDED:
                places.setdefault(int(shared[rank]), []).append(place)
        pitch = self.x[1] - self.x[0] if len(self.x) > 1 else PITCH
        found = []
        for own in places.values():
            gaps = {place for place in range(own[0], own[-1] + 1) if self.ranks[place] != FOLDED} - set(own)
            first, last = self.x[own[0]], self.x[own[0] if gaps else own[-1]]
            found.append(((first + last) / 2, last - first + 0.78 * pitch, [self.x[place] for place in own]))
        return found

    @property
    def nic_x(self) -> list[float]:
        """Centres of the NICs that are drawn."""
        return [x for x, _, _ in self.nics]

    @property
    def centre(self) -> float:
        """Middle of node 0."""
        return (LEFT + self.node_right) / 2

    @property
    def near_x(self) -> float:
        """Centre of the stack of nodes on the same leaves."""
        return self.node_right + GAP + STACK / 2

    @property
    def far_x(self) -> float:
        """Centre of the stack of nodes on other leaves."""
        return self.near_x + (GAP + STACK if self.near else 0.0)

    @property
    def frame(self) -> tuple[float, float]:
        """Bottom and top of node 0."""
        inside = [self.y[name] for name in ("node", "rank", "nic") if name in self.y]
        return min(inside) - 0.45, max(inside) + 0.3

    def stack_top(self, nodes: int) -> float:
        """Return the top of a stack that stands for so many nodes."""
        return self.frame[1] + STEP * (min(nodes, COPIES) - 1)

    def uplink_bytes_per_s(self, name: str) -> float:
        """Return the capacity from rank 0's domain of a tier to the next tier."""
        tier = next(tier for tier in self.network.tiers if tier.name == name)
        return float(tier.uplink_bytes_per_s[tier.domain[0]])

    @property
    def last_node(self) -> int:
        """Ranks of the last node, which may hold fewer than the others."""
        return int(np.bincount(self.network.node)[-1])

    @property
    def stacks(self) -> list[float]:
        """Centres of the stacks that are there."""
        return [x for x, nodes in ((self.near_x, self.near), (self.far_x, self.far)) if nodes]

    @property
    def right(self) -> float:
        """Right end of all parts; facts stand to its right."""
        return self.stacks[-1] + STACK / 2 if self.stacks else self.node_right

    @property
    def mesh(self) -> bool:
        """Whether ranks of a node are linked directly."""
        return "node" in self.rows and "node" not in self.parts.switches

    @property
    def rails(self) -> bool:
        """Whether each rank of a node hangs on a leaf of its own."""
        return self.leaves > 1


def layered(network: Network) -> bool:
    """Whether a network is layers of switches only, all of which have their place in the picture."""
    tiers = {tier.name for tier in network.tiers} - {CROSS_RAIL}
    return tiers <= set(LAYERS) and all(plane.routes is None for plane in network.planes)


def lay_out(graph: "nx.DiGraph[Any]", network: Network) -> Scene:
    """Return where to draw what.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    network
        The graph, reduced.
    """
    parts = count_parts(graph)
    rows = {row.tier: row for row in describe(network)}
    own = np.flatnonzero(network.node == 0).tolist()
    ranks = own if len(own) <= MOST_RANKS else [*own[:7], FOLDED, own[-1]]
    pitch = PITCH if len(ranks) <= 9 else 0.44
    inner = max(len(ranks) * pitch, 1.7)
    first = LEFT + NODE_PAD + (inner - (len(ranks) - 1) * pitch) / 2
    node_right = LEFT + inner + 2 * NODE_PAD
    near, leaves = _sharing(network)
    far = parts.nodes - 1 - near
    there = set(rows) | {"rank"} | ({"nic"} if parts.nics else set())
    layers = [name for name in LAYERS if name in there]
    y = {name: FOOT + ROW * index for index, name in enumerate(layers)}
    width = node_right + (GAP + STACK) * ((near > 0) + (far > 0)) + FACTS + 0.35
    return Scene(
        network, parts, rows, tuple(ranks), tuple(first + pitch * index for index in range(len(ranks))), near, far,
        leaves, node_right, y, width=max(width, NARROWEST), height=y[layers[-1]] + 0.4 + HEAD,
    )  # fmt: skip


def _sharing(network: Network) -> tuple[int, int]:
    """Return how many other nodes share a leaf with node 0, and on how many leaves that is; all, without leaves."""
    for tier in network.tiers:
        if tier.name == "leaf":
            sharing = np.unique(network.node[tier.domain == tier.domain[0]])
            return len(sharing) - 1, len(np.unique(tier.domain[network.node == 0]))
    return int(network.node.max()), 0
