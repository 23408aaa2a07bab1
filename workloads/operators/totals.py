"""Model FLOPs per token (for MFU) and KV-cache bytes."""

from collections.abc import Callable

from workloads.models.specs import ModelSpec
from workloads.operators.attention import kv_values_per_token
from workloads.operators.layer_kinds import (
    LayerKind,
    attended_pairs,
    indexed_entries,
    indexer_pairs,
    indexer_values,
    kept_entries,
    mean_layer,
)
from workloads.operators.records import Amount, Array


def model_flop_per_token(model: ModelSpec, context: float, training: bool, causal: bool = True) -> float:
    """Return the FLOPs one token needs, recomputation, MTP and quantisation left out.

    Parameters
    ----------
    context
        Sequence length [tokens].
    training
        Forward and backward (three times the forward) instead of forward alone.
    causal
        True counts the pairs that the causal mask keeps, (context + 1) / 2 a token; False counts `context` pairs a
        token: the older convention in training, and the true count for a decode step at that position.

    Source: arXiv:2204.02311 appendix B. Check: DeepSeek-V3 at 4,096 tokens, 385 (causal) and 432 (non-causal)
    TFLOP/s per GPU at 272.8 B tokens a day on 2,048 GPUs, arXiv:2505.09343 table 4: 249.7 and 280.2 GFLOP a token.
    """
    a = model.attention
    widths = 2 * a.kv_lora_rank + a.qk_rope_dim if a.kind == "mla" and a.sparse else a.head_dim + a.v_dim
    core = 2.0 * a.heads * widths * model.layers * float(mean_layer(model, _per_token(attended_pairs, context, causal)))
    core += _indexer_flop(model, context, causal)
    return (3.0 if training else 1.0) * (2.0 * _matmul_parameters(model) + core)


def kv_bytes_per_token(model: ModelSpec, dtype_bytes: float) -> float:
    """Return the KV-cache bytes of one token over all layers (sliding-window layers not yet full).

    Source: DeepSeek-V3 70,272 and Llama-3.1-405B 516,096 bytes in BF16, arXiv:2505.09343 table 1.
    """
    return model.layers * kv_values_per_token(model) * dtype_bytes


def kv_bytes_per_sequence(model: ModelSpec, context: Amount, dtype_bytes: float) -> Array:
    """Return the KV-cache bytes of a sequence of `context` tokens.

    Windowed layers keep their window only, sparse ones their entries, the window beside them and the indexer's keys.
    """
    entries = kv_values_per_token(model) * mean_layer(model, lambda kind: kept_entries(kind, context))
    index = mean_layer(model, lambda kind: indexer_values(kind) * indexed_entries(kind, context))
    total: Array = model.layers * (entries + index) * dtype_bytes
    return total


def _indexer_flop(model: ModelSpec, context: float, causal: bool) -> float:
    pairs = _per_token(indexer_pairs, context, causal)

    def of_kind(kind: LayerKind) -> Array:
        heads = kind.sparse.indexer_heads if kind.sparse else 0
        return 2.0 * heads * indexer_values(kind) * pairs(kind)

    return model.layers * float(mean_layer(model, of_kind))


def _per_token(
    pairs: Callable[[LayerKind, Amount, Amount], Array], context: float, causal: bool
) -> Callable[[LayerKind], Array]:
    """Return pairs per token of a kind of layer: the causal mean, or those of the last token."""
    if causal:
        return lambda kind: pairs(kind, context, context) / context
    return lambda kind: pairs(kind, 1.0, context)


def _matmul_parameters(model: ModelSpec) -> float:
    """Count the weights that one token is multiplied by, LM head included, embedding look-up not."""
    experts = model.experts
    dense = model.ffn_matrices * model.hidden * model.dense_ffn
    total = model.layers * _attention_parameters(model) + model.hidden * model.vocab
    if experts is None:
        return total + model.layers * dense
    width = experts.top_k * experts.expert_ffn + experts.shared_ffn
    moe = model.hidden * (model.ffn_matrices * width + experts.routed_experts)
    return total + model.dense_layers * dense + model.moe_layers * moe


def _attention_parameters(model: ModelSpec) -> float:
    a = model.attention
    q_width, v_width = a.heads * a.head_dim, a.heads * a.v_dim
    query = a.q_lora_rank * (model.hidden + q_width) if a.q_lora_rank else model.hidden * q_width
    if a.kind == "mla":
        expand = a.kv_lora_rank * a.heads * (a.qk_nope_dim + a.v_dim)
        keys = model.hidden * (a.kv_lora_rank + a.qk_rope_dim) + expand
    else:
        keys = model.hidden * a.kv_heads * (a.head_dim + a.v_dim)
    if a.output_rank:
        output = a.output_rank * (v_width + max(a.output_groups, 1) * model.hidden)
    else:
        output = v_width * model.hidden
    return float(query + keys + output)
