"""Attention whose scores pass through memory, as before fused kernels."""

from workloads.models.specs import ModelSpec
from workloads.operators.records import ACTIVATION_BYTES, Amount, Operator, Phase

# Passes over the scores of one head, in 16-bit numbers, with a byte of dropout mask. Forward: scores written; softmax
# reads and writes; dropout reads and writes, and writes its mask; the weighted sum reads. Backward: dV reads the
# probabilities, dP is written, dQ and dK read its result; dropout reads, reads its mask and writes; softmax reads its
# output and the gradient and writes.
_GEMM_PASSES: dict[Phase, float] = {"training_forward": 2.0, "training_backward": 4.0}
_VECTOR_BYTES: dict[Phase, float] = {
    "training_forward": 4.0 * ACTIVATION_BYTES + 1.0,
    "training_backward": 5.0 * ACTIVATION_BYTES + 1.0,
}
# What is kept of each score for the backward pass: both sides of dropout, and its mask.
SCORE_BYTES = 5.0


def unfused_core(
    model: ModelSpec, tokens: Amount, context: Amount, phase: Phase, shards: float, cp: int = 1
) -> list[Operator]:
    """Return batched GEMMs of scores and weighted sum, and softmax with mask and dropout, of one layer on one rank.

    The whole square of scores is computed: causal masking comes after the GEMM.

    Parameters
    ----------
    tokens, context
        Query tokens on the rank, and tokens of a sequence.
    shards
        Ranks that split the heads (TP x CP).
    cp
        CP ranks, each of which has so many times fewer tokens than its share of heads sees.

    Source: kernels and what they keep, arXiv:2205.05198 section 4.1; fused scale, mask and softmax, arXiv:2104.04473
    section 4.2.
    """
    a = model.attention
    heads, queries = a.heads / shards, tokens * cp
    pairs = queries * context * heads
    products = 2.0 if phase == "training_backward" else 1.0
    operands = products * 2.0 * queries * heads * (a.head_dim + a.v_dim) * ACTIVATION_BYTES
    return [
        Operator(
            "attention_products",
            "gemm",
            "bf16",
            products * 2.0 * pairs * (a.head_dim + a.v_dim),
            0.0,
            operands + pairs * _GEMM_PASSES[phase] * ACTIVATION_BYTES,
            queries,
            launches=2.0 * products,
        ),
        # Traffic is counted pass by pass, so it streams at the rate of one elementwise kernel.
        Operator(
            "attention_softmax",
            "elementwise",
            "bf16",
            0.0 * pairs,
            0.0,
            pairs * _VECTOR_BYTES[phase],
            queries,
            launches=2.0,
        ),
    ]
