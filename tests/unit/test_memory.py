import itertools

import pytest

from simulator.cost.memory import (
    GRADIENT_BYTES,
    OPTIMIZER_BYTES,
    RESERVE_BYTES,
    WEIGHT_BYTES,
    activation_bytes_per_token,
    in_flight,
    serving_memory,
    stage_parameters,
    training_memory,
)
from simulator.plan import Layout, split_layers
from simulator.result import MemoryUse
from workloads.models import ModelSpec, load_model, parameters

GIB = 2.0**30
MODELS = ["deepseek-v3", "deepseek-v2-lite", "mixtral-8x7b", "qwen3-30b-a3b", "llama-3.1-405b", "gpt-3-175b"]


def train(model: ModelSpec, layout: Layout, **changes: object) -> tuple[MemoryUse, ...]:
    values: dict[str, object] = {
        "schedule": "1f1b",
        "zero": 1,
        "recompute": "none",
        "dtype": "bf16",
        "tokens": 4096.0,
        "imbalance": 1.0,
        "capacity_bytes": 80 * GIB,
    }
    return training_memory(model, parameters(model), layout, **{**values, **changes})  # type: ignore[arg-type]


def laid_out(model: ModelSpec, tensor: int = 1, data: int = 16, pipeline: int = 4, expert: int = 8) -> Layout:
    return Layout(tensor, data, pipeline, expert, 16, split_layers([1.0] * model.layers, 0.0, pipeline))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("tensor", "pipeline"), [(1, 1), (1, 4), (8, 2)])
def test_stages_hold_the_whole_model_once(name: str, tensor: int, pipeline: int) -> None:
    model = load_model(name)
    counts = parameters(model)
    bounds = [0, *itertools.accumulate(split_layers([1.0] * model.layers, 0.0, pipeline))]
    held = 0.0
    for stage, (first, end) in enumerate(itertools.pairwise(bounds)):
        own, experts = stage_parameters(model, counts, range(first, end), stage == 0, stage == pipeline - 1, tensor)
        held += own * tensor + experts
    assert held == pytest.approx(counts.total + counts.mtp, rel=2e-3)  # final norm and tied heads apart


@pytest.mark.parametrize("name", MODELS[:5])
@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "dualpipe"])
@pytest.mark.parametrize("recompute", ["none", "light", "selective", "full"])
def test_items_sum_and_are_positive(name: str, schedule: str, recompute: str) -> None:
    model = load_model(name)
    layout = laid_out(model, expert=8 if model.experts else 1)
    for use in train(model, layout, schedule=schedule, recompute=recompute):
        assert use.total_bytes == pytest.approx(sum(use.items.values()))
        assert min(use.items.values()) >= 0.0
        assert use.short_bytes == max(0.0, use.total_bytes - use.capacity_bytes)


def test_training_state_by_hand() -> None:
    """Weights 2, gradients 4 and optimizer state 12 bytes per parameter on a single rank."""
    model = load_model("llama-3-8b")
    (use,) = train(model, Layout(1, 1, 1, 1, 1, (32,)), tokens=1.0)
    counts = parameters(model)
    assert use.items["weights"] == pytest.approx(WEIGHT_BYTES * counts.total, rel=1e-3)
    assert use.items["gradients"] == pytest.approx(GRADIENT_BYTES * counts.total, rel=1e-3)
    assert use.items["optimizer"] == pytest.approx(OPTIMIZER_BYTES * counts.total, rel=1e-3)
    assert use.items["reserve"] == RESERVE_BYTES


def test_zero_shards_optimizer_state_alone() -> None:
    model = load_model("llama-3-8b")
    layout = laid_out(model, expert=1)
    for whole, sharded in zip(train(model, layout, zero=0), train(model, layout), strict=True):
        assert sharded.items["optimizer"] == pytest.approx(whole.items["optimizer"] / 16)
        assert {**whole.items, "optimizer": 0} == {**sharded.items, "optimizer": 0}


