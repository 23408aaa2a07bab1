"""Operators of the attention block: MLA (expanded and absorbed), GQA, MHA, MQA, sliding window."""

import numpy as np

from workloads.models.specs import ModelSpec
from workloads.operators.indexer import indexer_operators
from workloads.operators.kernels import elementwise, gemm, norm, quantise, unquantised
from workloads.operators.layer_kinds import attended_pairs, kept_entries, mean_layer, read_entries
from workloads.operators.records import (
    ACTIVATION_BYTES,
    BF16,
    BYTES,
    Amount,
    Operator,
    OperatorClass,
    Operators,
    Phase,
    Precision,
    check_shares,
    stack,
)
from workloads.operators.unfused import unfused_core

_CORE: dict[Phase, OperatorClass] = {
    "training_forward": "attention_prefill",
    "training_backward": "attention_backward",
    "prefill": "attention_prefill",
    "decode": "attention_decode",
}


def attention_operators(
    model: ModelSpec,
    tokens: Amount,
    context: Amount,
    sequences: Amount,
    phase: Phase,
    precision: Precision = BF16,
    tp: int = 1,
    cp: int = 1,
    fused: bool = True,
) -> Operators:
    """Return the operators of one attention block on one rank, its norm included.

    Parameters
    ----------
    model
        Full, windowed and sparse layers are averaged: the sum over layers is exact, one layer is the mean one.
    tokens
        Query tokens on the rank over all its sequences, scalar or shape [...].
    context
        Tokens of a sequence once this step is done (prompt with cached prefix, or decode position), shape [...].
    sequences
        Sequences on the rank, shape [...]; `tokens / sequences` queries each.
    phase
        `decode` uses the absorbed form of MLA, the others the expanded form; sparse layers are always absorbed
        (deepseek-ai/FlashMLA:README.md).
    tp
        Tensor-parallel ranks that split the heads; latents and their projections are replicated. In training the
        norm runs on a `1/tp` slice of the tokens (sequence parallel, arXiv:2205.05198).
    cp
        Context-parallel ranks that share each sequence, `tokens` being one's share. Each computes an equal part of the
        causal pairs: of the heads by all-to-all (arXiv:2309.14509), of the blocks by a balanced ring
        (arXiv:2310.01889).
    fused
        Whether scores stay on the chip (`attention_core`) or pass through memory (`unfused_core`; training).

    Source: MLA arXiv:2405.04434 section 2.1 and appendix C; head split arXiv:1909.08053.
    """
    check_shares(tp, heads=model.attention.heads)
    build = _mla if model.attention.kind == "mla" else _gqa
    norm_tokens = tokens / tp if phase.startswith("training") else tokens
    inner = build(model, tokens, context, sequences, phase, precision, tp, cp)
    if not fused:
        inner = [*inner[:-1], *unfused_core(model, tokens, context, phase, tp * cp, cp)]
    steps = [
        norm("attention_norm", norm_tokens, model.hidden, phase),
        *inner,
        *indexer_operators(model, tokens, context, sequences, phase, precision),
        *_output(model, tokens, phase, precision, tp),
    ]
    return stack(steps)


def _mla(
    model: ModelSpec,
    tokens: Amount,
    context: Amount,
    sequences: Amount,
    phase: Phase,
    precision: Precision,
    tp: int,
    cp: int,
) -> list[Operator]:
    a = model.attention
    heads, latent = a.heads / tp, a.kv_lora_rank + a.qk_rope_dim
    down = a.q_lora_rank + latent
    q_width, kv_width = heads * a.head_dim, heads * (a.qk_nope_dim + a.v_dim)
    latents = a.q_lora_rank + a.kv_lora_rank
    steps = [
        *quantise("attention_quantise", tokens, model.hidden, down, precision, phase),
        gemm("qkv_down", tokens, model.hidden, down, precision, phase),
        norm("latent_norm", tokens, latents / 2.0, phase),  # no residual: two passes
        *quantise("latent_quantise", tokens, latents, q_width + kv_width, precision, phase),
        gemm("q_up", tokens, a.q_lora_rank or model.hidden, q_width, precision, phase),
    ]
    if phase == "decode" or a.sparse:
        plain = unquantised(precision)
        absorb_k = gemm("absorb_k", tokens, a.qk_nope_dim, a.kv_lora_rank, plain, phase, count=heads)
        absorb_v = gemm("absorb_v", tokens, a.kv_lora_rank, a.v_dim, plain, phase, count=heads)
        rotary = elementwise("rotary", 2.0 * ACTIVATION_BYTES * tokens * (heads + 1) * a.qk_rope_dim, tokens, phase)
        core = attention_core(model, tokens, context, sequences, phase, precision, tp, cp)
        return [*steps, absorb_k, rotary, core, absorb_v]
    # A cached prefix is stored as latents and must be expanded again with the new tokens.
    keys = sequences * context if phase == "prefill" else tokens
    kv_up = gemm("kv_up", keys, a.kv_lora_rank, kv_width, precision, phase)
    # Keys are assembled from the expanded part and the rotary part that all heads share.
    width = heads * (a.qk_rope_dim + a.head_dim) + a.qk_rope_dim
    rotary = elementwise("rotary", 2.0 * ACTIVATION_BYTES * tokens * width, tokens, phase)
    return [*steps, kv_up, rotary, attention_core(model, tokens, context, sequences, phase, precision, tp, cp)]


