"""Routing replayed from recorded counts, where which experts a token used together was not kept."""

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.phase.group import Group, moved_experts, placed
from simulator.scenario import Routing
from workloads.placement import Placement
from workloads.routing.counts import CountTrace, split_steps
from workloads.routing.replay_counts import resample_counts
from workloads.routing.trace import ONLY_COUNTS, check_model


def replayed_counts(routing: Routing, group: Group, trace: CountTrace) -> tuple[NDArray[np.float64], Placement, int]:
    """Return ``[batches, layers, experts]`` tokens per expert, the placement, and the experts that move.

    Raises
    ------
    UserError, WorkloadError
        If the trace is of another model, or what is asked needs each token's experts.
    """
    experts = group.experts
    if routing.placement == "affinity":
        raise UserError(f"routing.placement = 'affinity': routing.trace = {routing.trace} {ONLY_COUNTS}")
    check_model(trace, "the scenario's model", group.moe_layers, experts.routed_experts, experts.top_k)
    seen, served = split_steps(trace, routing.holdout)
    placement = placed(routing, group, seen.counts.sum(axis=0).astype(np.float64))
    now = served.counts.sum(axis=0).astype(np.float64)
    counts = resample_counts(served, group.tokens, experts.top_k, group.batches, group.stream("tokens"))
    return counts, placement, moved_experts(routing, group, placement, now, None)
