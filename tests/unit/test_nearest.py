"""Plans that fail are answered with the nearest that runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import UserError
from simulator.run import run
from simulator.scenario import Scenario
from simulator.study.nearest import nearest, simulate_or_suggest

Small = Callable[..., Scenario]


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (["plan.pipeline=3"], {"pipeline": 2}),  # 4 is nearer, but EP 8 does not tile its stages
        (["plan.expert=7"], {"expert": 8}),
        (["plan.tensor=3"], {"tensor": 4}),
        (["plan.data=5"], {"data": None}),
        (["plan.layers_per_stage=[1, 1]"], {"layers_per_stage": None}),
        (["plan.zero=3"], {"zero": 1}),
        (["plan.schedule=interleaved"], {"schedule": "1f1b"}),
        (["plan.micro_batch_sequences=64"], {"micro_batch_sequences": 8}),
    ],
)
def test_one_wrong_value_is_mended(small: Small, settings: list[str], changes: dict[str, object]) -> None:
    asked = small("training", *settings)
    with pytest.raises(UserError):
        run(asked)
    found = nearest(asked)
    assert found is not None
    assert found.changes == changes
    assert run(asked.model_copy(update={"plan": asked.plan.model_copy(update=found.changes)})).step_s == found.step_s


def test_a_plan_that_runs_is_run(small: Small) -> None:
    asked = small("training")
    assert simulate_or_suggest(asked).result == run(asked)


def test_too_much_memory_is_answered_with_one_that_fits(small: Small) -> None:
    asked = small("training", "workload.sequence_tokens=262144", "model.layers=12")
    with pytest.raises(UserError) as caught:
        simulate_or_suggest(asked)
    assert caught.value.problems[0].startswith("memory: does not fit")
    assert "--set plan." in caught.value.hint
    found = nearest(asked)
    assert found is not None
    run(asked.model_copy(update={"plan": asked.plan.model_copy(update=found.changes)}))


def test_nothing_is_suggested_where_no_plan_helps(small: Small) -> None:
    assert nearest(small("training", "model.name=nothing")) is None
    assert nearest(small("decode", "plan.expert=7")) is None
    assert nearest(small("training", "workload.sequence_tokens=1073741824", "plan.context=1")) is None


def test_all_failed_checks_at_once(small: Small) -> None:
    with pytest.raises(UserError) as caught:
        run(small("training", "plan.tensor=3", "plan.schedule=interleaved", "plan.zero=2", "routing.holdout=0.5"))
    text = str(caught.value)
    for words in ("plan.zero = 2", "plan.virtual_stages = 1", "routing.holdout", "does not tile", "attention heads"):
        assert words in text


def test_the_command_line_gives_it_as_a_hint(epsim: Callable[..., Any], small_file: Callable[..., Path]) -> None:
    ran = epsim("run", small_file("training"), "--set", "plan.expert=7")
    assert ran.code == 2
    assert [line.partition(":")[0] for line in ran.err.splitlines()] == ["error", "hint"]
    assert "--set plan.expert=8 (step" in ran.err
