"""Tokens per expert, per slot and per rank, batch by batch."""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement import Placement
from workloads.routing.popularity import Popularity

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def sample_counts(model: Popularity, tokens: int, sequences: int, batches: int, rng: np.random.Generator) -> Counts:
    """Draw the tokens that each expert of an EP group receives in each batch.

    What sequences have in common is the same in every batch. What sets them apart averages over the sequences of a
    batch (a gamma variable with the right mean and variance: positive, and skewed when sequences are few), and the
    choice of tokens adds binomial noise: of fewer tokens than there are where neighbours repeat each other, so that
    counts vary as if `workloads.routing.sample` had drawn them token by token.

    Parameters
    ----------
    model
        Expected routing.
    tokens
        Tokens of the whole EP group in one batch (micro-batch or iteration).
    sequences
        Sequences that these tokens come from, at most `tokens`.
    batches
        How many batches to draw.
    rng
        Source of randomness.

    Returns
    -------
    ``[batches, layers, experts]``; sums to tokens x top_k over experts exactly, and no entry exceeds `tokens`.

    Raises
    ------
    WorkloadError
        If tokens, sequences or batches are less than 1, or there are more sequences than tokens.
    """
    if min(tokens, sequences, batches) < 1 or sequences > tokens:
        raise WorkloadError(
            f"routing: tokens {tokens}, sequences {sequences}, batches {batches}: each must be at least 1, "
            "and a sequence has at least one token"
        )
    tasks = len(model.tasks)
    of_task = rng.multinomial(sequences, np.full(tasks, 1 / tasks), size=batches) / sequences
    mean = np.tensordot(of_task, model.mean, 1)
    variance = np.tensordot(of_task / sequences, model.variance, 1)
    rate = mean
    if variance.any():
        mean = np.maximum(mean, 1e-100)  # a chance may be too small for a float
        variance = np.maximum(variance, 1e-30 * mean**2)
        rate = rng.standard_gamma(mean**2 / variance) * (variance / mean)
    alone = np.maximum(1, np.rint(tokens / _repetition(model.persistence, tokens / sequences)))[:, None]
    drawn = rng.binomial(alone.astype(np.int64), np.minimum(rate, 1)) * (tokens / alone)
    return _exact(_scaled(drawn, mean, tokens, tokens * model.top_k), tokens * model.top_k, rng)


def _repetition(persistence: Floats, run: float) -> Floats:
    """Return ``[layers]`` by how much the variance of counts grows when tokens come in runs that repeat themselves.

    Tokens n apart are alike with the chance persistence^n; a run is what a sequence has in the batch.
    """
    q = np.minimum(persistence, 0.999)
    return np.asarray(1 + 2 * q / (1 - q) - 2 * q * (1 - q**run) / (run * (1 - q) ** 2))


def _scaled(drawn: Floats, mean: Floats, cap: int, total: int) -> Floats:
    """Scale each layer of ``[batches, layers, experts]`` to sum to `total`, with no entry above `cap`."""
    summed = np.maximum(drawn.sum(axis=-1, keepdims=True), 1.0)
    scaled: Floats = np.minimum(drawn * (total / summed), cap)
    missing = total - scaled.sum(axis=-1)
    short = missing > 1e-3
    if not short.any():
        return scaled
    # a handful of tokens only: the experts at their cap pass the rest on, first to the popular, then to any with room
    x, likely, lacking = scaled[short], mean[short], missing[short][:, None]
    room = cap - x
    share = room * likely
    x = x + np.minimum(lacking * share / np.maximum(share.sum(axis=-1, keepdims=True), 1e-300), room)
    room = cap - x
    lacking = total - x.sum(axis=-1, keepdims=True)
    scaled[short] = x + lacking * room / np.maximum(room.sum(axis=-1, keepdims=True), 1e-300)
    return scaled


def _exact(scaled: Floats, total: int, rng: np.random.Generator) -> Counts:
    """Round to integers that sum to `total`, each up or down without bias.

    Source: systematic sampling, Madow 1949 (Ann. Math. Stat. 20, 333).
    """
    whole = np.floor(scaled)
    steps = np.cumsum(scaled - whole, axis=-1)
    rest = total - whole.sum(axis=-1, keepdims=True)
    # the fractions add up to the rest but for float rounding, which this removes
    steps *= np.divide(rest, steps[..., -1:], out=np.zeros_like(rest), where=steps[..., -1:] > 0)
    steps[..., -1:] = rest
    marks = np.floor(steps + rng.random(rest.shape))
    marks[..., -1:] = rest
    counts: Counts = whole.astype(np.int64)
    counts += np.diff(np.minimum(marks, rest), axis=-1, prepend=0).astype(np.int64)
    return counts


def balanced_counts(tokens: int, layers: int, experts: int, top_k: int, batches: int = 1) -> Counts:
    """Return ``[batches, layers, experts]`` force-balanced tokens per expert: they differ by at most 1.

    The experts that take one token more move on from layer to layer and from batch to batch.
    """
    base, extra = divmod(tokens * top_k, experts)
    turn = np.arange(batches)[:, None, None] + np.arange(layers)[:, None]
    counts: Counts = base + ((np.arange(experts) - turn * extra) % experts < extra).astype(np.int64)
    return counts


def capped(counts: NDArray[np.int64] | Floats, factor: float) -> Floats:
    """Return the tokens per expert that are not dropped where an expert takes `factor` times the mean at the most.

    Parameters
    ----------
    counts
        ``[batches, layers, experts]`` tokens per expert.
    factor
        Capacity factor; the capacity is rounded up to whole tokens.

    Source: GShard, arXiv:2006.16668 section 2.2; Switch Transformer, arXiv:2101.03961 equation 3.
    """
    return np.asarray(np.minimum(counts, np.ceil(factor * counts.mean(axis=-1, keepdims=True))), dtype=np.float64)


def slot_tokens(counts: NDArray[np.int64] | Floats, placement: Placement) -> Floats:
    """Return ``[batches, layers, ranks, slots]`` tokens per expert slot; replicas share an expert's tokens evenly.

    Parameters
    ----------
    counts
        ``[batches, layers, experts]`` tokens per expert.
    placement
        Where the experts are.
    """
    per_replica = np.pad(counts / placement.replicas, ((0, 0), (0, 0), (0, 1)))  # the last is for empty slots
    layers, ranks, slots = placement.slot_expert.shape
    index = placement.slot_expert.reshape(1, layers, ranks * slots)
    return np.take_along_axis(per_replica, index, axis=-1).reshape(-1, layers, ranks, slots)


def rank_tokens(counts: NDArray[np.int64] | Floats, placement: Placement) -> Floats:
    """Return ``[batches, layers, ranks]`` rows of the grouped GEMM of each rank: its slots' tokens together."""
    return np.asarray(slot_tokens(counts, placement).sum(axis=-1))
