"""Recorded routing against the top-k worked out again from the routers' logits, for each architecture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.recorder import loading
from workloads.routing.recorder.record import Request, record
from workloads.routing.recorder.routers import ROUTERS
from workloads.routing.trace import Trace

torch: Any = pytest.importorskip("torch", reason="recording needs the extra `record`")
transformers: Any = pytest.importorskip("transformers", reason="recording needs the extra `record`")
pytestmark = pytest.mark.filterwarnings("default")  # of torch and transformers themselves

Array = NDArray[np.float64]
PROMPTS = [[5, 9, 11, 2, 7, 30], [40], [3, 3, 3, 3, 8, 60, 61, 62, 1]]
NEW = 4
COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_routed_experts": 16,
    "n_group": 4,
    "topk_group": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 12, "norm_topk_prob": False, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 12, "norm_topk_prob": True},
    "olmoe": {"num_experts": 12, "norm_topk_prob": False},
    "deepseek_v2": {**MLA, "topk_method": "group_limited_greedy", "routed_scaling_factor": 2.0},
    "deepseek_v3": {**MLA, "norm_topk_prob": True, "routed_scaling_factor": 2.5},
    "gpt_oss": {"num_local_experts": 8, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
}


def tiny(kind: str, seed: int = 0, **change: Any) -> Any:
    """A model with random weights, routers' as large as makes choices clear."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **{**COMMON, **SHAPES[kind], **change})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for module in model.modules():
        if type(module).__name__ == ROUTERS[kind]:
            torch.nn.init.normal_(module.weight, std=0.5)
            if kind == "deepseek_v3":
                module.e_score_correction_bias.copy_(torch.randn(module.num_experts) * 0.3)
            if kind == "gpt_oss":
                torch.nn.init.normal_(module.bias, std=0.5)
    return model


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out: Array = raised / raised.sum(axis=-1, keepdims=True)
    return out


def best_groups(scores: Array, strength: Any) -> Array:
    """Scores with -inf in all but the best two of four groups, token by token."""
    kept = np.full_like(scores, -np.inf)
    for token, row in enumerate(scores.reshape(len(scores), 4, -1)):
        for group in sorted(range(4), key=lambda g: -strength(row[g]))[:2]:
            kept[token].reshape(4, -1)[group] = row[group]
    return kept


def expected(kind: str, logits: Array, router: Any) -> tuple[Array, Array]:
    """For choice and for weight: the scores of every expert, as the papers have them."""
    if kind == "deepseek_v2":
        shares = softmax(logits)
        return best_groups(shares, max), 2.0 * shares
    if kind == "deepseek_v3":
        shares = 1 / (1 + np.exp(-logits))
        biased = shares + router.e_score_correction_bias.numpy().astype(np.float64)
        return best_groups(biased, lambda row: sum(sorted(row)[-2:])), shares
    return logits, logits if kind == "gpt_oss" else softmax(logits)


def weights(kind: str, scores: Array, ids: Any) -> Array:
    chosen = np.take_along_axis(scores, ids, axis=1)
    if kind == "gpt_oss":
        return softmax(chosen)
    if kind in {"mixtral", "qwen3_moe", "deepseek_v3"}:
        scale = 2.5 if kind == "deepseek_v3" else 1.0
        renormalised: Array = scale * chosen / chosen.sum(axis=1, keepdims=True)
        return renormalised
    return chosen


def greedy(model: Any, prompt: list[int], new: int) -> list[int]:
    """Prompt and generated tokens, by the whole text again at each step and no cache."""
    ids = list(prompt)
    for _ in range(new):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids


