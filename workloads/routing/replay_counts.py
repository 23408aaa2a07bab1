"""Batches made of recorded counts, where each token's experts were not kept."""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace

_MOST_DRAWN = 500_000_000  # routes that numpy draws from without replacement; from more, it makes no difference


def resample_counts(
    trace: CountTrace, tokens: int, top_k: int, batches: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return ``[batches, layers, experts]`` tokens per expert of batches made of recorded steps.

    Steps come in random order, each once before any comes again. A batch takes as many as it needs and, of what they
    hold, as many routes as it has, drawn without replacement, so that small batches are as uneven as small ones are. If
    the whole recording holds fewer, its counts are scaled up.

    Parameters
    ----------
    tokens, top_k
        Tokens of one batch, and experts per token; a batch has tokens x top_k routes in every layer.
    batches
        How many batches to make.
    rng
        Source of randomness.

    Raises
    ------
    WorkloadError
        If tokens, top_k or batches are less than 1, a layer of a batch would have no route, or an expert was counted
        more often than tokens that use top_k different experts can.
    """
    if min(tokens, top_k, batches) < 1:
        raise WorkloadError(f"routing: tokens {tokens}, top-k {top_k}, batches {batches}: each must be at least 1")
    wanted = tokens * top_k
    counts = trace.counts.astype(np.int64)
    per_step = counts.sum(axis=2).mean()
    steps = min(trace.steps, int(np.ceil(wanted / per_step)))
    rounds = -(-batches * steps // trace.steps)
    order = np.concatenate([rng.permutation(trace.steps) for _ in range(rounds)])[: batches * steps]
    held = counts[order.reshape(batches, steps)].sum(axis=1)
    if not held.any(axis=2).all():
        batch, layer = np.argwhere(~held.any(axis=2))[0]
        raise WorkloadError(f"trace: layer {layer}: no token in the steps of batch {batch}; record longer steps")
    often = held.max(axis=2) * top_k > held.sum(axis=2)
    if often.any():
        layer = int(np.argwhere(often)[0][1])
        raise WorkloadError(
            f"trace: layer {layer}: an expert has more than one of {top_k} routes; top-k is less, or wrong"
        )
    return np.stack([[_drawn(row, tokens, top_k, rng) for row in layers] for layers in held])


def _drawn(row: NDArray[np.int64], tokens: int, top_k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return tokens x top_k of a layer's routes ``[experts]``, at most one per token and expert."""
    total, wanted = int(row.sum()), tokens * top_k
    if total <= wanted:
        return row.astype(np.float64) * (wanted / total)
    found: NDArray[np.float64]
    if total > _MOST_DRAWN:
        found = rng.multinomial(wanted, row / total).astype(np.float64)
    else:
        found = rng.multivariate_hypergeometric(row, wanted, method="marginals").astype(np.float64)
    while found.max() > tokens:  # drawn route by route, so a few may fall on one token
        free = np.where(found < tokens, row, 0)
        excess = np.maximum(found - tokens, 0).sum()
        found = np.minimum(found, tokens) + excess * free / free.sum()
    return found
