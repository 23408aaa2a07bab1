"""Batches made of recorded sequences: tokens per expert, and copies per destination as they really were."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement import Placement
from workloads.routing.destinations import Copies
from workloads.routing.trace import Trace
from workloads.traffic.matrices import serving_ranks

Counts = NDArray[np.int64]


class Resample(NamedTuple):
    """Batches drawn from a trace: whole sequences, the last of each cut to the tokens that are left."""

    whole: Counts  # [batches, sequences] how often each sequence is in a batch whole
    cut_sequence: Counts  # [batches]
    cut_tokens: Counts  # [batches] first tokens of the cut sequence, 0 for none


def resample(trace: Trace, tokens: int, batches: int, rng: np.random.Generator) -> Resample:
    """Fill batches with the trace's sequences in random order, using each once before any comes again.

    Tokens are never shuffled: neighbours in a batch are neighbours in a text, as in a real one.

    Parameters
    ----------
    trace
        Recorded routing.
    tokens
        Tokens of one batch.
    batches
        How many batches to make.
    rng
        Source of randomness.

    Raises
    ------
    WorkloadError
        If tokens or batches are less than 1.
    """
    if min(tokens, batches) < 1:
        raise WorkloadError(f"routing: tokens {tokens}, batches {batches}: each must be at least 1")
    sequences = trace.seq_lens.size
    rounds, rest = divmod(tokens, trace.tokens)
    order = rng.permuted(np.tile(np.arange(sequences), (batches, 1)), axis=1)
    ends = np.cumsum(trace.seq_lens.astype(np.int64)[order], axis=1)
    position = (ends <= rest).sum(axis=1)  # sequences that fit whole; fewer than all, as rest < the trace's tokens
    whole = np.full((batches, sequences), rounds)
    np.put_along_axis(whole, order, rounds + (ends <= rest), axis=1)
    batch = np.arange(batches)
    before = np.where(position > 0, ends[batch, position - 1], 0)
    return Resample(whole, order[batch, position], rest - before)


def sequence_counts(trace: Trace) -> Counts:
    """Return ``[sequences, layers, experts]`` tokens per expert."""
    return _per_sequence(trace, trace.experts, trace.routed_experts)


def trace_counts(trace: Trace, drawn: Resample) -> Counts:
    """Return ``[batches, layers, experts]`` tokens per expert of resampled batches; they sum to tokens x top_k."""
    return _per_batch(trace, drawn, trace.experts, trace.routed_experts)


def trace_destinations(trace: Trace, drawn: Resample, placement: Placement, ranks_per_node: int) -> Copies:
    """Return the token copies that arrive at each rank and node in resampled batches, counted token by token.

    Parameters
    ----------
    trace
        Recorded routing.
    drawn
        Its batches.
    placement
        Where the experts are; a token uses the replicas of an expert in turn.
    ranks_per_node
        Consecutive ranks that form a node; the last node may be smaller.

    Raises
    ------
    WorkloadError
        If the placement is of another model.
    """
    if (len(placement.slot_expert), placement.experts) != (trace.moe_layers, trace.routed_experts):
        raise WorkloadError(
            f"placement: {len(placement.slot_expert)} layers x {placement.experts} experts: "
            f"the trace has {trace.moe_layers} x {trace.routed_experts}"
        )
    rank = serving_ranks(trace.experts, placement)
    nodes = -(-placement.ranks // ranks_per_node)
    to_rank = _per_batch(trace, drawn, rank, placement.ranks)
    to_node = _per_batch(trace, drawn, rank // ranks_per_node, nodes)
    return Copies(to_rank.astype(np.float64), to_node.astype(np.float64))


def _per_sequence(trace: Trace, places: NDArray[np.integer[Any]], bins: int) -> Counts:
    """Count tokens ``[sequences, layers, bins]``, each at most once per place."""
    sequence = np.repeat(np.arange(trace.seq_lens.size), trace.seq_lens)
    return _tally(places, sequence, trace.seq_lens.size, bins)


def _per_batch(trace: Trace, drawn: Resample, places: NDArray[np.integer[Any]], bins: int) -> Counts:
    each = _per_sequence(trace, places, bins)
    # a matrix product of floats is exact below 2^53, and far quicker than of integers
    total = np.tensordot(drawn.whole.astype(np.float64), each.astype(np.float64), 1).astype(np.int64)
    starts = np.cumsum(trace.seq_lens) - trace.seq_lens
    rows = np.concatenate(
        [
            np.arange(start, start + length)
            for start, length in zip(starts[drawn.cut_sequence], drawn.cut_tokens, strict=True)
        ]
    )
    batch = np.repeat(np.arange(len(total)), drawn.cut_tokens)
    total += _tally(places[rows], batch, len(total), bins)
    return total


def _tally(places: NDArray[np.integer[Any]], row: NDArray[np.integer[Any]], rows: int, bins: int) -> Counts:
    """Count ``[rows, layers, bins]`` from places ``[tokens, layers, k]``, a token at most once per place."""
    layers = places.shape[1]
    out = np.empty((rows, layers, bins), dtype=np.int64)
    for layer in range(layers):  # bounds memory
        ordered = np.sort(places[:, layer].astype(np.int64), axis=1)
        new = np.diff(ordered, axis=1, prepend=-1) != 0
        key = (ordered + row[:, None] * bins)[new]
        out[:, layer] = np.bincount(key, minlength=rows * bins).reshape(rows, bins)
    return out
