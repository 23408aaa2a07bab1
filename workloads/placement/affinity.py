"""Placement that keeps experts used by the same tokens on one node, so that a token is sent to fewer nodes."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.placement.balanced import pack, within_nodes
from workloads.placement.table import Placement

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
MOST_TOKENS = 65_536  # more change pair counts by less than their noise, and their product takes long
SWEEPS = 8


class Together(NamedTuple):
    """How often one token uses two experts."""

    within: Floats  # [layers, experts, experts] both in this layer; 0 on the diagonal
    following: Floats  # [layers - 1, experts, experts] the first in this layer, the second in the next


def used_together(experts: NDArray[np.integer[Any]], routed_experts: int) -> Together:
    """Count the pairs of experts that tokens use.

    Parameters
    ----------
    experts
        ``[tokens, layers, top_k]`` expert ids; of more than `MOST_TOKENS` tokens every n-th is counted.
    routed_experts
        Routed experts of the model.
    """
    chosen = experts[:: -(-len(experts) // MOST_TOKENS)]
    layers = chosen.shape[1]
    within = np.empty((layers, routed_experts, routed_experts))
    following = np.empty((layers - 1, routed_experts, routed_experts))
    before = None
    for layer in range(layers):
        used = np.zeros((len(chosen), routed_experts), dtype=np.float32)  # counts below 2^24 are exact
        np.put_along_axis(used, chosen[:, layer].astype(np.int64), 1, axis=1)
        within[layer] = used.T @ used
        np.fill_diagonal(within[layer], 0)
        if before is not None:
            following[layer - 1] = before.T @ used
        before = used
    return Together(within, following)


def affinity(
    load: Floats, together: Together, ranks: int, redundant: int = 0, *, nodes: int = 1, slack: float = 0.1
) -> Placement:
    """Group experts into nodes by how often tokens use them together, then balance within each node.

    Parameters
    ----------
    load
        ``[layers, experts]`` expected load.
    together
        Pairs counted on the tokens that the load comes from.
    ranks, redundant
        Ranks of the expert-parallel group; slots beyond one per expert.
    nodes
        Nodes of equal size that the ranks form; each takes equally many experts.
    slack
        How far a node's load may go beyond the mean, as a share of it, unless balance alone can't hold that.

    Raises
    ------
    WorkloadError
        If slots, ranks or experts do not divide evenly.

    Source: exchange of pairs by gain, Kernighan and Lin 1970 (Bell Syst. Tech. J. 49, 291); keeping a token where its
    next layer's experts are, arXiv:2401.08383 (ExFlow).
    """
    experts = load.shape[1]
    if nodes == 1 or experts % nodes:  # the latter is refused below
        order = np.tile(np.arange(experts), (len(load), 1))
        return within_nodes(load, order, nodes, ranks, redundant)
    grouped = _exchanged(pack(load, nodes), load, together.within, slack)
    grouped = _node_kept(grouped, together.following)
    return within_nodes(load, grouped.reshape(len(load), experts), nodes, ranks, redundant)


def _exchanged(grouped: Index, load: Floats, within: Floats, slack: float) -> Index:
    """Swap experts between nodes while that brings together more pairs and no node grows too heavy.

    `grouped` is ``[layers, nodes, experts per node]``, and so is the result.
    """
    layers, nodes, size = grouped.shape
    node = _node_of(grouped)
    layer = np.arange(layers)
    member = np.eye(nodes)[node]  # [layers, experts, nodes]
    near = within @ member
    weight = np.einsum("le,len->ln", load, member)
    limit = np.maximum(weight.max(axis=1), load.sum(axis=1) / nodes * (1 + slack))
    for _ in range(SWEEPS):
        swapped = False
        for first in range(node.shape[1]):
            here = node[:, first]
            there = np.take_along_axis(near[:, first], node, axis=1) - near[layer, first, here][:, None]
            back = near[layer, :, here] - np.take_along_axis(near, node[..., None], axis=2)[..., 0]
            gain = there + back - 2 * within[:, first]
            change = load - load[:, first, None]  # what this expert's node gains by the swap
            fits = (weight[layer, here][:, None] + change <= limit[:, None]) & (
                np.take_along_axis(weight, node, axis=1) - change <= limit[:, None]
            )
            gain = np.where(fits & (node != here[:, None]), gain, 0)
            second = gain.argmax(axis=1)
            at = np.flatnonzero(gain[layer, second] > 1e-9 * within[:, first].sum(axis=1))
            if not at.size:
                continue
            swapped = True
            second, source, target = second[at], here[at], node[at, second[at]]
            moved = within[at, :, second] - within[at, :, first]
            near[at, :, source] += moved
            near[at, :, target] -= moved
            weight[at, source] += change[at, second]
            weight[at, target] -= change[at, second]
            node[at, first], node[at, second] = target, source
        if not swapped:
            break
    return np.argsort(node, axis=1, kind="stable").reshape(layers, nodes, size)


def _node_kept(grouped: Index, following: Floats) -> Index:
    """Renumber each layer's nodes so that tokens meet the nodes of the layer before, by greedy matching."""
    layers, nodes, _ = grouped.shape
    kept = grouped.copy()
    for layer in range(1, layers):
        before, after = np.eye(nodes)[_node_of(kept[layer - 1 : layer + 1])]
        flow = before.T @ following[layer - 1] @ after
        kept[layer] = grouped[layer, matched(flow)]
    return kept


def matched(score: Floats) -> Index:
    """Return for each row of a square matrix a column of its own, highest scores first."""
    left = score.astype(np.float64, copy=True)
    column = np.empty(len(left), dtype=np.int64)
    for _ in range(len(left)):
        row, best = np.unravel_index(left.argmax(), left.shape)
        column[row] = best
        left[row], left[:, best] = -np.inf, -np.inf
    return column


def _node_of(grouped: Index) -> Index:
    layers, nodes, size = grouped.shape
    node = np.empty((layers, nodes * size), dtype=np.int64)
    np.put_along_axis(node, grouped.reshape(layers, -1), np.repeat(np.arange(nodes), size)[None], axis=1)
    return node
