"""Placements by expected load: replicate the busiest experts, then pack; all ranks at once, or node by node.

The algorithm is that of deepseek-ai/EPLB:README.md and eplb.py, written anew for arrays of layers: experts' groups are
packed into nodes, experts replicated within each node, replicas packed into its ranks. Packing is by longest processing
time first with a fixed number of items per pack (Graham 1969, SIAM J. Appl. Math. 17, 416).
"""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement.table import Placement, check_slots

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


def balanced(load: Floats, ranks: int, redundant: int = 0) -> Placement:
    """Replicate the busiest experts, then give each replica, busiest first, to the least loaded rank with a free slot.

    Parameters
    ----------
    load
        ``[layers, experts]`` expected load. Never the counts that the placement is judged on.
    ranks
        Ranks of the expert-parallel group.
    redundant
        Slots beyond one per expert.

    Raises
    ------
    WorkloadError
        If the slots do not fill the ranks evenly.

    Source: the global policy of deepseek-ai/EPLB.
    """
    order = np.tile(np.arange(load.shape[1]), (len(load), 1))
    return within_nodes(load, order, 1, ranks, redundant)


def eplb(load: Floats, ranks: int, redundant: int = 0, *, nodes: int = 1, groups: int = 1) -> Placement:
    """Keep expert groups together in nodes and balance within each node, as DeepSeek's load balancer does.

    Where groups can't be shared out evenly among nodes, all ranks are balanced at once (`balanced`).

    Parameters
    ----------
    load, ranks, redundant
        As in `balanced`.
    nodes
        Nodes of equal size that the ranks form.
    groups
        Groups of consecutive experts, those of the router's group limit.

    Raises
    ------
    WorkloadError
        If the slots do not fill the ranks, the ranks the nodes, or the experts the groups evenly.
    """
    layers, experts = load.shape
    if groups < 1 or experts % groups:
        raise WorkloadError(f"placement: {groups} groups of {experts} experts: must divide evenly")
    if groups % nodes:
        return balanced(load, ranks, redundant)
    by_group = load.reshape(layers, groups, -1)
    group = pack(by_group.sum(axis=-1), nodes).reshape(layers, groups)
    size = experts // groups
    order = (group[..., None] * size + np.arange(size)).reshape(layers, experts)
    return within_nodes(load, order, nodes, ranks, redundant)


def within_nodes(load: Floats, order: Index, nodes: int, ranks: int, redundant: int) -> Placement:
    """Replicate and pack experts within the node that each was given to.

    Parameters
    ----------
    load
        ``[layers, experts]`` expected load.
    order
        ``[layers, experts]`` experts node by node, equally many for each.

    Raises
    ------
    WorkloadError
        If the slots do not fill the ranks evenly, or ranks or experts the nodes.
    """
    layers, experts = load.shape
    slots = check_slots(experts, ranks, redundant)
    if ranks % nodes or experts % nodes:
        raise WorkloadError(
            f"placement: {experts} experts on {ranks} ranks in {nodes} nodes: must divide evenly; use whole nodes, or "
            "a policy that balances all ranks at once"
        )
    own = order.reshape(layers * nodes, experts // nodes)
    weight = np.take_along_axis(load, order, axis=1).reshape(own.shape)
    item, each = replicate(weight, slots * ranks // nodes)
    packed = pack(each, ranks // nodes, item).reshape(layers * nodes, -1)
    expert = np.take_along_axis(own, np.take_along_axis(item, packed, axis=1), axis=1)
    return Placement(expert.reshape(layers, ranks, slots), experts)


def replicate(weight: Floats, slots: int) -> tuple[Index, Floats]:
    """Give every item a slot, and each slot beyond that to the item with the most weight per slot.

    Parameters
    ----------
    weight
        ``[rows, items]``.

    Returns
    -------
    ``[rows, slots]`` item in each slot, and the weight it carries there.
    """
    rows, items = weight.shape
    row = np.arange(rows)
    held = np.ones_like(weight, dtype=np.float64)
    item = np.tile(np.arange(slots), (rows, 1))
    for column in range(items, slots):
        busiest = (weight / held).argmax(axis=1)
        item[:, column] = busiest
        held[row, busiest] += 1
    return item, np.take_along_axis(weight / held, item, axis=1)


def pack(weight: Floats, packs: int, expert: Index | None = None) -> Index:
    """Put items, heaviest first, into the lightest pack with room; each pack takes equally many.

    Parameters
    ----------
    weight
        ``[rows, items]``; items must be a multiple of packs.
    expert
        ``[rows, items]`` expert that an item is a replica of, numbered from 0; a pack that holds it already is passed
        over while there is another with room. The published algorithm does not look: it may waste a slot.

    Returns
    -------
    ``[rows, packs, items per pack]`` items of each pack in the order they came.
    """
    rows, items = weight.shape
    room = items // packs
    if room == 1:
        return np.tile(np.arange(items)[:, None], (rows, 1, 1))
    row = np.arange(rows)
    order = np.argsort(-weight, axis=1, kind="stable")
    total = np.zeros((rows, packs))
    filled = np.zeros((rows, packs), dtype=np.int64)
    packed = np.empty((rows, packs, room), dtype=np.int64)
    held = np.zeros((rows, packs, items if expert is not None else 0))
    # worse than any weight, better than no room
    repeated = 1.0 + 2.0 * weight.sum(axis=1, keepdims=True)
    for column in range(items):
        item = order[:, column]
        worth = np.where(filled < room, total, np.inf)
        if expert is not None:
            which = expert[row, item]
            worth = worth + repeated * held[row, :, which]
        lightest = worth.argmin(axis=1)
        packed[row, lightest, filled[row, lightest]] = item
        total[row, lightest] += weight[row, item]
        filled[row, lightest] += 1
        if expert is not None:
            held[row, lightest, which] = 1.0
    return packed
