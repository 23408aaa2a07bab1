"""Model FLOPs per token (for MFU) and KV-cache bytes."""

import numpy as np

from workloads.models.specs import ModelSpec
from workloads.operators.attention import kv_values_per_token, query_key_pairs
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
    windows = [(None, model.layers - a.window_layers), (a.window, a.window_layers)]
    pairs = sum(layers * _pairs_per_token(context, window, causal) for window, layers in windows)
    core = 2.0 * a.heads * (a.head_dim + a.v_dim) * pairs
    return (3.0 if training else 1.0) * (2.0 * _matmul_parameters(model) + core)


def kv_bytes_per_token(model: ModelSpec, dtype_bytes: float) -> float:
    """Return the KV-cache bytes of one token over all layers (sliding-window layers not yet full).

    Source: DeepSeek-V3 70,272 and Llama-3.1-405B 516,096 bytes in BF16, arXiv:2505.09343 table 1.
    """
    return model.layers * kv_values_per_token(model) * dtype_bytes


def kv_bytes_per_sequence(model: ModelSpec, context: Amount, dtype_bytes: float) -> Array:
    """Return the KV-cache bytes of a sequence of `context` tokens, windowed layers keeping their window only."""
    a = model.attention
    kept = np.minimum(context, a.window or np.inf)
    tokens = (model.layers - a.window_layers) * np.asarray(context, dtype=np.float64) + a.window_layers * kept
    total: Array = tokens * kv_values_per_token(model) * dtype_bytes
    return total


def _pairs_per_token(context: float, window: int | None, causal: bool) -> float:
    if causal:
        return float(query_key_pairs(context, context, window)) / context
    return min(context, window or np.inf)


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