def _gqa(
    model: ModelSpec,
    tokens: Amount,
    context: Amount,
    sequences: Amount,
    phase: Phase,
    precision: Precision,
    tp: int,
    cp: int,
) -> list[Operator]:
    a = model.attention
    heads, kv_heads = a.heads / tp, max(a.kv_heads / tp, 1.0)
    q_width, kv_width = heads * a.head_dim, kv_heads * (a.head_dim + (0 if a.shared_entry else a.v_dim))
    if a.q_lora_rank:
        steps = [
            *quantise("attention_quantise", tokens, model.hidden, a.q_lora_rank + kv_width, precision, phase),
            gemm("q_kv", tokens, model.hidden, a.q_lora_rank + kv_width, precision, phase),
            *quantise("latent_quantise", tokens, a.q_lora_rank, q_width, precision, phase),
            gemm("q_up", tokens, a.q_lora_rank, q_width, precision, phase),
        ]
    else:
        steps = [
            *quantise("attention_quantise", tokens, model.hidden, q_width + kv_width, precision, phase),
            gemm("qkv", tokens, model.hidden, q_width + kv_width, precision, phase),
        ]
    rotary = elementwise("rotary", 2.0 * ACTIVATION_BYTES * tokens * (heads + kv_heads) * a.head_dim, tokens, phase)
    return [*steps, rotary, attention_core(model, tokens, context, sequences, phase, precision, tp, cp)]


def _output(model: ModelSpec, tokens: Amount, phase: Phase, precision: Precision, tp: int) -> list[Operator]:
    a = model.attention
    width = a.heads * a.v_dim / tp
    steps = quantise("output_quantise", tokens, width, model.hidden, precision, phase)
    if not a.output_rank:
        return [*steps, gemm("output", tokens, width, model.hidden, precision, phase)]
    groups = max(a.output_groups / tp, 1.0)
    inner = gemm("output_down", tokens, width / groups, a.output_rank, precision, phase, count=groups)
    return [*steps, inner, gemm("output_up", tokens, groups * a.output_rank, model.hidden, precision, phase)]


def attention_core(
    model: ModelSpec,
    tokens: Amount,
    context: Amount,
    sequences: Amount,
    phase: Phase,
    precision: Precision = BF16,
    tp: int = 1,
    cp: int = 1,
) -> Operator:
    """Return scores, softmax and weighted sum of one layer on one rank, causal pairs only, as one fused kernel.

    Forward 2 H (d_qk + d_v) FLOPs a pair; absorbed MLA 2 H (2 d_latent + d_rope). Backward computes five products for
    the forward's two: scores again, dP, dV (d_v wide: two), dQ, dK (d_qk wide: three with the scores), so
    (3 d_qk + 2 d_v) / (d_qk + d_v) of the forward: 2.5 where the widths are equal, 2.6 for MLA.

    Source: arXiv:2307.08691 sections 2.3 and 4.1 (backward); deepseek-ai/FlashMLA:README.md (absorbed form).
    """
    a = model.attention
    # A CP rank computes as many pairs as it would with a share of the heads of whole sequences.
    tokens, heads, kv_heads = tokens * cp, a.heads / (tp * cp), max(a.kv_heads / tp, 1.0) / cp
    queries = tokens / np.where(np.asarray(sequences) > 0, sequences, 1.0)  # an idle rank has none
    pairs = sequences * mean_layer(model, lambda kind: attended_pairs(kind, queries, context))
    if phase == "decode":
        keys = sequences * mean_layer(model, lambda kind: read_entries(kind, queries, context))
    else:
        keys = sequences * mean_layer(model, lambda kind: kept_entries(kind, context))
    stored = kv_values_per_token(model, tp) * BYTES[precision.kv]
    cache_write = 0.0 if phase.startswith("training") else tokens * stored
    qk, v = float(a.head_dim), float(a.v_dim)
    if a.kind == "mla" and (phase == "decode" or a.sparse):
        qk, v = float(a.kv_lora_rank + a.qk_rope_dim), float(a.kv_lora_rank)
    if phase == "decode" or a.sparse:
        traffic = keys * stored
    else:
        traffic = keys * (heads if a.kind == "mla" else kv_heads) * (qk + v) * ACTIVATION_BYTES
    traffic = traffic + tokens * heads * (qk + v) * ACTIVATION_BYTES + cache_write
    per_pair = 2.0 * heads * (qk + v)
    if phase == "training_backward":
        per_pair, traffic = 2.0 * heads * (3.0 * qk + 2.0 * v), 2.0 * traffic
    return Operator("attention_core", _CORE[phase], precision.attention, per_pair * pairs, 0.0, traffic, tokens)


def kv_values_per_token(model: ModelSpec, tp: int = 1) -> float:
    """Return the values that one layer caches for one token on one rank (MLA latents are replicated over TP)."""
    a = model.attention
    if a.kind == "mla":
        return float(a.kv_lora_rank + a.qk_rope_dim)
    return max(a.kv_heads / tp, 1.0) * (a.head_dim if a.shared_entry else a.head_dim + a.v_dim)
