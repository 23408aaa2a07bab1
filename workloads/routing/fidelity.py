"""What sampled routing has to reproduce, measured alike on recorded and sampled tokens."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.routing.measures import (
    batch_load,
    busiest_over_mean,
    cross_layer_share,
    entropy,
    rank_load,
    temporal_share,
)
from workloads.routing.preferences import preferences
from workloads.routing.sample import sample_tokens
from workloads.routing.spec import RoutingStatistics
from workloads.routing.trace import Trace

BATCHES = (256, 1024, 4096)
RANKS = (8, 16, 32)
NODES = 4
_ORDERS = 4  # of the sequences, over which batches are averaged


def recorded_measures(trace: Trace, rng: np.random.Generator | None = None) -> dict[str, float]:
    """Return the measures of a trace by name, averaged over layers and batches.

    ``max_over_mean_N`` and ``epR_imbalance_N`` are the busiest expert, and the busiest of R ranks that hold the experts
    in order, over the mean in batches of N tokens; ``entropy`` that of the whole trace's load over an even one's;
    ``temporal_share``, ``cross_layer_share`` as in `workloads.routing.measures`; ``nodes_per_token`` how many of
    `NODES` nodes with experts in order a token needs. Measures that the trace is too small for are left out.

    Parameters
    ----------
    trace
        Recorded or sampled routing. Batches are runs of whole sequences in random order, cut at N tokens.
    rng
        Source of the orders.
    """
    rng = rng or np.random.default_rng(0)
    ranks = [number for number in RANKS if trace.routed_experts % number == 0]
    found: dict[str, float] = {"tokens": trace.tokens, "sequences": trace.seq_lens.size}
    orders = [shuffled(trace, rng) for _ in range(_ORDERS)]
    sizes = [tokens for tokens in BATCHES if tokens <= trace.tokens]
    load = {tokens: np.concatenate([batch_load(order, tokens) for order in orders]) for tokens in sizes}
    found |= {f"max_over_mean_{tokens}": float(busiest_over_mean(each).mean()) for tokens, each in load.items()}
    for number in ranks:
        found |= {
            f"ep{number}_imbalance_{tokens}": float(busiest_over_mean(rank_load(each, number)).mean())
            for tokens, each in load.items()
        }
    found["entropy"] = float(entropy(batch_load(trace, trace.tokens)).mean())
    found["temporal_share"] = float(temporal_share(trace).mean())
    if trace.moe_layers > 1:
        found["cross_layer_share"] = float(cross_layer_share(trace)[0].mean())
    found["nodes_per_token"] = float(nodes_per_token(trace, NODES).mean())
    return {name: round(value, 4) for name, value in found.items() if not np.isnan(value)}


def load_measures(load: NDArray[Any]) -> dict[str, float]:
    """Return those of the measures that tokens per expert tell, of all tokens together (``_whole``), by name.

    Parameters
    ----------
    load
        ``[..., layers, experts]`` tokens per expert; averaged over all but the last axis.
    """
    ranks = [number for number in RANKS if load.shape[-1] % number == 0]
    found = {"max_over_mean_whole": float(busiest_over_mean(load).mean())}
    found |= {
        f"ep{number}_imbalance_whole": float(busiest_over_mean(rank_load(load, number)).mean()) for number in ranks
    }
    found["entropy"] = float(entropy(load).mean())
    return {name: round(value, 4) for name, value in found.items()}


def samples(statistics: RoutingStatistics, task: str, shape: Trace, models: int = 1, seed: int = 0) -> Iterator[Trace]:
    """Yield samples of one task in the shape of a trace, each of a model of its own.

    Parameters
    ----------
    statistics
        Fitted statistics.
    task
        One of theirs.
    shape
        Trace whose layers, experts, top-k and sequence lengths the samples have.
    models
        How many.
    seed
        Random seed.
    """
    rng = np.random.default_rng(seed)
    for _ in range(models):
        model = preferences(statistics, shape.moe_layers, shape.routed_experts, shape.top_k, rng, mix=task)
        drawn = sample_tokens(model, shape.seq_lens.astype(np.int64), rng)
        yield Trace(drawn, shape.seq_lens, shape.routed_experts, statistics.model)


def nodes_per_token(trace: Trace, nodes: int) -> NDArray[np.float64]:
    """Return ``[layers]`` how many of `nodes` with equal shares of the experts in order a token needs, on average."""
    per_node = -(-trace.routed_experts // nodes)
    node = np.sort(trace.experts // per_node, axis=-1)
    return np.asarray(1.0 + (np.diff(node, axis=-1) != 0).sum(axis=-1).mean(axis=0))


def beginning(trace: Trace, tokens: int) -> Trace:
    """Return the first whole sequences with at most so many tokens, but at least two."""
    sequences = max(2, int(np.searchsorted(np.cumsum(trace.seq_lens), tokens, side="right")))
    return chosen(trace, np.arange(min(sequences, trace.seq_lens.size)))


def shuffled(trace: Trace, rng: np.random.Generator) -> Trace:
    """Return the trace with its sequences in random order."""
    return chosen(trace, rng.permutation(trace.seq_lens.size))


def chosen(trace: Trace, sequences: NDArray[np.int64]) -> Trace:
    """Return some of the trace's sequences, in the order given."""
    starts = np.cumsum(trace.seq_lens) - trace.seq_lens
    lens = trace.seq_lens[sequences].astype(np.int64)
    within = np.arange(lens.sum()) - np.repeat(np.cumsum(lens) - lens, lens)
    rows = np.repeat(starts[sequences], lens) + within
    about = (trace.routed_experts, trace.model, trace.phase, trace.source, trace.licence)
    return Trace(trace.experts[rows], lens.astype(np.int32), *about)
