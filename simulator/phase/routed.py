"""Where the tokens of one EP group go: per-rank work and copies on the wire, per batch and MoE layer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.phase.drawn import drawn, trained_bias
from simulator.phase.group import Group, limited, redundant_experts
from simulator.phase.recorded import recorded_trace, replayed
from simulator.phase.recorded_counts import replayed_counts
from simulator.phase.statistics import statistics_file
from simulator.result import Source
from simulator.scenario import Routing
from workloads.models.specs import Experts
from workloads.placement import Placement
from workloads.routing.destinations import Copies, destinations
from workloads.routing.load import capped, slot_tokens
from workloads.routing.spec import load_statistics
from workloads.routing.trace import Trace

Floats = NDArray[np.float64]
MAX_SAMPLED_VALUES = 60_000_000


@dataclass(frozen=True, slots=True)
class Routed:
    """Tokens of one EP group, over ``[batches, MoE layers]``.

    Parameters
    ----------
    slot_tokens
        ``[batches, layers, ranks, slots]`` tokens that each expert slot computes.
    copies
        Token copies that arrive at each rank and node after de-duplication.
    shared_ranks
        Ranks in front of these that hold only a copy of the shared expert.
    tokens
        Tokens of the whole group in one batch.
    moved
        Experts, of all layers, that one rank must fetch at a re-balancing, at most.
    dropped
        Share of the routes that a capacity factor drops.
    """

    slot_tokens: Floats
    copies: Copies
    shared_ranks: int
    tokens: int
    moved: int = 0
    dropped: float = 0.0

    @property
    def rank_tokens(self) -> Floats:
        """``[batches, layers, ranks]`` expert rows per rank."""
        rows: Floats = self.slot_tokens.sum(axis=-1)
        return rows

    @property
    def imbalance(self) -> float:
        """Busiest rank over the mean, averaged over layers and batches."""
        rows = self.rank_tokens
        return float((rows.max(axis=-1) / rows.mean(axis=-1)).mean())


def route(
    routing: Routing,
    experts: Experts,
    moe_layers: int,
    ranks: int,
    ranks_per_node: int,
    tokens: int,
    sequences: int,
    batches: int,
    seed: int,
) -> Routed:
    """Return the routed tokens of one EP group.

    Persistent preferences depend on the seed alone, so different batch counts and plans see the same model.

    Parameters
    ----------
    tokens, sequences
        Tokens of the whole group in one batch, and the sequences that they come from.
    batches
        Micro-batches or iterations to draw.
    seed
        Scenario seed.

    Raises
    ------
    UserError, WorkloadError
        If experts do not divide, or statistics or trace can't be used.
    """
    group = Group(
        limited(routing, experts),
        moe_layers,
        ranks - routing.shared_expert_ranks,
        redundant_experts(routing, experts, ranks),
        ranks_per_node,
        tokens,
        sequences,
        batches,
        seed,
    )
    if batches * moe_layers * max(experts.routed_experts, ranks) > MAX_SAMPLED_VALUES:
        raise UserError(
            f"plan: {batches} micro-batches x {moe_layers} MoE layers x {experts.routed_experts} experts are too many "
            "routing draws; use fidelity = 'analytic', fewer micro-batches or fewer DP replicas"
        )
    counts: Floats | NDArray[np.int64]
    recorded = recorded_trace(routing) if routing.kind == "trace" else None
    if isinstance(recorded, Trace):
        counts, placement, copies, moved = replayed(routing, group)
    else:
        counts, placement, moved = replayed_counts(routing, group, recorded) if recorded else drawn(routing, group)
        copies = _copies(counts, placement, group)
    if routing.capacity_factor is None:
        return Routed(slot_tokens(counts, placement), copies, routing.shared_expert_ranks, tokens, moved)
    kept = capped(counts, routing.capacity_factor)
    # a copy is not sent if all of its experts drop it; the closed form says how often
    before, after = (_copies(each, placement, group) for each in (counts, kept))
    ratios = (
        np.divide(new, old, out=np.ones_like(old), where=old > new) for old, new in zip(before, after, strict=True)
    )
    copies = Copies(*(each * ratio for each, ratio in zip(copies, ratios, strict=True)))
    dropped = 1.0 - float(kept.sum()) / float(counts.sum())
    return Routed(slot_tokens(kept, placement), copies, routing.shared_expert_ranks, tokens, moved, dropped)


def _copies(counts: Floats | NDArray[np.int64], placement: Placement, group: Group) -> Copies:
    experts = group.experts
    return destinations(
        counts,
        placement,
        group.tokens,
        group.ranks_per_node,
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )


def routing_source(routing: Routing) -> Source:
    """Return where the routing of a run comes from."""
    if routing.kind == "balanced":
        return Source(what="routing", kind="assumed", source="force-balanced: every expert gets the same tokens")
    if routing.kind == "uniform":
        return Source(what="routing", kind="assumed", source="uniform random: sampling noise only")
    if routing.kind == "trace":
        trace = recorded_trace(routing)
        return Source(what=f"routing: trace of {trace.model}", kind="trace", source=trace.source)
    statistics = load_statistics(statistics_file(routing.statistics))
    return Source(what=f"routing: statistics of {statistics.model}", kind="fitted", source=statistics.source)


def routing_notes(routing: Routing, experts: Experts | None, ranks: int, seed: int, routed: Routed | None) -> list[str]:
    """Return what a run assumes of its routing and placement."""
    if experts is None or routed is None:
        return []
    redundant = redundant_experts(routing, experts, ranks)
    read = {"fitted": f", mix {routing.mix}, strength {routing.strength:g}", "trace": " (strength and mix don't apply)"}
    how = f"routing {routing.kind}{read.get(routing.kind, '')}"
    where = f"placement {routing.placement}, {redundant} redundant experts per layer"
    notes = [f"{how}, {f'placement of {routing.placement_file}' if routing.placement_file else where}"]
    if routing.kind == "trace" and routing.placement in {"balanced", "eplb", "affinity"}:
        held = (
            f"the trace before its last {routing.holdout:.0%}" if routing.holdout else "the very trace that is replayed"
        )
        notes.append(f"experts are placed by {held}")
    notes += _moving_notes(routing, routed)
    used = limited(routing, experts)
    if used is not experts:
        notes.append(f"what-if: a token may use {used.topk_group} of {used.n_group} expert groups")
    if routing.balancing == "bias":
        busiest = trained_bias(routing, used, routed.slot_tokens.shape[1], seed).busiest
        notes.append(
            f"what-if: bias of {routing.bias_update_speed:g} in {len(busiest) - 1:,} steps takes the busiest expert's "
            f"expected load from {busiest[0]:.2f} to {busiest[-1]:.2f} times the mean"
        )
    if routing.capacity_factor is not None:
        notes.append(
            f"capacity factor {routing.capacity_factor:g}, counted over the EP group: {routed.dropped:.2%} of the "
            "routes are dropped"
        )
    return notes


def _moving_notes(routing: Routing, routed: Routed) -> list[str]:
    notes = []
    if routing.drift:
        notes.append(f"load has drifted by {routing.drift:g} since experts were placed (log weights)")
    if routing.rebalance_interval is not None:
        notes.append(
            f"re-balancing every {routing.rebalance_interval:,} iterations: one rank fetches {routed.moved:,} experts, "
            "at line rate, exposed; counted as overhead"
        )
    return notes