@pytest.mark.parametrize(("data", "expert"), [(8, 8), (16, 8), (16, 2)])
def test_zero_shards_experts_over_their_replicas(data: int, expert: int) -> None:
    """An expert is held by DP / EP ranks, everything else by all DP ranks of its stage."""
    model = load_model("mixtral-8x7b")
    use = train(model, laid_out(model, data=data, expert=expert))[1]
    own, experts = stage_parameters(model, parameters(model), range(8, 16), False, False, 1)
    state = own / data + experts / expert / (data // expert)
    assert use.items["optimizer"] == pytest.approx(OPTIMIZER_BYTES * state)
    assert use.items["weights"] == pytest.approx(WEIGHT_BYTES * (own + experts / expert))


@pytest.mark.parametrize("name", ["deepseek-v3", "mixtral-8x7b", "llama-3-8b"])
def test_more_recomputation_keeps_less(name: str) -> None:
    model = load_model(name)
    kept = [
        activation_bytes_per_token(model, False, recompute, "bf16", 1.0)
        for recompute in ("full", "selective", "light", "none")
    ]
    assert kept == sorted(kept)
    assert kept[0] == model.hidden * 2.0


def test_a_skewed_expert_rank_keeps_more() -> None:
    model = load_model("deepseek-v3")
    even, skewed = (activation_bytes_per_token(model, False, "none", "bf16", share) for share in (1.0, 2.0))
    assert skewed > even
    assert activation_bytes_per_token(model, True, "none", "bf16", 2.0) == activation_bytes_per_token(
        model, True, "none", "bf16", 1.0
    )


def test_schedules_hold_what_they_publish() -> None:
    layout = Layout(1, 1, 8, 1, 20, (1,) * 8)
    assert [in_flight("1f1b", stage, layout) for stage in range(8)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert {in_flight("gpipe", stage, layout) for stage in range(8)} == {20}
    assert {in_flight("dualpipe", stage, layout) for stage in range(8)} == {9}
    twice = Layout(1, 1, 4, 1, 8, (1,) * 8, 2)
    assert [in_flight("interleaved", stage, twice) for stage in range(4)] == [11, 9, 7, 5]
    assert in_flight("interleaved", 0, Layout(1, 1, 4, 1, 4, (1,) * 8, 2)) == 8
    few = Layout(1, 1, 8, 1, 3, (1,) * 8)
    assert {in_flight(schedule, 0, few) for schedule in ("1f1b", "gpipe", "dualpipe")} == {3}


def test_dualpipe_holds_two_stages_of_parameters() -> None:
    model = load_model("deepseek-v3")
    layout = laid_out(model)
    one, two = train(model, layout), train(model, layout, schedule="dualpipe")
    for stage in range(4):
        assert two[stage].items["weights"] == pytest.approx(
            one[stage].items["weights"] + one[3 - stage].items["weights"]
        )
        shared = (one[stage].items["optimizer"] + one[3 - stage].items["optimizer"]) / 2  # both holders take a half
        assert two[stage].items["optimizer"] == pytest.approx(shared)


@pytest.mark.parametrize("zero", [0, 1])
def test_interleaved_ranks_hold_every_pipeline_th_part(zero: int) -> None:
    """Eight parts on four ranks: rank r has what ranks r and r + 4 of an eight-stage pipeline have."""
    model = load_model("deepseek-v3")
    layers = split_layers([1.0] * model.layers, 0.0, 8)
    eight = train(model, Layout(1, 16, 8, 8, 16, layers), zero=zero)
    four = train(model, Layout(1, 16, 4, 8, 16, layers, 2), schedule="interleaved", zero=zero)
    assert len(four) == 4
    for stage, use in enumerate(four):
        for item in ("weights", "gradients", "optimizer", "logits"):
            assert use.items[item] == pytest.approx(eight[stage].items[item] + eight[stage + 4].items[item])
    assert four[0].items["logits"] == 0.0 < four[3].items["logits"]


def test_interleaved_activations_by_hand() -> None:
    """Full recomputation keeps layer inputs; the first of two ranks holds 2 + 2 + 1 chunks of two layers each."""
    model = load_model("llama-3-8b")
    layout = Layout(1, 1, 2, 1, 8, (2, 2, 2, 2), 2)
    first, last = train(model, layout, schedule="interleaved", recompute="full", tokens=100.0)
    assert first.items["activations"] == 5 * 2 * 100.0 * model.hidden * 2.0
    assert last.items["activations"] == 3 * 2 * 100.0 * model.hidden * 2.0


def test_tensor_parallel_ranks_share_activations() -> None:
    model = load_model("llama-3-8b")
    one, four = (train(model, laid_out(model, tensor=size, expert=1))[0] for size in (1, 4))
    assert four.items["activations"] == pytest.approx(one.items["activations"] / 4)


def test_serving_items_sum_and_experts_count_slots() -> None:
    model = load_model("deepseek-v3")
    counts = parameters(model)
    layout = Layout(1, 64, 1, 64, 1, (61,))

    def use(slots: int, shared_ranks: int = 0) -> MemoryUse:
        (found,) = serving_memory(model, counts, layout, "fp8", 3 * GIB, slots, 256.0, 1.2, 80 * GIB, shared_ranks)
        assert found.total_bytes == pytest.approx(sum(found.items.values()))
        return found

    assert use(4).items["kv cache"] == 3 * GIB
    assert use(5).items["routed experts"] == pytest.approx(1.25 * use(4).items["routed experts"])
    assert use(4).items["routed experts"] == 58 * counts.expert * 4 * 1.0
    assert use(4, shared_ranks=8).items["weights"] < use(4).items["weights"]
