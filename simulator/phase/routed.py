"""Where the tokens of one EP group go: per-rank work and copies on the wire, per batch and MoE layer."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError, did_you_mean
from simulator.phase.group import Group, limited, placed, redundant_experts
from simulator.phase.recorded import recorded_trace, replayed
from simulator.result import Source
from simulator.scenario import Routing
from workloads.models.specs import Experts
from workloads.placement import Placement
from workloads.routing.destinations import Copies, destinations
from workloads.routing.load import balanced_counts, capped, sample_counts, slot_tokens
from workloads.routing.popularity import MIXED, Popularity, popularity
from workloads.routing.spec import BROAD, DEFAULT, RoutingStatistics, broad, load_statistics

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
    dropped
        Share of the routes that a capacity factor drops.
    """

    slot_tokens: Floats
    copies: Copies
    shared_ranks: int
    tokens: int
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
    if routing.kind == "trace":
        counts, placement, copies = replayed(routing, group)
    else:
        counts, placement = _drawn(routing, group)
        copies = _copies(counts, placement, group)
    if routing.capacity_factor is None:
        return Routed(slot_tokens(counts, placement), copies, routing.shared_expert_ranks, tokens)
    kept = capped(counts, routing.capacity_factor)
    # a copy is not sent if all of its experts drop it; the closed form says how often
    before, after = (_copies(each, placement, group) for each in (counts, kept))
    ratios = (
        np.divide(new, old, out=np.ones_like(old), where=old > new) for old, new in zip(before, after, strict=True)
    )
    copies = Copies(*(each * ratio for each, ratio in zip(copies, ratios, strict=True)))
    dropped = 1.0 - float(kept.sum()) / float(counts.sum())
    return Routed(slot_tokens(kept, placement), copies, routing.shared_expert_ranks, tokens, dropped)


def _drawn(routing: Routing, group: Group) -> tuple[Floats | NDArray[np.int64], Placement]:
    """Draw the tokens per expert, and place the experts by what is expected."""
    experts = group.experts
    expected = _expected(routing, experts, group.moe_layers, group.seed)
    if expected is None:
        counts: Floats | NDArray[np.int64] = _force_balanced(experts, group.moe_layers, group.tokens, group.batches)
        return counts, placed(routing, group, np.ones((group.moe_layers, experts.routed_experts)))
    counts = sample_counts(expected, group.tokens, group.sequences, group.batches, group.stream("tokens"))
    return counts, placed(routing, group, expected.expected)


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


def _force_balanced(experts: Experts, moe_layers: int, tokens: int, batches: int) -> Floats | NDArray[np.int64]:
    """Give every expert the same tokens, fractions included; whole tokens only where there are fewer than experts."""
    routes = tokens * experts.top_k
    if routes < experts.routed_experts:
        return balanced_counts(tokens, moe_layers, experts.routed_experts, experts.top_k, batches)
    return np.full((batches, moe_layers, experts.routed_experts), routes / experts.routed_experts)


def _expected(routing: Routing, experts: Experts, moe_layers: int, seed: int) -> Popularity | None:
    if routing.kind in {"balanced", "trace"}:
        return None
    statistics = load_statistics(statistics_file(routing.statistics))
    known = (MIXED, BROAD, *statistics.task_sigma)
    if routing.mix not in known:
        hint = did_you_mean(routing.mix, known)
        raise UserError(f"routing.mix = '{routing.mix}': unknown{hint}; use one of {', '.join(known)}")
    if routing.mix == BROAD:
        statistics = broad(statistics)
    strength = 0.0 if routing.kind == "uniform" else routing.strength
    return _popularity(statistics.model_dump_json(), experts, moe_layers, routing.mix, strength, seed)


@lru_cache(maxsize=8)
def _popularity(statistics: str, experts: Experts, moe_layers: int, mix: str, strength: float, seed: int) -> Popularity:
    return popularity(
        RoutingStatistics.model_validate_json(statistics),
        moe_layers,
        experts.routed_experts,
        experts.top_k,
        np.random.default_rng([seed, *b"popularity"]),
        mix=mix,
        strength=strength,
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )


def statistics_file(name: str) -> Path:
    """Return the file of shipped statistics, or the path as given.

    Raises
    ------
    UserError
        If it is neither.
    """
    shipped = {path.stem: path for path in DEFAULT.parent.glob("*.toml")}
    if name in shipped or Path(name).is_file():
        return shipped.get(name) or Path(name)
    raise UserError(
        f"routing.statistics = '{name}': no such file or shipped statistics{did_you_mean(name, shipped)}; "
        f"shipped: {', '.join(sorted(shipped))}"
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


def routing_notes(routing: Routing, experts: Experts | None, ranks: int, routed: Routed | None) -> list[str]:
    """Return what a run assumes of its routing and placement."""
    if experts is None or routed is None:
        return []
    redundant = redundant_experts(routing, experts, ranks)
    read = {"fitted": f", mix {routing.mix}, strength {routing.strength:g}", "trace": " (strength and mix don't apply)"}
    how = f"routing {routing.kind}{read.get(routing.kind, '')}"
    notes = [f"{how}, placement {routing.placement}, {redundant} redundant experts per layer"]
    if routing.kind == "trace" and routing.placement in {"balanced", "eplb", "affinity"}:
        held = (
            f"the trace before its last {routing.holdout:.0%}" if routing.holdout else "the very trace that is replayed"
        )
        notes.append(f"experts are placed by {held}")
    used = limited(routing, experts)
    if used is not experts:
        notes.append(f"what-if: a token may use {used.topk_group} of {used.n_group} expert groups")
    if routing.capacity_factor is not None:
        notes.append(
            f"capacity factor {routing.capacity_factor:g}, counted over the EP group: {routed.dropped:.2%} of the "
            "routes are dropped"
        )
    return notes
