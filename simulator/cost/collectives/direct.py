"""Direct exchange: every rank sends to every other at once, in one step (all-reduce: two).

Closed form, n ranks behind one switch: all-gather, reduce-scatter and all-to-all (n-1)/n S/B; on a full mesh S/n over
each link.
"""

from simulator.cost.collectives.groups import outermost_plane
from simulator.cost.collectives.price import price
from simulator.cost.collectives.records import Call, CommCost, Phase
from simulator.cost.matrix_links import uniform_loads

ROUNDS = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}


def direct(call: Call) -> CommCost | None:
    """Return the cost of exchanging shards with all members at once."""
    if call.kind not in ROUNDS:
        return None
    rounds = ROUNDS[call.kind]
    links = [
        each.busiest() for each in uniform_loads(call.network, rounds * call.size_bytes / call.members, call.groups)
    ]
    steps = call.steps(0.0, rounds, outermost_plane(call.network, call.groups))
    return price(call, "direct", [Phase(tuple(links), steps)], call.size_bytes / call.members)
