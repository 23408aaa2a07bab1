"""A trace in figures: its shape, how uneven its load is, and what can be foreseen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.routing.counts import CountTrace
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
        Tokens of a batch (of a recorded step on average, if only counts were recorded).
    batches
        How many there are.
    expert_mean, expert_p5, expert_p95
        Busiest expert over mean: average, and 5th and 95th percentile.
    uniform
        The same average if every token drew its experts evenly; NaN if it is not known how many a token draws.
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


def summarise(trace: Trace | CountTrace) -> Summary:
    """Return the figures of a trace; those that need each token's experts are NaN where only counts were recorded."""
    if isinstance(trace, CountTrace):
        return _of_counts(trace)
    load = batch_load(trace, trace.tokens)[0]
    over_time = batch_load(trace, max(1, trace.tokens // _WINDOWS))
    cross, popular = cross_layer_share(trace)
    sizes = [size for size in BATCHES if size < trace.tokens]
    return Summary(
        load=load,
        over_time=over_time,
        skew=tuple(_skew(batch_load(trace, size), size, trace.top_k) for size in (*sizes, trace.tokens)),
        busiest=busiest_over_mean(load),
        entropy=entropy(load),
        temporal=temporal_share(trace),
        cross=cross,
        cross_popular=popular,
        drift=drift(over_time),
    )


def _of_counts(trace: CountTrace) -> Summary:
    counts = trace.counts.astype(np.int64)
    load = counts.sum(axis=0)
    steps = -(-trace.steps // _WINDOWS)  # in a window
    whole = trace.steps // steps * steps
    windows = counts[:whole].reshape(-1, steps, *load.shape).sum(axis=1) if trace.in_order else load[None]
    routes = load.sum(axis=1).mean()
    unknown = np.full(trace.moe_layers, np.nan)
    return Summary(
        load=load,
        over_time=windows,
        skew=tuple(
            _skew(part, round(routes / len(part) / max(1, trace.top_k)), trace.top_k)
            for part in ([counts, load[None]] if trace.steps > 1 else [counts])
        ),
        busiest=busiest_over_mean(load),
        entropy=entropy(load),
        temporal=unknown,
        cross=unknown[1:],
        cross_popular=unknown[1:],
        drift=drift(windows),
    )


def _skew(load: NDArray[np.int64], tokens: int, top_k: int) -> Skew:
    """Return the unevenness of loads ``[batches, layers, experts]`` of so many tokens; top_k 0 if not known."""
    experts = load.shape[2]
    expert = busiest_over_mean(load)
    p5, p95 = np.nanpercentile(expert, [5, 95])
    return Skew(
        tokens=tokens,
        batches=len(load),
        expert_mean=float(np.nanmean(expert)),
        expert_p5=float(p5),
        expert_p95=float(p95),
        uniform=_uniform(tokens, experts, top_k),
        entropy=float(np.nanmean(entropy(load))),
        ranks={
            ranks: float(np.nanmean(busiest_over_mean(rank_load(load, ranks))))
            for ranks in RANKS
            if experts % ranks == 0
        },
    )


def _uniform(tokens: int, experts: int, top_k: int) -> float:
    """Return the busiest expert over mean of even draws; what is above 1 falls with the root of many tokens."""
    if not top_k or not tokens:
        return float("nan")
    drawn = min(tokens, 4096)
    fair = uniform_busiest(drawn, experts, top_k, np.random.default_rng(tokens))
    return float(1 + (fair - 1) * (drawn / tokens) ** 0.5)
