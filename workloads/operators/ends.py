"""Operators outside the layers: embedding, LM head with loss or sampling, multi-token-prediction projection."""

from workloads.models.specs import ModelSpec
from workloads.operators.kernels import elementwise, gemm, norm, quantise
from workloads.operators.records import (
    ACTIVATION_BYTES,
    BF16,
    Amount,
    Operators,
    Phase,
    Precision,
    stack,
)


def embedding_operators(model: ModelSpec, tokens: Amount, phase: Phase) -> Operators:
    """Return the embedding look-up; backward adds the gradients in FP32."""
    per_value = 8.0 + ACTIVATION_BYTES if phase == "training_backward" else 2.0 * ACTIVATION_BYTES
    return stack([elementwise("embedding", per_value * model.hidden * tokens, tokens, phase)])


def head_operators(model: ModelSpec, tokens: Amount, phase: Phase, tp: int = 1) -> Operators:
    """Return final norm, LM head (BF16) and loss or sampling on one rank.

    Parameters
    ----------
    tokens
        Tokens whose logits are wanted, scalar or shape [...]: all in training, one per sequence in prefill, all
        queries in decode.
    tp
        Ranks that split the vocabulary, padded where it does not divide.
    """
    vocabulary = model.vocab / tp
    # Bytes per logit: loss reads BF16 and keeps FP32 probabilities (max and sum pass, then write); its gradient reads
    # those and writes BF16; sampling makes one FP32 copy.
    per_logit = {"training_forward": 2.0 + 2.0 + 4.0, "training_backward": 4.0 + 2.0}.get(phase, 2.0 + 4.0)
    name = "loss" if phase.startswith("training") else "sampling"
    return stack(
        [
            norm("final_norm", tokens, model.hidden, phase),
            gemm("lm_head", tokens, model.hidden, vocabulary, BF16, phase),
            elementwise(name, per_logit * vocabulary * tokens, tokens, phase),
        ]
    )


def mtp_projection_operators(model: ModelSpec, tokens: Amount, phase: Phase, precision: Precision = BF16) -> Operators:
    """Return what a multi-token-prediction module adds to one transformer layer and one LM head.

    Two norms and the projection of (hidden state, next embedding) from twice the hidden width. The module's layer and
    head are the ordinary ones: add `attention_operators`, the expert operators and `head_operators`.

    Source: arXiv:2412.19437 section 2.2.
    """
    return stack(
        [
            norm("mtp_norm", tokens, model.hidden, phase),
            *quantise("mtp_quantise", tokens, 2.0 * model.hidden, model.hidden, precision, phase),
            gemm("mtp_projection", tokens, 2.0 * model.hidden, model.hidden, precision, phase),
        ]
    )
