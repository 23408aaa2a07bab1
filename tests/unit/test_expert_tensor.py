"""Experts split over ETP ranks: who holds what, and that nothing is lost or computed twice."""

import numpy as np
import pytest

from simulator.errors import UserError
from simulator.phase.layers import Share, layer_times
from simulator.phase.setup import Setup, setup
from simulator.phase.training import stage_parameters, training_step
from simulator.plan import Layout
from simulator.program import PART_INDEX
from simulator.scenario_file import validate
from workloads.operators import Precision


def resolved(expert: int, expert_tensor: int, **changes: object) -> Setup:
    table = {
        "model": {"name": "mixtral-8x7b", "layers": 4},
        "cluster": {"name": "dgx-h100-superpod", "chips": 16},
        "workload": {"phase": "training", "sequence_tokens": 4096, "global_batch_sequences": 8},
        "plan": {"tensor": 4, "expert": expert, "expert_tensor": expert_tensor, **changes},
        "routing": {"kind": "balanced"},
    }
    return setup(validate(table, "test"))


def test_groups_tile_the_ranks() -> None:
    layout = Layout(4, 4, 2, 2, 1, (1, 1), expert_tensor=4)
    assert layout.expert_groups == 2
    for groups in (layout.expert_rank_groups(), layout.expert_tensor_groups(), layout.expert_data_groups()):
        assert sorted(groups.ravel()) == list(range(32))
    assert layout.expert_tensor_groups()[0].tolist() == [0, 1, 2, 3]
    assert layout.expert_rank_groups()[0].tolist() == [0, 4]
    assert layout.expert_data_groups()[0].tolist() == [0, 8]


@pytest.mark.parametrize(("expert", "expert_tensor"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_each_rank_holds_and_computes_an_equal_part_of_the_experts(expert: int, expert_tensor: int) -> None:
    given, other = resolved(expert, expert_tensor), resolved(8, 1)
    assert stage_parameters(given, 0) == stage_parameters(other, 0)

    def compute_s(one: Setup) -> float:
        share = Share(4096.0, 4096.0, 1, "training_forward", Precision(), "bf16", "bf16")
        routed = one.routed(1024.0, 2.0, 1)
        times = layer_times(one.model, one.machine, one.layout, share, routed, one.paths)
        assert routed is not None
        assert routed.slot_tokens.sum() == pytest.approx(4 * 2 * 1024 * expert * expert_tensor)
        return float(np.sum(times.experts[..., PART_INDEX["compute"]]))

    assert compute_s(given) == pytest.approx(compute_s(other), rel=0.02)


def test_gathering_takes_time_and_dispatch_falls() -> None:
    whole, split = training_step(resolved(8, 1), False), training_step(resolved(2, 4), False)
    spent = {
        name: [float(step.times["F"][..., PART_INDEX[name]].sum()) for step in (whole, split)] for name in PART_INDEX
    }
    assert spent["tensor_parallel"][1] > spent["tensor_parallel"][0]
    assert spent["dispatch"][1] < spent["dispatch"][0]


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(UserError, match=r"EP 8 x ETP 4 does not tile the 16 ranks"):
        resolved(8, 4)
    table = {
        "model": {"name": "llama3-8b"},
        "cluster": {"name": "dgx-h100-superpod", "chips": 8},
        "workload": {"phase": "training", "sequence_tokens": 4096, "global_batch_sequences": 8},
        "plan": {"tensor": 4, "expert_tensor": 2},
    }
    with pytest.raises(UserError, match=r"plan.expert_tensor = 2: .* has no routed experts; use 1"):
        setup(validate(table, "test"))
