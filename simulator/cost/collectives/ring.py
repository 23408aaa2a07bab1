"""Ring: every byte passes every member once, all-reduce twice.

Closed form behind one switch, n ranks: all-reduce 2(n-1)/n S/B + 2(n-1) steps; all-gather and reduce-scatter half of
it; broadcast S/B + (n-1) steps.
"""

import numpy as np

from simulator.cost.collectives.groups import by_node, outermost_plane
from simulator.cost.collectives.price import price
from simulator.cost.collectives.records import Call, CommCost, Phase
from simulator.cost.links import busiest_links

TURNS = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "broadcast": 1.0}


def ring(call: Call) -> CommCost | None:
    """Return the cost of a ring with one channel per local rank.

    Channels are rotated inside the node, so that each leaves by another NIC; only steps between nodes are long ones.
    """
    if call.kind not in TURNS:
        return None
    members, turns = call.members, TURNS[call.kind]
    blocks = by_node(call.network, call.groups)
    nodes, local = blocks.shape[1:]
    channel = (np.arange(local)[:, None] + np.arange(local)[None, :]) % local
    order = blocks[:, :, channel].transpose(0, 2, 1, 3).reshape(-1, members)
    source, target = order.ravel(), np.roll(order, -1, axis=1).ravel()
    share = 1.0 if call.kind == "broadcast" else (members - 1) / members
    volume = turns * share * call.size_bytes
    links = busiest_links(call.network, source, target, np.full(source.shape, volume / local))
    plane = outermost_plane(call.network, call.groups)
    steps = call.steps(turns * (members - nodes), turns * (nodes - 1), plane)
    kept = 0.0 if call.kind == "broadcast" else call.size_bytes / members
    return price(call, "ring", [Phase(tuple(links), steps)], kept)
