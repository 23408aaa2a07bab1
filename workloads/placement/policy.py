"""Placement by name of the policy."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement.affinity import Together, affinity
from workloads.placement.balanced import balanced, eplb
from workloads.placement.simple import contiguous, random
from workloads.placement.table import Placement

Policy = Literal["contiguous", "random", "balanced", "eplb", "affinity"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def place(
    policy: Policy,
    load: NDArray[np.float64],
    ranks: int,
    redundant: int,
    ranks_per_node: int,
    rng: np.random.Generator,
    *,
    groups: int = 1,
    together: Together | None = None,
) -> Placement:
    """Place experts by the policy of this name.

    Parameters
    ----------
    load
        ``[layers, experts]`` expected load, of other tokens than those that the placement is judged on.
    ranks, redundant
        Ranks of the expert-parallel group; slots beyond one per expert.
    ranks_per_node
        Consecutive ranks that form a node.
    rng
        What a random placement is drawn from.
    groups
        Groups of consecutive experts, which 'eplb' keeps together.
    together
        Pairs of experts that tokens use, which 'affinity' needs.

    Raises
    ------
    WorkloadError
        If slots, ranks, nodes or groups do not divide evenly, or the policy lacks what it looks at.
    """
    layers, experts = load.shape
    nodes = -(-ranks // ranks_per_node)
    if policy == "contiguous":
        return contiguous(layers, experts, ranks, redundant)
    if policy == "random":
        return random(layers, experts, ranks, rng, redundant)
    if policy == "balanced":
        return balanced(load, ranks, redundant)
    if nodes > 1 and ranks % ranks_per_node:
        raise WorkloadError(
            f"placement '{policy}': {ranks} ranks in nodes of {ranks_per_node}: must fill whole nodes; use 'balanced'"
        )
    if policy == "eplb":
        return eplb(load, ranks, redundant, nodes=nodes, groups=groups)
    if together is None:
        raise WorkloadError(
            "placement 'affinity': only counts are known, not which experts a token uses together; use a trace of "
            "tokens, or 'balanced'"
        )
    return affinity(load, together, ranks, redundant, nodes=nodes)
