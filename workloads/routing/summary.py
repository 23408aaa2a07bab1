"""A trace in figures: its shape, how uneven its load is, and what can be foreseen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.routing.measures import (
    batch_load,
    busiest_over_mean,
    cross_layer_share,
    drift,
    entropy,
    rank_load,
    temporal_share,
    uniform_busiest,
)
from workloads.routing.trace import Trace

BATCHES = (256, 1024, 4096)
RANKS = (8, 16, 32)
_WINDOWS = 32  # at least, that the load over time is shown in
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Skew:
    """Unevenness of batches of one size, over layers and consecutive batches.

    Parameters
    ----------
    tokens
        Tokens of a batch.
    batches
        How many there are.
    expert_mean, expert_p5, expert_p95
        Busiest expert over mean: average, and 5th and 95th percentile.
    uniform
        The same average if every token drew its experts evenly.
    entropy
        Of the experts' load over that of an even one.
    ranks
        EP size to the busiest rank over mean, experts held in order; sizes that divide the experts.
    """

    tokens: int
    batches: int
    expert_mean: float
    expert_p5: float
    expert_p95: float
    uniform: float
    entropy: float
    ranks: dict[int, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of a trace.

    Parameters
    ----------
    load
        ``[layers, experts]`` tokens per expert.
    over_time
        ``[windows, layers, experts]`` the same in consecutive equal windows.
    skew
        By batch size; the last one is the whole trace.
    busiest, entropy, temporal
        ``[layers]`` busiest expert over mean, entropy over an even load's, and share of a token's experts that the
        token before used too.
    cross, cross_popular
        ``[layers - 1]`` share of the next layer's experts guessed right from this layer's experts, and from popularity.
    drift
        ``[windows - 1]`` share of load on other experts that many windows later.
    """

    load: NDArray[np.int64]
    over_time: NDArray[np.int64]
    skew: tuple[Skew, ...]
    busiest: Floats
    entropy: Floats
    temporal: Floats
    cross: Floats
    cross_popular: Floats
    drift: Floats


def summarise(trace: Trace) -> Summary:
    """Return the figures of a trace."""
    load = batch_load(trace, trace.tokens)[0]
    over_time = batch_load(trace, max(1, trace.tokens // _WINDOWS))
    cross, popular = cross_layer_share(trace)
    sizes = [size for size in BATCHES if size < trace.tokens]
    return Summary(
        load=load,
        over_time=over_time,
        skew=tuple(_skew(trace, size) for size in (*sizes, trace.tokens)),
        busiest=busiest_over_mean(load),
        entropy=entropy(load),
        temporal=temporal_share(trace),
        cross=cross,
        cross_popular=popular,
        drift=drift(over_time),
    )


def _skew(trace: Trace, tokens: int) -> Skew:
    load = batch_load(trace, tokens)
    expert = busiest_over_mean(load)
    p5, p95 = np.percentile(expert, [5, 95])
    fair = uniform_busiest(min(tokens, 4096), trace.routed_experts, trace.top_k, np.random.default_rng(tokens))
    if tokens > 4096:  # what is above 1 is sampling noise, which falls with the root of the tokens
        fair = 1 + (fair - 1) * (4096 / tokens) ** 0.5
    return Skew(
        tokens=tokens,
        batches=len(load),
        expert_mean=float(expert.mean()),
        expert_p5=float(p5),
        expert_p95=float(p95),
        uniform=fair,
        entropy=float(entropy(load).mean()),
        ranks={
            ranks: float(busiest_over_mean(rank_load(load, ranks)).mean())
            for ranks in RANKS
            if trace.routed_experts % ranks == 0
        },
    )
