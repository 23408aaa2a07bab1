"""Where the tokens of one EP group go: per-rank work and copies on the wire, per batch and MoE layer."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError, did_you_mean
from simulator.result import Source
from simulator.scenario import Routing
from workloads.models.specs import Experts
from workloads.placement import Placement, balanced, contiguous, random
from workloads.routing.destinations import Copies, destinations
from workloads.routing.load import balanced_counts, sample_counts, slot_tokens
from workloads.routing.popularity import MIXED, Popularity, popularity
from workloads.routing.replay import resample, trace_counts, trace_destinations
from workloads.routing.spec import BROAD, DEFAULT, RoutingStatistics, broad, load_statistics
from workloads.routing.trace import Trace, check_model, read_trace

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
    """

    slot_tokens: Floats
    copies: Copies
    shared_ranks: int
    tokens: int

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
    redundant = redundant_experts(routing, experts, ranks)
    routed_ranks = ranks - routing.shared_expert_ranks
    if batches * moe_layers * max(experts.routed_experts, ranks) > MAX_SAMPLED_VALUES:
        raise UserError(
            f"plan: {batches} micro-batches x {moe_layers} MoE layers x {experts.routed_experts} experts are too many "
            "routing draws; use fidelity = 'analytic', fewer micro-batches or fewer DP replicas"
        )
    expected = _expected(routing, experts, moe_layers, seed)
    if routing.kind == "trace":
        return _replayed(routing, experts, moe_layers, routed_ranks, redundant, ranks_per_node, tokens, batches, seed)
    if expected is None:
        counts = _force_balanced(experts, moe_layers, tokens, batches)
    else:
        counts = sample_counts(expected, tokens, sequences, batches, stream(seed, "tokens"))
    load = expected.expected if expected else np.ones((moe_layers, experts.routed_experts))
    placement = _place(routing, load, routed_ranks, redundant, seed)
    copies = destinations(
        counts,
        placement,
        tokens,
        ranks_per_node,
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )
    return Routed(slot_tokens(counts, placement), copies, routing.shared_expert_ranks, tokens)


def _force_balanced(experts: Experts, moe_layers: int, tokens: int, batches: int) -> Floats | NDArray[np.int64]:
    """Give every expert the same tokens, fractions included; whole tokens only where there are fewer than experts."""
    routes = tokens * experts.top_k
    if routes < experts.routed_experts:
        return balanced_counts(tokens, moe_layers, experts.routed_experts, experts.top_k, batches)
    return np.full((batches, moe_layers, experts.routed_experts), routes / experts.routed_experts)


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the named random stream of a seed."""
    return np.random.default_rng([seed, *name.encode()])


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
        stream(seed, "popularity"),
        mix=mix,
        strength=strength,
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )


def _replayed(
    routing: Routing,
    experts: Experts,
    moe_layers: int,
    ranks: int,
    redundant: int,
    ranks_per_node: int,
    tokens: int,
    batches: int,
    seed: int,
) -> Routed:
    """Resample whole sequences of the trace; placement sees the trace's overall load, as yesterday's would."""
    trace = _trace(routing.trace or "")
    check_model(trace, "the scenario's model", moe_layers, experts.routed_experts, experts.top_k)
    drawn = resample(trace, tokens, batches, stream(seed, "tokens"))
    counts = trace_counts(trace, drawn)
    load = np.stack(
        [np.bincount(layer.ravel(), minlength=experts.routed_experts) for layer in trace.experts.swapaxes(0, 1)]
    )
    placement = _place(routing, load.astype(np.float64), ranks, redundant, seed)
    copies = trace_destinations(trace, drawn, placement, ranks_per_node)
    return Routed(slot_tokens(counts, placement), copies, routing.shared_expert_ranks, tokens)


@lru_cache(maxsize=2)
def _trace(path: str) -> Trace:
    if not path:
        raise UserError("routing.trace: missing with routing.kind = 'trace'; name a native trace file (npz or Parquet)")
    return read_trace(Path(path))


def _place(routing: Routing, load: Floats, ranks: int, redundant: int, seed: int) -> Placement:
    layers, experts = load.shape
    if routing.placement == "contiguous":
        return contiguous(layers, experts, ranks, redundant)
    if routing.placement == "random":
        return random(layers, experts, ranks, stream(seed, "placement"), redundant)
    return balanced(load, ranks, redundant)


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
        trace = _trace(routing.trace or "")
        return Source(what=f"routing: trace of {trace.model}", kind="trace", source=trace.source)
    statistics = load_statistics(statistics_file(routing.statistics))
    return Source(what=f"routing: statistics of {statistics.model}", kind="fitted", source=statistics.source)
