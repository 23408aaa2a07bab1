"""Collectives priced on the links that their groups use, all groups of the kind at once.

Sizes follow nccl-tests: `size_bytes` is the full buffer S of one rank for all-reduce, broadcast and all-to-all, the
gathered result for all-gather and the input for reduce-scatter.
"""

from simulator.cost.collectives.choice import ALGORITHMS, KINDS, collective
from simulator.cost.collectives.exchange import all_to_all_v, send_recv
from simulator.cost.collectives.records import FREE, Algorithm, CommCost, Kind
from simulator.cost.collectives.transfer import transfer

__all__ = [
    "ALGORITHMS",
    "FREE",
    "KINDS",
    "Algorithm",
    "CommCost",
    "Kind",
    "all_to_all_v",
    "collective",
    "send_recv",
    "transfer",
]