def logits_of(model: Any, kind: str, ids: list[int]) -> list[tuple[Any, Array]]:
    """Each router and its logits [tokens, experts], whole text at once."""
    found: list[tuple[Any, Array]] = []
    handles = [
        module.register_forward_hook(lambda module, _, out: found.append((module, out[0].double().numpy())))
        for module in model.modules()
        if type(module).__name__ == ROUTERS[kind]
    ]
    with torch.inference_mode():
        model(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("kind", ROUTERS)
def test_each_token_is_recorded_once_with_the_experts_that_its_logits_choose(kind: str) -> None:
    model = tiny(kind)
    trace = record(model, PROMPTS, Request(kind, NEW, "mixed"))
    assert trace.seq_lens.tolist() == [len(prompt) + NEW for prompt in PROMPTS]
    assert trace.moe_layers == (2 if kind.startswith("deepseek") else 3)
    assert trace.routed_experts == SHAPES[kind].get("num_experts", SHAPES[kind].get("num_local_experts", 16))
    ends = np.cumsum(trace.seq_lens)
    for prompt, end in zip(PROMPTS, ends, strict=True):
        rows = slice(end - len(prompt) - NEW, end)
        for layer, (router, logits) in enumerate(logits_of(model, kind, greedy(model, prompt, NEW))):
            choice, score = expected(kind, logits, router)
            wanted = np.sort(np.argsort(-choice, axis=1)[:, : trace.top_k], axis=1)
            ids = trace.experts[rows, layer].astype(np.int64)
            assert np.array_equal(np.sort(ids, axis=1), wanted)
            assert trace.gate_weights is not None
            gates = trace.gate_weights[rows, layer]
            np.testing.assert_allclose(gates, weights(kind, score, ids), rtol=2e-4)
            assert (np.diff(gates, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", ROUTERS)
def test_prefill_and_decode_are_the_parts_of_mixed(kind: str) -> None:
    model = tiny(kind, seed=1)
    both, before, after = (
        record(model, PROMPTS, Request(kind, new, phase))  # type: ignore[arg-type]
        for new, phase in ((NEW, "mixed"), (0, "prefill"), (NEW, "decode"))
    )
    assert before.seq_lens.tolist() == [len(prompt) for prompt in PROMPTS]
    assert after.seq_lens.tolist() == [NEW] * len(PROMPTS)
    parts = [
        part
        for old, new in zip(np.split(before.experts, np.cumsum(before.seq_lens)), per(after), strict=False)
        for part in (old, new)
    ]
    assert np.array_equal(np.concatenate(parts), both.experts)


def per(trace: Trace) -> list[Any]:
    return np.split(trace.experts, np.cumsum(trace.seq_lens)[:-1])


def test_the_end_of_a_text_ends_its_sequence_and_is_not_fed() -> None:
    model = tiny("olmoe")
    made = greedy(model, PROMPTS[0], 8)[len(PROMPTS[0]) :]
    end = made[3]
    model.generation_config.eos_token_id = [end, 63]
    trace = record(model, PROMPTS[:1], Request("tiny", 8, "decode"))
    assert trace.tokens == made.index(end)


def test_a_model_that_ends_at_once_leaves_nothing_to_record() -> None:
    model = tiny("olmoe")
    model.generation_config.eos_token_id = greedy(model, PROMPTS[0], 1)[-1]
    with pytest.raises(WorkloadError, match="no token was generated"):
        record(model, PROMPTS[:1], Request("tiny", 8, "decode"))


def test_hooks_are_gone_afterwards() -> None:
    model = tiny("mixtral")
    record(model, PROMPTS, Request("tiny"))
    with pytest.raises(WorkloadError):
        record(model, [[64]], Request("tiny"))
    assert not any(module._forward_hooks for module in model.modules() if type(module).__name__ == ROUTERS["mixtral"])


@pytest.mark.parametrize(
    ("prompts", "new", "problem"),
    [
        ([], 0, "prompts: none"),
        ([[1], []], 0, "prompt 2: no token"),
        ([[1, 64]], 0, "prompt 1: token 64: the model has 64"),
        ([[-1, 3]], 0, "prompt 1: token -1"),
        ([[1] * 60], 5, "prompt 1: 60 tokens and 5 new ones: the model takes 64"),
    ],
)
def test_prompts_that_the_model_cannot_take(prompts: list[list[int]], new: int, problem: str) -> None:
    with pytest.raises(WorkloadError, match=problem):
        record(tiny("olmoe"), prompts, Request("tiny", new, "mixed" if new else "prefill"))


def test_a_router_that_the_model_goes_past_is_told() -> None:
    """As fused kernels do."""
    model = tiny("qwen3_moe")
    model.model.layers[1].mlp.forward = lambda hidden: hidden
    with pytest.raises(WorkloadError, match="MoE layer 1: its router was asked for 0 of 6 tokens"):
        record(model, PROMPTS, Request("tiny"))


def test_a_model_without_moe_layers_is_refused() -> None:
    with pytest.raises(WorkloadError, match="without MoE layers"):
        record(tiny("qwen3_moe", mlp_only_layers=[0, 1, 2]), PROMPTS, Request("tiny"))


def test_an_architecture_without_experts_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(WorkloadError, match="model_type 'llama': its routers are not known; known: mixtral"):
        loading.load(str(tmp_path))


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    auto = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(WorkloadError) as caught:
        loading.load(str(tmp_path))
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


def test_a_model_without_tokenizer_is_told(tmp_path: Path) -> None:
    tiny("olmoe").save_pretrained(tmp_path)
    with pytest.raises(WorkloadError, match="no tokenizer; save it beside the model"):
        loading.load(str(tmp_path))


def test_weights_that_would_be_unpickled_are_not_read(tmp_path: Path) -> None:
    tiny("olmoe").save_pretrained(tmp_path)
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=_letters())
    words.save_pretrained(tmp_path)
    assert loading.load(str(tmp_path)).model.config.model_type == "olmoe"
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WorkloadError, match=r"no file named model\.safetensors"):
        loading.load(str(tmp_path))


def _letters() -> Any:
    tokenizers: Any = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there(device: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=f"device '{device}'"):
        loading.load(str(tmp_path), device)
