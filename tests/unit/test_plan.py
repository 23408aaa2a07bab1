import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import UserError
from simulator.plan import Layout, batch_problems, layout, split_layers, split_parts, tile_problems

PLANS = [
    Layout(1, 8, 2, 4, 1, (1, 1)),
    Layout(2, 8, 4, 8, 3, (1, 1, 1, 1)),
    Layout(4, 4, 1, 16, 1, (4,)),
    Layout(1, 1, 1, 1, 1, (1,)),
]


def place(**changes: object) -> Layout:
    values: dict[str, object] = {
        "ranks": 32,
        "tensor": 2,
        "pipeline": 4,
        "expert": 8,
        "data": None,
        "layer_costs": [1.0] * 10,
        "head_cost": 0.0,
        "heads": 16,
        "global_batch": 64,
        "micro_batch": 2,
    }
    return layout(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", ["tensor_groups", "data_groups", "expert_rank_groups", "expert_data_groups"])
def test_groups_partition_the_ranks(plan: Layout, kind: str) -> None:
    groups = getattr(plan, kind)()
    assert sorted(groups.ravel().tolist()) == list(range(plan.ranks))
    sizes = {
        "tensor_groups": plan.tensor,
        "data_groups": plan.data,
        "expert_rank_groups": plan.expert,
        "expert_data_groups": plan.expert_groups,
    }
    assert groups.shape[1] == sizes[kind]


def test_ranks_are_numbered_tp_then_dp_then_pp() -> None:
    plan = Layout(2, 4, 2, 4, 1, (1, 1))
    assert plan.tensor_groups()[:2].tolist() == [[0, 1], [2, 3]]
    assert plan.data_groups()[:2].tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert plan.expert_rank_groups()[:2].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert plan.expert_data_groups()[:2].tolist() == [[0, 4], [1, 5]]
    source, target = plan.stage_pairs()
    np.testing.assert_array_equal(target - source, 8)
    assert source.tolist() == list(range(8))


def test_virtual_stages_come_round_to_the_first_stage() -> None:
    plan = Layout(1, 2, 3, 1, 3, (1, 2, 3, 4, 5, 6), 2)
    assert [list(plan.parts_of(stage)) for stage in range(3)] == [[0, 3], [1, 4], [2, 5]]
    assert [*itertools.chain.from_iterable(map(plan.layers_of, range(6)))] == list(range(21))
    assert plan.layers_of(3) == range(6, 10)
    source, target = plan.stage_pairs()
    assert [*zip(source.tolist(), target.tolist(), strict=True)] == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 0), (5, 1)]


@pytest.mark.parametrize("plan", PLANS)
def test_groups_stay_on_their_stage(plan: Layout) -> None:
    for groups in (plan.tensor_groups(), plan.data_groups(), plan.expert_rank_groups(), plan.expert_data_groups()):
        stages = groups // plan.stage_ranks
        assert (stages == stages[:, :1]).all()


@pytest.mark.parametrize(("layers", "stages"), [(8, 4), (61, 1), (60, 12), (4, 4)])
def test_layers_that_divide_are_split_evenly(layers: int, stages: int) -> None:
    assert split_layers([1.0] * layers, 100.0, stages) == (layers // stages,) * stages


def test_the_stage_with_the_head_is_the_short_one() -> None:
    assert split_layers([1.0] * 11, 1.0, 4) == (3, 3, 3, 2)
    assert split_layers([1.0] * 7, 5.0, 2) == (6, 1)


def test_cheap_layers_crowd_together() -> None:
    assert split_layers([0.1, 0.1, 0.1, 1.0, 1.0], 0.0, 2) == (4, 1)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=9), st.floats(0.0, 20.0), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_no_other_split_has_a_cheaper_worst_stage(costs: list[float], head_cost: float, stages: int) -> None:
    stages = min(stages, len(costs))
    found = split_layers(costs, head_cost, stages)
    assert len(found) == stages
    assert sum(found) == len(costs)
    assert min(found) >= 1

    def worst(split: tuple[int, ...]) -> float:
        bounds = [0, *itertools.accumulate(split)]
        sums = [sum(costs[first:end]) for first, end in itertools.pairwise(bounds)]
        return max([*sums[:-1], sums[-1] + head_cost])

    if len(costs) % stages:
        cuts = itertools.combinations(range(1, len(costs)), stages - 1)
        splits = [tuple(b - a for a, b in itertools.pairwise((0, *cut, len(costs)))) for cut in cuts]
        assert worst(found) == pytest.approx(min(map(worst, splits)))


