"""Routing drawn from statistics: what is expected, what is served, and where the experts are."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError, did_you_mean
from simulator.phase.group import Group, moved_experts, placed
from simulator.phase.statistics import statistics_file
from simulator.scenario import Routing
from workloads.models.specs import Experts
from workloads.placement import Placement
from workloads.routing.load import balanced_counts, sample_counts
from workloads.routing.popularity import Popularity, popularity
from workloads.routing.preferences import MIXED
from workloads.routing.reweighted import Balanced, bias_balanced, drifted, reweighted
from workloads.routing.spec import BROAD, RoutingStatistics, broad, load_statistics

Floats = NDArray[np.float64]
INTERVAL_POINTS = 4  # times between two placements at which batches are drawn


class Drawn(NamedTuple):
    """Batches drawn from statistics."""

    counts: Floats | NDArray[np.int64]  # [batches, layers, experts]
    placement: Placement
    moved: int  # see `simulator.phase.group.moved_experts`


def drawn(routing: Routing, group: Group) -> Drawn:
    """Draw the tokens per expert, and place the experts by what was expected when they were placed."""
    shape = (group.moe_layers, group.experts.routed_experts)
    if routing.kind == "balanced":
        return Drawn(_force_balanced(group), placed(routing, group, np.ones(shape)), 0)
    expected = expected_routing(routing, group.experts, group.moe_layers, group.seed)
    placement = placed(routing, group, expected.expected)
    served = [expected]
    if routing.drift:
        other = _popularity_of(routing, group.experts, group.moe_layers, group.seed, "drift")
        points = [(point + 0.5) / INTERVAL_POINTS for point in range(INTERVAL_POINTS)]
        times = points if routing.rebalance_interval else [1.0]
        served = [drifted(expected, other, time * routing.drift) for time in times]
    rng = group.stream("tokens")
    batches = [len(part) for part in np.array_split(np.arange(group.batches), len(served))]
    counts = np.concatenate(
        [
            sample_counts(model, group.tokens, group.sequences, number, rng)
            for model, number in zip(served, batches, strict=True)
            if number
        ]
    )
    return Drawn(counts, placement, moved_experts(routing, group, placement, served[-1].expected, None))


def expected_routing(routing: Routing, experts: Experts, moe_layers: int, seed: int) -> Popularity:
    """Return the expected routing that a scenario asks for, its router's balancing included."""
    found = _popularity_of(routing, experts, moe_layers, seed, "popularity")
    if routing.balancing == "none":
        return found
    return reweighted(found, trained_bias(routing, experts, moe_layers, seed).bias)


def trained_bias(routing: Routing, experts: Experts, moe_layers: int, seed: int) -> Balanced:
    """Return the bias after training on all tasks of the statistics in equal parts, or on the broad corpus."""
    corpus = routing.model_copy(update={"mix": routing.mix if routing.mix == BROAD else MIXED})
    return _bias(corpus, experts, moe_layers, seed)


@lru_cache(maxsize=4)
def _bias(routing: Routing, experts: Experts, moe_layers: int, seed: int) -> Balanced:
    found = _popularity_of(routing, experts, moe_layers, seed, "popularity")
    return bias_balanced(found, routing.bias_update_speed, routing.bias_steps)


def _force_balanced(group: Group) -> Floats | NDArray[np.int64]:
    """Give every expert the same tokens, fractions included; whole tokens only where there are fewer than experts."""
    experts, routes = group.experts, group.tokens * group.experts.top_k
    if routes < experts.routed_experts:
        return balanced_counts(group.tokens, group.moe_layers, experts.routed_experts, experts.top_k, group.batches)
    return np.full((group.batches, group.moe_layers, experts.routed_experts), routes / experts.routed_experts)


def _popularity_of(routing: Routing, experts: Experts, moe_layers: int, seed: int, stream: str) -> Popularity:
    statistics = load_statistics(statistics_file(routing.statistics))
    known = (MIXED, BROAD, *statistics.task_sigma)
    if routing.mix not in known:
        hint = did_you_mean(routing.mix, known)
        raise UserError(f"routing.mix = '{routing.mix}': unknown{hint}; use one of {', '.join(known)}")
    if routing.mix == BROAD:
        statistics = broad(statistics)
    strength = 0.0 if routing.kind == "uniform" else routing.strength
    return _popularity(statistics.model_dump_json(), experts, moe_layers, routing.mix, strength, seed, stream)


@lru_cache(maxsize=8)
def _popularity(
    statistics: str, experts: Experts, moe_layers: int, mix: str, strength: float, seed: int, stream: str
) -> Popularity:
    return popularity(
        RoutingStatistics.model_validate_json(statistics),
        moe_layers,
        experts.routed_experts,
        experts.top_k,
        np.random.default_rng([seed, *stream.encode()]),
        mix=mix,
        strength=strength,
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )
