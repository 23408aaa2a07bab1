"""Operators of the feed-forward block: dense, router, shared experts, routed experts."""

from workloads.errors import WorkloadError
from workloads.models.specs import Experts, ModelSpec
from workloads.operators.kernels import activation, elementwise, gemm, grouped_gemm, norm, quantise
from workloads.operators.records import (
    ACTIVATION_BYTES,
    BF16,
    Amount,
    Array,
    Operator,
    Operators,
    Phase,
    Precision,
    check_shares,
    stack,
)


def dense_ffn_operators(
    model: ModelSpec, tokens: Amount, phase: Phase, precision: Precision = BF16, tp: int = 1
) -> Operators:
    """Return the operators of one dense feed-forward block on one rank, its norm included.

    Parameters
    ----------
    tokens
        Tokens on the rank, scalar or shape [...].
    tp
        Tensor-parallel ranks that split the width.
    """
    check_shares(tp, dense_ffn=model.dense_ffn)
    norm_tokens = tokens / tp if phase.startswith("training") else tokens
    return stack(
        [
            norm("ffn_norm", norm_tokens, model.hidden, phase),
            *_ffn(model, "ffn", tokens, model.dense_ffn, phase, precision, tp),
        ]
    )


def router_operators(model: ModelSpec, tokens: Amount, phase: Phase, tp: int = 1) -> Operators:
    """Return norm, gate GEMM and top-k selection of one MoE layer; the gate stays in BF16 and is not split."""
    experts = _experts(model)
    norm_tokens = tokens / tp if phase.startswith("training") else tokens
    scores = 2.0 * 4.0 * tokens * experts.routed_experts  # FP32 scores, written and read once
    return stack(
        [
            norm("ffn_norm", norm_tokens, model.hidden, phase),
            gemm("router", tokens, model.hidden, experts.routed_experts, BF16, phase),
            elementwise("top_k", scores, tokens, phase),
        ]
    )


def shared_expert_operators(
    model: ModelSpec, tokens: Amount, phase: Phase, precision: Precision = BF16, tp: int = 1
) -> Operators | None:
    """Return the operators of all shared experts of one MoE layer together, or None where the model has none."""
    width = _experts(model).shared_ffn
    if not width:
        return None
    check_shares(tp, shared_ffn=width)
    return stack(_ffn(model, "shared", tokens, width, phase, precision, tp))


def expert_operators(
    model: ModelSpec, tokens_per_slot: Array, phase: Phase, precision: Precision = BF16, tp: int = 1
) -> Operators:
    """Return the routed-expert operators of one MoE layer on each rank of a batch.

    Parameters
    ----------
    tokens_per_slot
        Tokens that each expert slot of the rank really got, shape [..., slots]; the result has batch axes [...].
        Inputs arrive quantised from dispatch. Outside decode the tokens are sorted by expert before the GEMMs and
        put back after them (the low-latency dispatch of decode writes them in place).
    tp
        Ranks that split the width of one expert.

    Source: grouped GEMM layouts deepseek-ai/DeepGEMM:README.md (contiguous and masked).
    """
    experts = _experts(model)
    check_shares(tp, expert_ffn=experts.expert_ffn)
    width, gates = experts.expert_ffn / tp, model.ffn_matrices - 1
    rows = tokens_per_slot.sum(axis=-1)
    steps = [
        grouped_gemm("expert_up", tokens_per_slot, model.hidden, gates * width, precision, phase),
        activation("expert_activation", rows, width, gates, precision, phase),
        grouped_gemm("expert_down", tokens_per_slot, width, model.hidden, precision, phase),
    ]
    if phase == "training_backward":
        inner, outer = model.hidden + width, gates * width + model.hidden
        steps += quantise("expert_quantise", rows, inner, outer, precision, phase)
    if phase != "decode":
        sort_bytes = 2.0 * model.hidden * (precision.input_bytes + ACTIVATION_BYTES)
        steps.append(elementwise("expert_sort", rows * sort_bytes, rows, phase, launches=2.0))
    return stack(steps)


def _ffn(
    model: ModelSpec, name: str, tokens: Amount, width: float, phase: Phase, precision: Precision, tp: int
) -> list[Operator]:
    part, gates = width / tp, model.ffn_matrices - 1
    # Forward, the activation writes the second GEMM's input narrow itself.
    inner = model.hidden + (part if phase == "training_backward" else 0.0)
    return [
        *quantise(f"{name}_quantise", tokens, inner, gates * part + model.hidden, precision, phase),
        gemm(f"{name}_up", tokens, model.hidden, gates * part, precision, phase),
        activation(f"{name}_activation", tokens, part, gates, precision, phase),
        gemm(f"{name}_down", tokens, part, model.hidden, precision, phase),
    ]


def _experts(model: ModelSpec) -> Experts:
    if model.experts is None:
        raise WorkloadError(f"model {model.id}: experts: the model has none; use a mixture-of-experts model")
    return model.experts
