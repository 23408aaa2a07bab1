"""Attention whose scores pass through memory: counted by hand, dearer than fused, refused where there is none."""

import pytest

from simulator.cost.memory import training_memory
from simulator.errors import UserError
from simulator.phase.setup import setup
from simulator.phase.training import training_step
from simulator.plan import Layout
from simulator.program import PART_INDEX
from simulator.scenario_file import validate
from workloads.models import load_model, parameters
from workloads.operators import attention_core, attention_operators, unfused_core

GPT = load_model("gpt3-175b")
HEADS, WIDTH, TOKENS = 96, 128, 2048


def test_products_count_the_whole_square() -> None:
    products, softmax = unfused_core(GPT, TOKENS, TOKENS, "training_forward", 1.0)
    assert float(products.flop) == 4 * TOKENS**2 * HEADS * WIDTH
    fused = attention_core(GPT, TOKENS, TOKENS, 1, "training_forward")
    assert float(products.flop) == pytest.approx(2.0 * float(fused.flop), rel=1e-3)
    assert float(softmax.activation_bytes) == 9 * TOKENS**2 * HEADS
    backward, _ = unfused_core(GPT, TOKENS, TOKENS, "training_backward", 1.0)
    assert float(backward.flop) == 2.0 * float(products.flop)


@pytest.mark.parametrize("shards", [2, 8])
def test_heads_are_split_and_context_ranks_see_whole_sequences(shards: int) -> None:
    whole = unfused_core(GPT, TOKENS, TOKENS, "training_forward", 1.0)
    split = unfused_core(GPT, TOKENS / shards, TOKENS, "training_forward", float(shards), shards)
    for one, other in zip(whole, split, strict=True):
        assert float(one.flop) == pytest.approx(shards * float(other.flop))
        assert float(one.activation_bytes) == pytest.approx(shards * float(other.activation_bytes))


def test_the_rest_of_the_block_stays() -> None:
    names = [attention_operators(GPT, 8, 8, 1, "training_forward", fused=fused).names for fused in (True, False)]
    assert set(names[0]) ^ set(names[1]) == {"attention_core", "attention_products", "attention_softmax"}


@pytest.mark.parametrize(("recompute", "kept"), [("none", 5.0), ("selective", 0.0), ("full", 0.0)])
def test_scores_are_kept_unless_recomputed(recompute: str, kept: float) -> None:
    layout = Layout(8, 1, 1, 1, 1, (GPT.layers,))

    def activations(scores: float) -> float:
        (use,) = training_memory(GPT, parameters(GPT), layout, "1f1b", 1, recompute, "bf16", TOKENS, 1.0, 1e12, scores)
        return use.items["activations"]

    more = activations(HEADS * TOKENS) - activations(0.0)
    assert more == pytest.approx(kept * HEADS * TOKENS * TOKENS * GPT.layers / 8)  # arXiv:2205.05198 equation 1


def scenario(model: str, **plan: object) -> dict[str, object]:
    return {
        "model": {"name": model},
        "cluster": {"name": "a100-cluster", "chips": 64},
        "workload": {"phase": "training", "sequence_tokens": TOKENS, "global_batch_sequences": 64},
        "plan": {"tensor": 8, "pipeline": 8, **plan},
    }


@pytest.mark.parametrize("recompute", ["none", "selective"])
def test_steps_take_longer(recompute: str) -> None:
    def spent_s(fused: bool) -> float:
        table = scenario("gpt3-175b", recompute=recompute, fused_attention=fused)
        step = training_step(setup(validate(table, "test")), False)
        return float((step.times["F"] + step.times["B"])[..., [PART_INDEX["compute"], PART_INDEX["memory"]]].sum())

    assert 1.03 < spent_s(False) / spent_s(True) < 1.3


def test_latent_attention_is_always_fused() -> None:
    with pytest.raises(UserError, match=r"plan.fused_attention = false: MLA runs with fused kernels only"):
        setup(validate(scenario("deepseek-v3", fused_attention=False), "test"))
