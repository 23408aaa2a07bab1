"""The indexer of sparse attention: queries and keys of its own score every entry, the best are taken."""

from dataclasses import replace

import numpy as np

from workloads.models.specs import ModelSpec, SparseLayers
from workloads.operators.kernels import elementwise, gemm
from workloads.operators.layer_kinds import LayerKind, indexed_entries, indexer_pairs, layer_kinds
from workloads.operators.records import BYTES, Amount, Operator, Phase, Precision

SCORE_BYTES = 4.0  # FP32, written by the scores and read by the selection


def indexer_operators(
    model: ModelSpec, tokens: Amount, context: Amount, sequences: Amount, phase: Phase, precision: Precision
) -> list[Operator]:
    """Return projections, scores and selection of one layer's indexer on one rank, the mean over the layers.

    It is not split over TP ranks: all of them need the same selection.

    Source: deepseek-ai/DeepSeek-V3.2-Exp:inference/model.py (indexer), deepseek-ai/DeepGEMM:README.md (MQA scores).
    """
    found: list[Operator] = []
    for kind in layer_kinds(model):
        if kind.sparse is not None and kind.sparse.indexer_heads:
            found += _of_kind(model, kind, kind.sparse, tokens, context, sequences, phase, precision)
    return found


def _of_kind(
    model: ModelSpec,
    kind: LayerKind,
    part: SparseLayers,
    tokens: Amount,
    context: Amount,
    sequences: Amount,
    phase: Phase,
    precision: Precision,
) -> list[Operator]:
    width = part.indexer_heads * part.indexer_dim
    queries = tokens / np.where(np.asarray(sequences) > 0, sequences, 1.0)
    pairs = sequences * indexer_pairs(kind, queries, context)
    keys = sequences * indexed_entries(kind, context) * part.indexer_dim * BYTES[precision.gemm]
    passes = 3.0 if phase == "training_backward" else 1.0
    scores = Operator(
        "indexer_scores",
        "gemm",
        precision.gemm,
        passes * 2.0 * width * pairs,
        0.0,
        passes * (keys + SCORE_BYTES * pairs),
        tokens,
    )
    each = [
        gemm("indexer_queries", tokens, model.attention.q_lora_rank or model.hidden, width, precision, phase),
        gemm("indexer_keys", tokens, model.hidden, part.indexer_dim + part.indexer_heads, precision, phase),
        scores,
        elementwise("indexer_top_k", SCORE_BYTES * pairs, tokens, phase),
    ]
    return [_scaled(operator, kind.share) for operator in each]


def _scaled(operator: Operator, share: float) -> Operator:
    """Return an operator that only a share of the layers has, as the mean layer's."""
    return replace(
        operator,
        flop=share * np.asarray(operator.flop),
        weight_bytes=share * np.asarray(operator.weight_bytes),
        activation_bytes=share * np.asarray(operator.activation_bytes),
        launches=share * operator.launches,
    )
