"""Which keys a layer's queries see: all, a window, or a selection of (compressed) entries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workloads.models.specs import ModelSpec, SparseLayers
from workloads.operators.records import Amount, Array


@dataclass(frozen=True)
class LayerKind:
    """Layers that see the same keys.

    Parameters
    ----------
    share
        Of the model's layers.
    window
        Tokens that a sliding-window layer looks back; None: all.
    sparse
        How a sparse layer chooses; None in other layers.
    """

    share: float
    window: int | None = None
    sparse: SparseLayers | None = None


def layer_kinds(model: ModelSpec) -> tuple[LayerKind, ...]:
    """Return the kinds of a model's layers; of a model cut in depth, in the proportions of its special layers."""
    a = model.attention
    special = [LayerKind(part.layers, None, part) for part in a.sparse]
    if a.window and a.window_layers:
        special.append(LayerKind(a.window_layers, a.window))
    named = sum(kind.share for kind in special)
    total = max(float(model.layers), named)
    full = [LayerKind(1.0 - named / total)] if named < total else []
    return (*full, *(LayerKind(kind.share / total, kind.window, kind.sparse) for kind in special))


def mean_layer(model: ModelSpec, of_kind: Callable[[LayerKind], Array]) -> Array:
    """Return the mean of a quantity over layers: sums over layers are exact, one layer is the mean one."""
    kinds = layer_kinds(model)
    return kinds[0].share * of_kind(kinds[0]) + sum(
        (kind.share * of_kind(kind) for kind in kinds[1:]), start=np.zeros(())
    )


def query_key_pairs(queries: Amount, context: Amount, window: float | None = None) -> Array:
    """Count the causal (query, key) pairs of the last `queries` tokens of a sequence of `context` tokens.

    With a window each query sees at most `window` keys, itself included.
    """
    queries, context = np.asarray(queries, dtype=np.float64), np.asarray(context, dtype=np.float64)

    def up_to(tokens: Array) -> Array:
        short = tokens if window is None else np.minimum(tokens, window)
        return short * (short + 1.0) / 2.0 + (tokens - short) * short

    return up_to(context) - up_to(context - queries)


def attended_pairs(kind: LayerKind, queries: Amount, context: Amount) -> Array:
    """Count the (query, entry) pairs that attention computes; blocks that are not full count by their share.

    A sparse layer's query at position p sees min(p / m, k) of the entries that m tokens each are compressed to, and the
    last tokens themselves (arXiv:2606.19348 section 2.3; with m = 1 the selection of DeepSeek-V3.2).
    """
    part = kind.sparse
    if part is None:
        return query_key_pairs(queries, context, kind.window)
    reach = part.selected * part.compression if part.selected else None
    pairs = query_key_pairs(queries, context, reach) / part.compression
    return pairs + query_key_pairs(queries, context, part.window) if part.window else pairs


def kept_entries(kind: LayerKind, context: Amount) -> Array:
    """Return the entries that a layer keeps of a sequence of `context` tokens."""
    context = np.asarray(context, dtype=np.float64)
    if kind.sparse is None:
        return np.minimum(context, kind.window or np.inf)
    return context / kind.sparse.compression + np.minimum(context, kind.sparse.window)


def read_entries(kind: LayerKind, queries: Amount, context: Amount) -> Array:
    """Return the entries that the queries of a sequence read in decode: a selection is each query's own."""
    kept = kept_entries(kind, context)
    if kind.sparse is None:
        return kept
    return np.minimum(attended_pairs(kind, queries, context), kept)


def indexer_values(kind: LayerKind) -> float:
    """Return the values that the indexer keeps for each entry."""
    return float(kind.sparse.indexer_dim) if kind.sparse else 0.0


def indexed_entries(kind: LayerKind, context: Amount) -> Array:
    """Return the entries of a sequence of `context` tokens that an indexer has keys for."""
    part = kind.sparse
    tokens = np.asarray(context, dtype=np.float64)
    return tokens / part.compression if part and part.indexer_heads else 0.0 * tokens


def indexer_pairs(kind: LayerKind, queries: Amount, context: Amount) -> Array:
    """Count the (query, entry) pairs that the indexer scores: all entries so far, before any selection."""
    part = kind.sparse
    pairs = query_key_pairs(queries, context)
    return pairs / part.compression if part and part.indexer_heads else 0.0 * pairs
