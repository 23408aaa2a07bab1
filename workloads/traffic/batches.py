"""Batches in which every rank serves sequences of its own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.trace import Trace

Rows = NDArray[np.int64]


def own_sequences(
    trace: Trace, ranks: int, tokens_per_rank: int, run_tokens: int, batches: int, rng: np.random.Generator
) -> Rows:
    """Draw the tokens of every rank: runs of neighbouring tokens, each run from a sequence of the trace.

    No sequence comes again in a batch before all have been used; where a sequence is shorter than the run, the whole
    of it is taken and another one follows. Tokens are never shuffled, so a rank's topics are those of few sequences.

    Parameters
    ----------
    trace
        Recorded routing.
    ranks, tokens_per_rank
        Ranks with sequences of their own, and the tokens of each in one batch.
    run_tokens
        Tokens of a sequence in one batch: all that are prefilled or trained on, 1 in decode without drafts.
    batches
        How many batches to draw.

    Returns
    -------
    ``[batches, ranks, tokens_per_rank]`` rows of `trace.experts`.

    Raises
    ------
    WorkloadError
        If a number is less than 1.
    """
    if min(ranks, tokens_per_rank, run_tokens, batches) < 1:
        raise WorkloadError(
            f"routing: ranks {ranks}, tokens per rank {tokens_per_rank}, tokens per sequence {run_tokens}, batches "
            f"{batches}: each must be at least 1"
        )
    lengths = trace.seq_lens.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    taken = np.minimum(lengths, run_tokens)
    drawn = np.empty((batches, ranks, tokens_per_rank), dtype=np.int64)
    for batch in range(batches):
        order = _Order(lengths.size, rng)
        for rank in range(ranks):
            parts, missing = [], tokens_per_rank
            while missing > 0:
                # enough sequences for what is missing, were they of mean length
                some = order.take(-(-missing * lengths.size // int(taken.sum())))
                offset = rng.integers(0, lengths[some] - taken[some] + 1)
                rows = _runs(starts[some] + offset, taken[some])[:missing]
                parts.append(rows)
                missing -= rows.size
            drawn[batch, rank] = np.concatenate(parts)
    return drawn


def held_out(trace: Trace, share: float, in_time: bool) -> tuple[Trace, Trace]:
    """Split a trace by whole sequences into one to place experts by and one to serve.

    Parameters
    ----------
    share
        Share of the tokens that are served, between 0 and 1.
    in_time
        Serve the last sequences, so that drift counts; otherwise every so many.

    Raises
    ------
    WorkloadError
        If either would be empty.
    """
    lengths = trace.seq_lens.astype(np.int64)
    if in_time:
        served = np.cumsum(lengths) - lengths / 2 > (1 - share) * trace.tokens
    else:
        served = np.diff(np.floor((np.arange(lengths.size) + 1) * share + 1e-9), prepend=0.0) > 0
    if served.all() or not served.any():
        raise WorkloadError(
            f"trace: to hold out {share:g} of {lengths.size} sequences leaves none to place experts by or none to "
            "serve; record more sequences, or change the share"
        )
    rows = np.repeat(served, lengths)
    first, second = (
        Trace(trace.experts[chosen], trace.seq_lens[of], trace.routed_experts, trace.model, trace.phase)
        for chosen, of in ((~rows, ~served), (rows, served))
    )
    return first, second


def tokens_per_expert(ids: NDArray[np.integer[Any]], experts: int) -> Rows:
    """Return ``[layers, experts]`` tokens that use each expert, of ids ``[tokens, layers, top_k]``."""
    return np.stack([np.bincount(ids[:, layer].ravel(), minlength=experts) for layer in range(ids.shape[1])])


class _Order:
    """Sequences in random order, again and again."""

    def __init__(self, sequences: int, rng: np.random.Generator) -> None:
        self.rng, self.sequences = rng, sequences
        self.left = rng.permutation(sequences)

    def take(self, number: int) -> Rows:
        while self.left.size < number:
            self.left = np.concatenate([self.left, self.rng.permutation(self.sequences)])
        some, self.left = self.left[:number], self.left[number:]
        return some


def _runs(first: Rows, length: Rows) -> Rows:
    """Return ``first[0], first[0] + 1, ...`` for each run, one after another."""
    ends = np.cumsum(length)
    return np.asarray(np.arange(ends[-1]) + np.repeat(first - (ends - length), length))
