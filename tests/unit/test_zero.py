"""ZeRO-2 and ZeRO-3: what is sharded, what travels, and what compute hides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simulator.cost.collectives import collective
from simulator.cost.memory import GRADIENT_BYTES, WEIGHT_BYTES
from simulator.phase.setup import Setup, setup
from simulator.phase.sharded import sharded_parts
from simulator.program import PART_INDEX
from simulator.result import PARTS, Result
from simulator.run import run
from simulator.scenario_file import load_scenario

DENSE = (
    "model.name=llama-3.1-8b",
    "plan.expert=1",
    "plan.pipeline=1",
    "plan.schedule=1f1b",
    "cluster.chips=64",
    "workload.global_batch_sequences=256",
)


def asked(zero: int, *more: str) -> Any:
    return load_scenario("dsv3-train-h800", (*DENSE, f"plan.zero={zero}", *more))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run(asked(zero), allow_oom=True) for zero in range(4)]


def test_each_stage_shards_more(results: list[Result]) -> None:
    shards = 64
    items = [result.memory[0].items for result in results]
    parameters = items[0]["weights"] / WEIGHT_BYTES
    for zero, held in enumerate(items):
        assert held["optimizer"] == pytest.approx(12 * parameters / (shards if zero >= 1 else 1))
        assert held["gradients"] == pytest.approx(GRADIENT_BYTES * parameters / (shards if zero >= 2 else 1))
        assert held["weights"] == pytest.approx(WEIGHT_BYTES * parameters / (shards if zero >= 3 else 1))
        assert ("gathered weights" in held) == (zero == 3)


def exposed(resolved: Setup, compute_s: float) -> dict[str, float]:
    """Exposed time with every layer and the LM head computing for so long."""
    layers = resolved.model.layers
    blocks = np.zeros((4, 1, layers, len(PARTS)))
    blocks[0, ..., PART_INDEX["compute"]] = compute_s
    ends = np.zeros((1, 1, len(PARTS)))
    ends[..., PART_INDEX["compute"]] = compute_s
    found = sharded_parts(resolved, {"F": blocks, "B": blocks}, {"F": ends, "B": ends})
    return {kind: float(rows.sum()) for kind, rows in found.items()}


def test_with_nothing_to_hide_behind_every_weight_travels_three_times() -> None:
    """Gathered forwards and backwards, scattered once: 3 x parameters x 2 bytes (arXiv:1910.02054 section 7.2)."""
    resolved = setup(asked(3))
    found = exposed(resolved, 0.0)
    network, groups = resolved.machine.network, resolved.layout.data_groups()
    whole = resolved.counts.total * WEIGHT_BYTES
    gather_s = collective(network, groups, "all_gather", whole).bandwidth_s
    scatter_s = collective(network, groups, "reduce_scatter", whole).bandwidth_s
    assert found["F"] > gather_s
    assert found["B"] > gather_s + scatter_s
    assert sum(found.values()) == pytest.approx(2 * gather_s + scatter_s, rel=0.3)


def test_long_layers_hide_all_but_the_first_gather_and_the_last_scatter() -> None:
    resolved = setup(asked(3))
    bare, hidden = exposed(resolved, 0.0), exposed(resolved, 1e3)
    assert 0 < hidden["F"] < bare["F"] / 10
    assert 0 < hidden["B"] < bare["B"] / 10
    assert exposed(resolved, 1e6) == hidden


def test_zero_2_gathers_weights_once_a_step(results: list[Result]) -> None:
    assert exposed(setup(asked(2)), 0.0)["F"] == 0.0
    assert results[2].breakdown_s["data_parallel"] < results[1].breakdown_s["data_parallel"]


def test_more_micro_batches_cost_zero_3_more_traffic() -> None:
    few, many = (
        run(asked(3, f"plan.micro_batch_sequences={size}"), allow_oom=True).breakdown_s["data_parallel"]
        for size in (4, 1)
    )
    assert many > few


@pytest.mark.parametrize("zero", [2, 3])
def test_with_pipeline_stages_it_is_refused(
    epsim: Callable[..., Any], small_file: Callable[..., Any], zero: int
) -> None:
    outcome = epsim("run", small_file("training"), "--set", f"plan.zero={zero}")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: plan.zero = {zero}: ")
