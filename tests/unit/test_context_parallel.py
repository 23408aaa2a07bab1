"""Context parallelism: the work of a sequence is shared out whole, and only what attention does not hide is exposed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulator.phase.context_parallel import context_parallel_s
from simulator.phase.setup import setup
from simulator.plan import Layout
from simulator.run import run
from simulator.scenario_file import load_scenario
from workloads.models import load_model
from workloads.operators import attention_operators

OWN = ("plan.schedule=1f1b", "workload.sequence_tokens=32768", "workload.global_batch_sequences=1920")


def at(context: int, exchange: str = "ring") -> Any:
    sizes = (f"plan.context={context}", f"plan.context_exchange={exchange}")
    return load_scenario("dsv3-train-h800", (*OWN, *sizes))


@pytest.mark.parametrize("model", ["deepseek-v3", "llama-3.1-405b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("phase", ["training_forward", "training_backward"])
@pytest.mark.parametrize("cp", [2, 4, 8])
def test_all_ranks_together_do_the_work_of_one(model: str, phase: Any, cp: int) -> None:
    spec = load_model(model)
    alone = attention_operators(spec, 8192.0, 8192.0, 1.0, phase)
    share = attention_operators(spec, 8192.0 / cp, 8192.0, 1.0, phase, cp=cp)
    np.testing.assert_allclose(cp * share.flop.sum(), alone.flop.sum(), rtol=1e-12)


def test_groups_lie_between_tensor_and_data() -> None:
    plan = Layout(2, 2, 1, 4, 1, (1,), context=4)
    assert plan.ranks == 16
    assert plan.context_groups().tolist() == [[0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15]]
    assert plan.data_groups().tolist() == [list(range(0, 16, 2)), list(range(1, 16, 2))]
    assert plan.expert_groups == 4
    assert sorted(plan.context_groups().ravel().tolist()) == list(range(16))


@pytest.mark.parametrize("exchange", ["ring", "all-to-all"])
def test_a_ring_hides_behind_attention_and_an_all_to_all_does_not(exchange: str) -> None:
    resolved = setup(at(4, exchange))
    tokens = 32768 / 4
    times = [
        context_parallel_s(resolved.model, resolved.machine, resolved.layout, tokens, False, core_s)
        for core_s in (0.0, 0.01, 10.0)
    ]
    if exchange == "all-to-all":
        assert times[0] == times[1] == times[2] > 0
        return
    assert times[0] > times[1] >= times[2] == 0
    assert times[1] == pytest.approx(max(times[0] - 3 * 0.01 / 4, 0.0))


def test_a_ring_passes_every_share_but_its_own_once() -> None:
    resolved = setup(at(4))
    attention, tokens = resolved.model.attention, 32768 / 4
    passed = 3 * tokens * attention.heads * (attention.head_dim + attention.v_dim) * 2.0
    port = resolved.machine.network.planes[0].port_bytes_per_s[0]
    found = context_parallel_s(resolved.model, resolved.machine, resolved.layout, tokens, False, 0.0)
    assert found > passed / port
    assert found < 2 * passed / port
    back = context_parallel_s(resolved.model, resolved.machine, resolved.layout, tokens, True, 0.0)
    assert 1.9 < back / found <= 2.0


def test_activations_shrink_with_the_share_of_the_sequence() -> None:
    one, four = (run(at(context), allow_oom=True) for context in (1, 4))
    assert four.memory[0].items["activations"] == pytest.approx(one.memory[0].items["activations"] / 4, rel=0.3)
    assert four.plan["CP"] == 4
    assert four.tokens_per_step == one.tokens_per_step


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["plan.context=16", "plan.pipeline=2"], "CP 16 x PP 2 does not tile"),
        (["plan.context=2", "workload.sequence_tokens=1022"], "1022 tokens do not split into 2 x 2 equal shares"),
        (
            ["cluster.chips=32", "plan.context=32", "plan.context_exchange=all-to-all", "plan.pipeline=1"],
            "attention heads do not divide",
        ),
    ],
)
def test_misfits_have_a_line(
    epsim: Callable[..., Any], small_file: Callable[..., Any], settings: list[str], said: str
) -> None:
    outcome = epsim("run", small_file("training"), *(part for each in settings for part in ("--set", each)))
    assert outcome.code == 2
    assert said in outcome.err
    assert all(line.startswith(("error: ", "hint: ")) for line in outcome.err.splitlines())


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_serving_has_none(epsim: Callable[..., Any], small_file: Callable[..., Any], phase: str) -> None:
    outcome = epsim("run", small_file(phase), "--set", "plan.context=2")
    assert outcome.code == 2
    assert f"{phase} runs without context parallelism" in outcome.err