def test_a_plan_that_tiles() -> None:
    plan = place()
    assert (plan.tensor, plan.data, plan.pipeline, plan.expert) == (2, 4, 4, 8)
    assert plan.micro_batches == 64 // (4 * 2)
    assert sorted(plan.stage_layers) == [2, 2, 3, 3]
    assert plan.ranks == 32
    assert place(global_batch=None).micro_batches == 1
    assert place(stage_layers=(1, 1, 1, 7)).stage_layers == (1, 1, 1, 7)
    assert place(data=4) == plan
    parts = place(virtual_stages=2).stage_layers
    assert [parts[rank] + parts[rank + 4] for rank in range(4)] == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ranks": 36}, "TP 2 x PP 4 does not tile 36 ranks; use a multiple of 8 ranks (for example 32)"),
        ({"ranks": 4}, "does not tile 4 ranks; use a multiple of 8 ranks (for example 8)"),
        ({"data": 3}, "plan.data = 3: TP 2 x PP 4 x DP 3 is 24, not the 32 ranks; use data = 4"),
        ({"expert": 3}, "plan.expert = 3: EP 3 does not tile the 8 ranks of a stage (TP x DP); use 2"),
        ({"heads": 15}, "plan.tensor = 2: 15 attention heads do not divide by it; use 1"),
        ({"layer_costs": [1.0] * 3}, "plan.pipeline = 4: the model has only 3 layers; use at most 3 stages"),
        (
            {"layer_costs": [1.0] * 13, "virtual_stages": 4},
            "plan.virtual_stages = 4: with PP 4 the model's 13 layers would split into 16 parts; use at most 3",
        ),
        ({"stage_layers": (4, 2, 2, 2), "virtual_stages": 2}, "must be 8 numbers from 0 that add up to 10"),
        ({"global_batch": 800_000, "virtual_stages": 2}, "800000 chunks of micro-batches and stages"),
        ({"global_batch": 60}, "workload.global_batch_sequences = 60: not a multiple of DP 4 x micro-batch 2 = 8; use"),
        ({"stage_layers": (4, 4)}, "plan.layers_per_stage = [4, 4]: must be 4 numbers from 0 that add up to 10"),
        ({"stage_layers": (11, -3, 1, 1)}, "plan.layers_per_stage = [11, -3, 1, 1]: must be 4 numbers from 0"),
        ({"stage_layers": ()}, "plan.layers_per_stage = []: must be 4 numbers from 0"),
    ],
)
def test_a_plan_that_does_not_tile_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as refused:
        place(**changes)
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]


def test_all_failed_checks_at_once() -> None:
    with pytest.raises(UserError) as refused:
        place(ranks=36, heads=15, layer_costs=[1.0] * 3, stage_layers=(1, 1))
    assert len(refused.value.problems) == 4
    with pytest.raises(UserError) as refused:
        place(ranks=36, heads=15, virtual_stages=4, stage_layers=(1, 1))
    assert len(refused.value.problems) == 4


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 63, 65, 1000])
def test_the_suggested_batch_is_accepted(batch: int) -> None:
    problems = list(batch_problems(batch, 4, 2))
    if batch % 8 == 0:
        assert problems == []
        return
    suggested = int(problems[0].rsplit(" ", 1)[1])
    assert list(batch_problems(suggested, 4, 2)) == []


@pytest.mark.parametrize("expert", [3, 5, 7, 48, 100])
def test_the_suggested_expert_size_is_accepted(expert: int) -> None:
    problems = list(tile_problems(32, 2, 1, 1, expert, None, 8, 16))
    suggested = int(problems[0].rsplit(" ", 1)[1])
    assert list(tile_problems(32, 2, 1, 1, suggested, None, 8, 16)) == []


@pytest.mark.parametrize(("layers", "parts", "split"), [(3, 4, (1, 1, 1, 0)), (2, 4, (0, 1, 1, 0))])
def test_embedding_and_head_may_have_parts_of_their_own(layers: int, parts: int, split: tuple[int, ...]) -> None:
    assert split_layers([1.0] * layers, 2.0, parts) == split


@pytest.mark.parametrize("folded", [False, True])
@given(st.integers(2, 6), st.integers(8, 40), st.floats(0.0, 3.0))
def test_ranks_with_several_parts_hold_alike(folded: bool, ranks: int, layers: int, head: float) -> None:
    parts = np.array(split_parts([1.0] * layers, head, ranks, 2, folded=folded))
    assert parts.sum() == layers
    held = parts[:ranks] + (parts[::-1][:ranks] if folded else parts[ranks:])
    work = held.astype(float)
    work[0 if folded else -1] += head
    if layers % (2 * ranks) and 2 * ranks <= layers:
        assert work.max() - work.min() <= 1.0 + 1e-9
        assert np.abs(parts[:ranks] - (parts[::-1][:ranks] if folded else parts[ranks:])).max() <= 1
