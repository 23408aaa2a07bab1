"""Which rank holds which expert, with replicas of the busiest."""

from workloads.placement.affinity import Together, affinity, used_together
from workloads.placement.balanced import balanced, eplb
from workloads.placement.migration import aligned, fetched
from workloads.placement.policy import POLICIES, Policy, place
from workloads.placement.simple import contiguous, random
from workloads.placement.table import EMPTY, Placement, check_slots

__all__ = [
    "EMPTY",
    "POLICIES",
    "Placement",
    "Policy",
    "Together",
    "affinity",
    "aligned",
    "balanced",
    "check_slots",
    "contiguous",
    "eplb",
    "fetched",
    "place",
    "random",
    "used_together",
]
