"""Closed forms of FLOPs and bytes, and published totals."""

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.models.specs import Attention, Experts, ModelSpec
from workloads.operators import (
    BF16,
    Operators,
    Phase,
    Precision,
    attention_core,
    attention_operators,
    dense_ffn_operators,
    embedding_operators,
    expert_operators,
    gemm,
    head_operators,
    join,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    model_flop_per_token,
    mtp_projection_operators,
    query_key_pairs,
    router_operators,
    shared_expert_operators,
)

FP8 = Precision("fp8", "fp8")
TRAINING: tuple[Phase, Phase] = ("training_forward", "training_backward")
V3 = ModelSpec(
    id="v3",
    name="DeepSeek-V3",
    layers=61,
    dense_layers=3,
    hidden=7168,
    vocab=129280,
    dense_ffn=18432,
    attention=Attention(
        kind="mla",
        heads=128,
        kv_heads=128,
        head_dim=192,
        v_dim=128,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_dim=128,
        qk_rope_dim=64,
    ),
    experts=Experts(routed_experts=256, top_k=8, expert_ffn=2048, shared_experts=1, shared_ffn=2048),
    source="arXiv:2412.19437",
)
LLAMA = ModelSpec(
    id="llama",
    name="Llama-3.1-405B",
    layers=126,
    dense_layers=126,
    hidden=16384,
    vocab=128256,
    dense_ffn=53248,
    attention=Attention(kind="gqa", heads=128, kv_heads=8, head_dim=128, v_dim=128),
    source="arXiv:2407.21783",
)
WINDOWED = LLAMA.model_copy(
    update={"attention": LLAMA.attention.model_copy(update={"window": 128, "window_layers": 63})}
)


