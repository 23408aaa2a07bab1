"""What is asked of the routing of one EP group, and where its experts are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.scenario import Routing
from workloads.models.specs import Experts
from workloads.placement import Placement, Together, aligned, fetched, place
from workloads.placement_files.readers import read_placement

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Group:
    """One EP group and the batches that it computes.

    Parameters
    ----------
    experts
        Of the model, with the router's group limit as asked.
    moe_layers
        MoE layers.
    ranks
        Ranks that hold routed experts.
    redundant
        Slots beyond one per expert, in each layer.
    ranks_per_node
        Consecutive ranks that form a node; the last may be smaller.
    tokens, sequences
        Tokens of the whole group in one batch, and the sequences that they come from.
    batches
        Micro-batches or iterations to draw.
    seed
        Scenario seed.
    """

    experts: Experts
    moe_layers: int
    ranks: int
    redundant: int
    ranks_per_node: int
    tokens: int
    sequences: int
    batches: int
    seed: int

    def stream(self, name: str) -> np.random.Generator:
        """Return the named random stream of the scenario."""
        return np.random.default_rng([self.seed, *name.encode()])


def routing_problems(routing: Routing) -> Iterator[str]:
    """Yield what contradicts itself in a scenario's routing."""
    kind = f"routing.kind = '{routing.kind}'"
    if routing.trace is not None and routing.kind != "trace":
        yield (f"routing.trace = {routing.trace}: {kind} does not read it; set routing.kind = 'trace', or remove it")
    if routing.holdout and routing.kind != "trace":
        yield f"routing.holdout = {routing.holdout:g}: {kind} has no trace to split; set routing.kind = 'trace'"
    if routing.drift and routing.kind != "fitted":
        yield f"routing.drift = {routing.drift:g}: {kind} does not drift; use 'fitted', or routing.holdout with a trace"
    if routing.balancing != "none" and routing.kind != "fitted":
        yield (
            f"routing.balancing = '{routing.balancing}': {kind} has no weights that a bias could shift (a trace holds "
            "the chosen experts only); use 'fitted', with statistics fitted to the trace"
        )
    if routing.placement_file is not None and (routing.placement != "contiguous" or routing.redundant_experts):
        yield (
            f"routing.placement_file = {routing.placement_file}: says where all replicas are; remove "
            "routing.placement and routing.redundant_experts"
        )
    if routing.rebalance_interval is not None and routing.placement in {"contiguous", "random"}:
        yield (
            f"routing.rebalance_interval = {routing.rebalance_interval}: placement '{routing.placement}' does not look "
            "at the load; use 'balanced', 'eplb' or 'affinity'"
        )


def redundant_experts(routing: Routing, experts: Experts, ranks: int) -> int:
    """Return the replica slots of a layer; 'fill' takes as few as make the slots divide over the routed ranks.

    Raises
    ------
    UserError
        If no rank is left for routed experts, or the number is negative.
    """
    routed = ranks - routing.shared_expert_ranks
    if routed < 1:
        raise UserError(
            f"routing.shared_expert_ranks = {routing.shared_expert_ranks}: EP {ranks} leaves no rank for routed "
            "experts; use fewer"
        )
    return -experts.routed_experts % routed if routing.redundant_experts == "fill" else routing.redundant_experts


def limited(routing: Routing, experts: Experts) -> Experts:
    """Return the experts with the group limit that the scenario asks for instead of the model's.

    Raises
    ------
    UserError
        If the groups do not divide the experts, or those of a token hold too few.
    """
    if routing.groups is None and routing.groups_per_token is None:
        return experts
    if routing.kind == "trace":
        raise UserError(
            "routing.groups, routing.groups_per_token: a trace holds what its router chose, not what another would; "
            "use routing.kind = 'fitted' with statistics fitted to it, or remove them"
        )
    groups = routing.groups or experts.n_group
    used = routing.groups_per_token or min(experts.topk_group, groups)
    problems = []
    if experts.routed_experts % groups:
        problems.append(f"routing.groups = {groups}: does not divide {experts.routed_experts} experts")
    elif used * (experts.routed_experts // groups) < experts.top_k:
        within = used * (experts.routed_experts // groups)
        problems.append(
            f"routing.groups_per_token = {used}: groups of {experts.routed_experts // groups} hold {within} experts, a "
            f"token uses {experts.top_k}; use more"
        )
    if used > groups:
        problems.append(f"routing.groups_per_token = {used}: more than the {groups} groups; use at most so many")
    if problems:
        raise UserError(*problems)
    return experts.model_copy(update={"n_group": groups, "topk_group": used})


def placed(routing: Routing, group: Group, load: Floats, together: Together | None = None) -> Placement:
    """Return where the group's experts are.

    Parameters
    ----------
    load
        ``[layers, experts]`` what is known of the load.
    together
        Pairs of experts that tokens use, where it is known.

    Raises
    ------
    UserError, WorkloadError
        If the policy or the file does not suit the group.
    """
    if routing.placement_file is not None:
        return _from_file(routing.placement_file, group)
    return place(
        routing.placement,
        load,
        group.ranks,
        group.redundant,
        group.ranks_per_node,
        group.stream("placement"),
        groups=group.experts.n_group if group.experts.topk_group < group.experts.n_group else 1,
        together=together,
    )


def _from_file(path: str, group: Group) -> Placement:
    found = read_placement(path, group.ranks)
    experts = group.experts.routed_experts
    if (len(found.slot_expert), found.ranks, found.experts) != (group.moe_layers, group.ranks, experts):
        raise UserError(
            f"routing.placement_file = {path}: {len(found.slot_expert)} layers of {found.experts} experts on "
            f"{found.ranks} ranks; the scenario has {group.moe_layers} MoE layers of {experts} on {group.ranks} ranks "
            "with routed experts"
        )
    return found


def moved_experts(routing: Routing, group: Group, old: Placement, load: Floats, together: Together | None) -> int:
    """Return the experts, of all layers, that the rank which must fetch most is sent at the next re-balancing.

    Parameters
    ----------
    old
        Placement in use.
    load, together
        What the next one is made from.
    """
    if routing.rebalance_interval is None:
        return 0
    new = placed(routing, group, load, together)
    nodes = group.ranks // group.ranks_per_node if routing.placement != "balanced" else 1
    return int(fetched(old, aligned(old, new, max(nodes, 1))).sum(axis=0).max())
