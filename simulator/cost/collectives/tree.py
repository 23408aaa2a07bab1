"""Double binary tree over nodes, a chain inside each node.

Each of two trees carries half of the data; a node is inside in one tree at most, so both together load every port
alike (Sanders, Speck, Traeff: Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009). Closed form
behind one switch, n ranks: all-reduce at most 2 S/B + 2 ceil(log2 n) steps.
"""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives.groups import by_node, outermost_plane
from simulator.cost.collectives.price import price
from simulator.cost.collectives.records import Call, CommCost, Groups, Phase
from simulator.cost.links import busiest_links

Indices = NDArray[np.int64]


def parents(nodes: int) -> Indices:
    """Return ``[nodes]`` parent of each node in a binary tree whose odd nodes are leaves; the root's is -1.

    Node 0 stands above the tree of the others, which is in order: the lowest set bit of a number is its height.
    """
    node = np.arange(nodes)
    height = node & -node
    above = (node ^ height) | (height << 1)
    found = np.where(above < nodes, above, node ^ height)
    found[0] = -1
    return found


def both_parents(nodes: int) -> tuple[Indices, Indices]:
    """Return the parents in two trees of which each node is a leaf in one at least."""
    first = parents(nodes)
    node = np.arange(nodes)
    # Mirrored where that turns even into odd numbers, else shifted by one.
    other = nodes - 1 - node if nodes % 2 == 0 else (node + 1) % nodes
    back = np.argsort(other)
    second = np.where(first[other] < 0, -1, back[first[other]])
    return first, second


def tree(call: Call) -> CommCost | None:
    """Return the cost of the double tree: up and down for all-reduce, down for broadcast."""
    if call.kind not in {"all_reduce", "broadcast"}:
        return None
    blocks = by_node(call.network, call.groups)
    if blocks.shape[1] == 1:  # in one node, or with one rank on each: a tree of ranks
        blocks = blocks.reshape(len(call.groups), -1, 1)
    nodes, local = blocks.shape[1:]
    channel = (np.arange(local)[:, None] + np.arange(local)[None, :]) % local
    order = blocks[:, :, channel]  # [groups, nodes, channels, place in the chain]
    child, parent, size = _down(order, call.size_bytes / local)
    both_ways = call.kind == "all_reduce"
    source = np.concatenate([parent, child]) if both_ways else parent
    target = np.concatenate([child, parent]) if both_ways else child
    links = busiest_links(call.network, source, target, np.tile(size, 2 if both_ways else 1))
    turns = 2.0 if both_ways else 1.0
    plane = outermost_plane(call.network, call.groups)
    steps = call.steps(turns * (local - 1), turns * float(np.ceil(np.log2(nodes))), plane)
    return price(call, "tree", [Phase(tuple(links), steps)])


def _down(order: Groups, channel_bytes: float) -> tuple[Groups, Groups, NDArray[np.float64]]:
    """Return child, parent and bytes of every edge of both trees and of the chains below them."""
    heads = order[..., 0]  # [groups, nodes, channels]
    child: list[Groups] = []
    parent: list[Groups] = []
    size: list[NDArray[np.float64]] = []
    for above in both_parents(heads.shape[1]):
        inside = above >= 0
        child.append(heads[:, inside].ravel())
        parent.append(heads[:, above[inside]].ravel())
        size.append(np.full(child[-1].size, channel_bytes / 2))
    child.append(order[..., 1:].ravel())
    parent.append(order[..., :-1].ravel())
    size.append(np.full(child[-1].size, channel_bytes))
    return np.concatenate(child), np.concatenate(parent), np.concatenate(size)
