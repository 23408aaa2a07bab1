"""Reduction and multicast in the switch (NVLS), and over nodes a tree between the switches.

Each rank's buffer is read through the switch once, and its share of the sum is written once more, to all ranks by
multicast: S (1 + 1/n) through each port, whatever the ring formula says.
"""

import numpy as np

from simulator.cost.collectives.groups import by_node, met_tiers
from simulator.cost.collectives.price import constants, kernel_cost
from simulator.cost.collectives.records import Call, CommCost, Groups
from simulator.cost.collectives.tree import both_parents
from simulator.cost.links import LinkTime, busiest_links


def in_switch(call: Call) -> CommCost | None:
    """Return the cost of an all-reduce by the switches of one scale-up domain."""
    kernel = constants(call, 0).in_switch
    if call.kind != "all_reduce" or kernel is None or not _one_switch(call, call.groups):
        return None
    link = _reduced(call, call.groups, call.size_bytes)
    latency_s = constants(call, 0).launch_s + kernel.ramp_s
    return kernel_cost(call, "in-switch", [link], [kernel.fraction], latency_s, 0)


def in_switch_tree(call: Call) -> CommCost | None:
    """Return the cost of an all-reduce by the switch in each node and a double tree of equal ranks over the nodes.

    The two work on different pieces of the buffer at the same time.
    """
    kernel = constants(call, 0).in_switch
    blocks = by_node(call.network, call.groups)
    nodes, local = blocks.shape[1:]
    if call.kind != "all_reduce" or kernel is None or nodes == 1 or local == 1:
        return None
    if not _one_switch(call, blocks.reshape(-1, local)):
        return None
    inside = _reduced(call, blocks.reshape(-1, local), call.size_bytes)
    links = _tree_links(call, blocks)
    outer = max(link.plane for link in links)
    fractions = [kernel.fraction, *(constants(call, link.plane).fraction for link in links)]
    steps_s = 2 * float(np.ceil(np.log2(nodes))) * constants(call, outer).step_s
    latency_s = constants(call, outer).launch_s + kernel.ramp_s + steps_s
    return kernel_cost(call, "in-switch-tree", [inside, *links], fractions, latency_s, outer)


def _one_switch(call: Call, groups: Groups) -> bool:
    """Tell whether all members meet in the innermost plane, and not over direct links."""
    return all(tier.plane == 0 and np.isinf(tier.pair_bytes_per_s) for tier in met_tiers(call.network, groups))


def _reduced(call: Call, groups: Groups, size_bytes: float) -> LinkTime:
    plane = call.network.planes[0]
    port = plane.port_bytes_per_s[groups]
    time_s = size_bytes * (1 + 1 / groups.shape[1]) / float(port.min())
    return LinkTime(time_s, 0, f"{plane.name} port out of rank {groups.ravel()[port.argmin()]}")


def _tree_links(call: Call, blocks: Groups) -> list[LinkTime]:
    """Return the loads of the double tree that each local rank's share takes between the nodes, up and down."""
    ends = []
    for above in both_parents(blocks.shape[1]):
        inside = above >= 0
        ends.append((blocks[:, inside].ravel(), blocks[:, above[inside]].ravel()))
    child, parent = (np.concatenate(side) for side in zip(*ends, strict=True))
    source, target = np.concatenate([child, parent]), np.concatenate([parent, child])
    size = np.full(source.shape, call.size_bytes / blocks.shape[2] / 2)
    return busiest_links(call.network, source, target, size)
