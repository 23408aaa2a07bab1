"""Recursive halving and doubling: partners at doubling distance, the most bytes to the nearest.

Closed form behind one switch, n = 2^k ranks: all-reduce 2(n-1)/n S/B + 2k steps, all-gather and reduce-scatter half of
it. Otherwise the ranks beyond the largest power of two fold their buffer into a partner's first and fetch the result
last (all-reduce only): 2 S/B and two steps more.
"""

import numpy as np

from simulator.cost.collectives.price import price
from simulator.cost.collectives.records import Call, CommCost, Groups, Phase
from simulator.cost.links import busiest_links


def halving_doubling(call: Call) -> CommCost | None:
    """Return the cost of recursive halving (reduce-scatter), doubling (all-gather), or both (all-reduce)."""
    power = 1 << (call.members.bit_length() - 1)
    whole = power == call.members
    if call.kind not in {"all_reduce", "all_gather", "reduce_scatter"} or (not whole and call.kind != "all_reduce"):
        return None
    turns = 2 if call.kind == "all_reduce" else 1
    core = call.groups[:, :power]
    phases = []
    for step in range(power.bit_length() - 1):
        partner = np.arange(power) ^ (1 << step)
        phases += [_exchange(call, core, core[:, partner], call.size_bytes / 2 ** (step + 1))] * turns
    if not whole:
        extra = call.groups[:, power:]
        onto = core[:, : extra.shape[1]]
        phases += [_exchange(call, extra, onto, call.size_bytes), _exchange(call, onto, extra, call.size_bytes)]
    return price(call, "halving-doubling", phases, call.size_bytes / call.members)


def _exchange(call: Call, source: Groups, target: Groups, size_bytes: float) -> Phase:
    source, target = source.ravel(), target.ravel()
    links = busiest_links(call.network, source, target, np.full(source.shape, size_bytes))
    farthest = call.network.tiers[int(call.network.meeting_tier(source, target).max())]
    return Phase(tuple(links), call.steps(0.0, 1.0, farthest.plane))
