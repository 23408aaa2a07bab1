"""How uneven and how predictable recorded routing is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.routing.trace import Trace

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_LEAST_TOKENS, _MOST_TOKENS = 16_384, 65_536  # of guesses across layers, which are dear
_MOST_CELLS = 1 << 28  # tokens x layers x experts that they may look at
_CHUNK = 2_048  # tokens scored at once


def batch_load(trace: Trace, tokens: int) -> Counts:
    """Return ``[batches, layers, experts]`` tokens per expert of consecutive batches, without a last one that is short.

    Parameters
    ----------
    tokens
        Tokens of a batch; batches run across the borders of sequences.
    """
    batches, experts = trace.tokens // tokens, trace.routed_experts
    batch = np.repeat(np.arange(batches) * experts, tokens * trace.top_k)
    out = np.empty((batches, trace.moe_layers, experts), dtype=np.int64)
    for layer in range(trace.moe_layers):  # bounds memory
        ids = trace.experts[: batches * tokens, layer].ravel()
        out[:, layer] = np.bincount(batch + ids, minlength=batches * experts).reshape(batches, experts)
    return out


def busiest_over_mean(load: NDArray[Any]) -> Floats:
    """Return the greatest of the last axis over its mean; NaN where there is no load."""
    mean = load.mean(axis=-1)
    ratio: Floats = np.divide(load.max(axis=-1), mean, out=np.full(mean.shape, np.nan), where=mean > 0)
    return ratio


def rank_load(load: NDArray[Any], ranks: int) -> NDArray[Any]:
    """Return ``[..., ranks]`` the load of ranks that hold equal shares of the experts in order.

    Parameters
    ----------
    load
        ``[..., experts]``, experts a multiple of `ranks`.
    """
    total: NDArray[Any] = load.reshape(*load.shape[:-1], ranks, -1).sum(axis=-1)
    return total


def entropy(load: NDArray[Any]) -> Floats:
    """Return the entropy of the last axis as a fraction of an even load's; NaN where there is no load."""
    total = load.sum(axis=-1, keepdims=True)
    share = np.divide(load, total, out=np.full(load.shape, np.nan), where=total > 0)
    terms = share * np.log(np.where(share > 0, share, 1.0))
    result: Floats = -terms.sum(axis=-1) / np.log(max(2, load.shape[-1]))
    return result


def temporal_share(trace: Trace) -> Floats:
    """Return ``[layers]`` the share of a token's experts that the token before it in its sequence used too.

    NaN if no sequence has two tokens. By chance it is top_k / experts.
    """
    sequence = np.repeat(np.arange(trace.seq_lens.size), trace.seq_lens)
    follows = np.diff(sequence) == 0
    if not follows.any():
        return np.full(trace.moe_layers, np.nan)
    used = np.zeros(trace.moe_layers)
    for start in range(0, trace.tokens - 1, _CHUNK):  # bounds memory
        ids = trace.experts[start : start + _CHUNK + 1].astype(np.int64)
        again = np.take_along_axis(_member(ids[:-1], trace.routed_experts), ids[1:], axis=2)
        used += again[follows[start : start + _CHUNK]].sum(axis=(0, 2))
    share: Floats = used / (follows.sum() * trace.top_k)
    return share


def _member(ids: Counts, experts: int) -> NDArray[np.bool_]:
    """Return ``[..., experts]`` whether an expert is among ids ``[..., top_k]``."""
    member = np.zeros((*ids.shape[:-1], experts), dtype=bool)
    np.put_along_axis(member, ids, True, axis=-1)
    return member


def cross_layer_share(trace: Trace) -> tuple[Floats, Floats]:
    """Return ``[layers - 1]`` the share of the next layer's experts guessed right from this one's, and from popularity.

    The guess takes the top_k most likely experts by a naive Bayes rule over pair counts. Even sequences learn what odd
    ones are judged on, and the other way round. NaN if there is only one sequence.
    """
    sequence = np.repeat(np.arange(trace.seq_lens.size), trace.seq_lens)
    seen = (
        sequence // 2 % -(-trace.tokens // _MOST_TOKENS) == 0
    )  # of a long trace, pairs of sequences at even distances
    odd = sequence[seen] % 2 == 1
    if not odd.any():
        return np.full(trace.moe_layers - 1, np.nan), np.full(trace.moe_layers - 1, np.nan)
    ids = trace.experts[seen].astype(np.int64)
    hits = np.zeros((2, trace.moe_layers - 1))
    for layer in range(trace.moe_layers - 1):
        for learn in (odd, ~odd):
            hits[:, layer] += _guessed(ids[:, layer], ids[:, layer + 1], learn, trace.routed_experts)
    hits /= ids.shape[0] * trace.top_k
    return hits[0], hits[1]


def _guessed(here: Counts, after: Counts, learn: NDArray[np.bool_], experts: int) -> tuple[int, int]:
    """Count the right guesses among the tokens not learnt from, by this layer's experts and by popularity."""
    top_k = here.shape[1]
    pairs = (here[learn][:, :, None] * experts + after[learn][:, None, :]).ravel()
    pair = np.bincount(pairs, minlength=experts**2).reshape(experts, experts)
    popular = np.bincount(after[learn].ravel(), minlength=experts)
    odds = (np.log(pair + 0.5) - (1 - 1 / top_k) * np.log(popular + 0.5)).astype(np.float32)
    right = 0
    judged, truth = here[~learn], after[~learn]
    for start in range(0, len(judged), _CHUNK):
        rows = judged[start : start + _CHUNK]
        score = _member(rows, experts).astype(np.float32) @ odds
        guess = np.argpartition(-score, top_k - 1, axis=1)[:, :top_k]
        right += int(np.take_along_axis(_member(guess, experts), truth[start : start + _CHUNK], axis=1).sum())
    favourites = np.argpartition(-popular, top_k - 1)[:top_k]
    return right, int(np.isin(truth, favourites).sum())


def drift(load: NDArray[Any]) -> Floats:
    """Return ``[steps - 1]`` the share of load that sits on other experts 1, 2, ... steps later, averaged over layers.

    0 is a load that stays, 1 one that moves altogether; sampling noise counts as movement.

    Parameters
    ----------
    load
        ``[steps, layers, experts]``; steps of a layer without load are left out.
    """
    total = load.sum(axis=-1, keepdims=True)
    share = np.divide(load, total, out=np.full(load.shape, np.nan), where=total > 0)
    return np.array([np.nanmean(np.abs(share[lag:] - share[:-lag]).sum(axis=-1)) / 2 for lag in range(1, len(load))])


def uniform_busiest(tokens: int, experts: int, top_k: int, rng: np.random.Generator) -> float:
    """Return the busiest expert over the mean for a batch of tokens that draw their experts evenly."""
    drawn = rng.random((16, tokens, experts), dtype=np.float32) if tokens * experts <= 1 << 16 else None
    if drawn is None:
        drawn = rng.random((1, tokens, experts), dtype=np.float32)
    chosen = np.argpartition(drawn, top_k - 1, axis=-1)[..., :top_k].reshape(len(drawn), -1)
    key = chosen + experts * np.arange(len(drawn))[:, None]
    load = np.bincount(key.ravel(), minlength=len(drawn) * experts).reshape(-1, experts)
    return float(busiest_over_mean(load).mean())