def pick(ops: Operators, name: str, field: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = getattr(ops, field)
    return values[..., ops.names.index(name)]


def test_gemm_forward_is_two_m_n_k_with_each_byte_moved_once() -> None:
    op = gemm("x", 100.0, 64.0, 32.0, FP8, "prefill")
    assert op.flop == 2 * 100 * 64 * 32
    assert op.weight_bytes == 64 * 32
    assert op.activation_bytes == 100 * 64 + 100 * 32 * 2


def test_gemm_backward_is_two_gemms_and_accumulates_fp32_gradients() -> None:
    forward, backward = (
        gemm("x", 100.0, 64.0, 32.0, BF16, phase) for phase in ("training_forward", "training_backward")
    )
    assert backward.flop == 2 * forward.flop
    assert backward.launches == 2 * forward.launches
    assert backward.weight_bytes == 64 * 32 * (2 + 4 + 4)


@pytest.mark.parametrize("context", [4096, 32768])
def test_layer_flops_sum_to_the_model_flops(context: int) -> None:
    """Operators and the closed form per token are counted apart and must agree."""
    tokens = float(context)

    def total(phase: Phase) -> float:
        attention = attention_operators(V3, tokens, context, 1, phase).flop.sum()
        dense = dense_ffn_operators(V3, tokens, phase).flop.sum()
        per_slot = np.full(256, tokens * 8 / 256)
        shared = shared_expert_operators(V3, tokens, phase)
        assert shared is not None
        parts = (expert_operators(V3, per_slot, phase), router_operators(V3, tokens, phase), shared)
        moe = sum(part.flop.sum() for part in parts)
        return float(61 * attention + 3 * dense + 58 * moe + head_operators(V3, tokens, phase).flop.sum())

    forward = model_flop_per_token(V3, context, training=False) * tokens
    assert total("training_forward") == pytest.approx(forward)
    assert total("prefill") == pytest.approx(forward)
    core = float(np.sum(attention_core(V3, tokens, context, 1, "training_forward").flop))
    # The backward core makes 2.6 times the forward's FLOPs where MFU counts 2: scores are computed again.
    assert total("training_backward") == pytest.approx(2 * forward + 61 * 0.6 * core)


@pytest.mark.parametrize(("causal", "tflops"), [(True, 385.0), (False, 432.0)])
def test_model_flops_reproduce_the_published_rate(causal: bool, tflops: float) -> None:
    """272.80 B tokens a day on 2,048 GPUs: arXiv:2505.09343 table 4."""
    tokens_per_s = 272.80e9 / 86400 / 2048
    assert model_flop_per_token(V3, 4096, True, causal) * tokens_per_s / 1e12 == pytest.approx(tflops, rel=0.01)


def test_model_flops_are_six_times_the_active_parameters() -> None:
    """Published: 37 B active (embedding of 0.9 B included), 405 B dense; short context, so attention adds little."""
    assert model_flop_per_token(V3, 1, True) == pytest.approx(6 * (37e9 - 129280 * 7168), rel=0.02)
    assert model_flop_per_token(LLAMA, 1, True) == pytest.approx(6 * (405.9e9 - 128256 * 16384), rel=0.01)
    assert model_flop_per_token(LLAMA, 4096, True) == 3 * model_flop_per_token(LLAMA, 4096, False)


def test_kv_bytes_match_the_published_table() -> None:
    """arXiv:2505.09343 table 1."""
    assert kv_bytes_per_token(V3, 2) == 70_272
    assert kv_bytes_per_token(LLAMA, 2) == 516_096
    assert kv_bytes_per_sequence(LLAMA, 1000, 2) == 516_096_000
    assert kv_bytes_per_sequence(WINDOWED, 1000, 2) == 516_096 * (1000 + 128) / 2


def test_pairs_are_causal_and_windowed() -> None:
    def counted(queries: int, context: int, window: int) -> int:
        return sum(min(position + 1, window) for position in range(context - queries, context))

    for queries, context, window in [(1, 1, 4), (5, 9, 4), (9, 9, 100), (3, 50, 7), (1, 4096, 4096)]:
        assert query_key_pairs(queries, context, window) == counted(queries, context, window)
    assert query_key_pairs(8, 8) == 36


def test_mla_decode_is_absorbed() -> None:
    """2 H (2 x 512 + 64) FLOPs and 1,152 bytes for each cached token; K and V latents are read once."""
    core = attention_core(V3, 32, 4096, 32, "decode")
    assert core.flop == 32 * 4096 * 2 * 128 * (2 * 512 + 64)
    assert core.activation_bytes == 32 * 4096 * 1152 + 32 * 128 * (576 + 512) * 2 + 32 * 1152
    ops = attention_operators(V3, 32, 4096, 32, "decode")
    assert pick(ops, "absorb_k", "flop") == 2 * 32 * 128 * 128 * 512
    assert "kv_up" not in ops.names


def test_multi_token_queries_read_the_cache_once() -> None:
    one, two = (attention_core(V3, 32 * n, 4096, 32, "decode") for n in (1, 2))
    assert two.flop == pytest.approx(2 * one.flop, rel=1e-3)
    assert two.activation_bytes < 1.2 * one.activation_bytes


def test_prefill_flops_match_the_published_utilisation() -> None:
    """InferSim bench_data mla: 4,096 tokens in 1104.692 us at 62.9 % of 989.4 TFLOP/s."""
    core = attention_core(V3, 4096, 4096, 1, "prefill")
    assert float(core.flop) == pytest.approx(0.629 * 989.4e12 * 1104.692e-6, rel=2e-3)


def test_prefix_is_expanded_again_in_prefill() -> None:
    fresh = attention_operators(V3, 1024, 1024, 1, "prefill")
    cached = attention_operators(V3, 1024, 4096, 1, "prefill")
    assert pick(cached, "kv_up", "flop") == 4 * pick(fresh, "kv_up", "flop")
    assert pick(cached, "q_up", "flop") == pick(fresh, "q_up", "flop")


def test_backward_core_is_two_and_a_half_times_forward_for_equal_widths() -> None:
    forward, backward = (
        attention_core(LLAMA, 512, 512, 1, phase) for phase in ("training_forward", "training_backward")
    )
    assert backward.flop == 2.5 * forward.flop


def test_window_cuts_decode_reads() -> None:
    full, half = (attention_core(model, 8, 4096, 8, "decode") for model in (LLAMA, WINDOWED))
    assert half.flop == pytest.approx(full.flop * (4096 + 128) / 2 / 4096)
    assert half.activation_bytes < 0.6 * full.activation_bytes


@pytest.mark.parametrize("phase", ["training_forward", "training_backward", "prefill", "decode"])
def test_tensor_parallel_splits_the_flops_but_not_the_latents(phase: Phase) -> None:
    for model in (LLAMA, V3):
        whole, part = (attention_operators(model, 64, 64, 64, phase, tp=tp) for tp in (1, 8))
        shared = sum(pick(whole, name, "flop") for name in ("qkv_down",) if name in whole.names)
        assert 8 * (part.flop.sum() - shared) == pytest.approx(whole.flop.sum() - shared)
    whole, part = (dense_ffn_operators(V3, 64, phase, tp=tp) for tp in (1, 8))
    assert 8 * part.flop.sum() == pytest.approx(whole.flop.sum())
    ratio = pick(whole, "ffn_norm", "activation_bytes") / pick(part, "ffn_norm", "activation_bytes")
    assert ratio == (8 if phase.startswith("training") else 1)


def test_expert_rows_conserve_tokens_and_idle_slots_read_nothing() -> None:
    rng = np.random.default_rng(1)
    tokens, ranks = 512, 32
    chosen = rng.random((3, tokens, 256)).argpartition(8, axis=-1)[..., :8]
    counts = np.stack([np.bincount(layer.ravel(), minlength=256) for layer in chosen]).reshape(3, ranks, 8)
    ops = expert_operators(V3, counts.astype(float), "decode", FP8)
    up = pick(ops, "expert_up", "flop")
    assert up.shape == (3, ranks)
    assert up.sum() == 3 * tokens * 8 * 2 * 7168 * 4096
    skewed = expert_operators(V3, np.array([[32.0, 0, 0, 0], [8, 8, 8, 8], [0, 0, 0, 0]]), "decode", FP8)
    assert list(pick(skewed, "expert_up", "weight_bytes")) == [7168 * 4096, 4 * 7168 * 4096, 0]
    assert list(pick(skewed, "expert_up", "rows")) == [32, 8, 0]


def test_quantisation_traffic_only_where_gemms_are_narrow() -> None:
    assert not any("quantise" in name for name in dense_ffn_operators(V3, 8, "training_backward").names)
    ops = dense_ffn_operators(V3, 8, "prefill", FP8)
    assert pick(ops, "ffn_quantise", "activation_bytes") == 8 * 7168 * 3


def test_batch_axes_broadcast() -> None:
    attention = attention_operators(V3, np.full((4, 1), 16.0), 1024, np.full((4, 1), 16.0), "decode", FP8)
    experts = expert_operators(V3, np.ones((4, 6, 8)), "decode", FP8)
    both = join(attention, experts)
    assert both.flop.shape == (4, 6, len(attention.names) + len(experts.names))
    assert both.bytes.sum() == pytest.approx(6 * attention.bytes.sum() + experts.bytes.sum())


def test_ends_of_the_model() -> None:
    head = head_operators(V3, 10, "training_forward")
    assert pick(head, "lm_head", "flop") == 2 * 10 * 7168 * 129280
    assert set(head.dtypes) == {"bf16"}
    assert "loss" in head.names
    assert "sampling" in head_operators(V3, 10, "decode", tp=8).names
    assert embedding_operators(V3, 10, "prefill").flop.sum() == 0
    assert mtp_projection_operators(V3, 10, "decode", FP8).flop.sum() == 2 * 10 * 2 * 7168 * 7168


def test_idle_rank_has_no_work() -> None:
    assert attention_operators(V3, 0.0, 4096, 0.0, "decode").flop.sum() == 0


def test_bad_shares_and_missing_experts_are_refused() -> None:
    with pytest.raises(WorkloadError, match="heads 128: not divisible"):
        attention_operators(V3, 1, 1, 1, "decode", tp=3)
    with pytest.raises(WorkloadError, match="mixture-of-experts"):
        expert_operators(LLAMA, np.ones(4), "decode")
