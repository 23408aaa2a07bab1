"""Pipeline schedules that do not fit the plan: one line per problem on standard error, exit code 2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INTERLEAVED = ["plan.schedule=interleaved", "plan.virtual_stages=2"]
CASES: list[tuple[str, list[str], list[str]]] = [
    ("training", ["plan.virtual_stages=2"], ["plan.virtual_stages = 2: schedule '1f1b' has 1 part per rank; use 1"]),
    ("training", ["plan.virtual_stages=0"], ["plan.virtual_stages = 0"]),
    ("training", ["plan.virtual_stages=1000000"], ["plan.virtual_stages = 1000000"]),
    (
        "training",
        ["plan.schedule=interleaved"],
        ["plan.virtual_stages = 1: schedule 'interleaved' needs several parts"],
    ),
    ("training", [INTERLEAVED[0], "plan.pipeline=1"], ["plan.virtual_stages = 1", "plan.pipeline = 1"]),
    ("training", [*INTERLEAVED, "plan.virtual_stages=4"], ["4 layers would split into 8 parts; use at most 3"]),
    (
        "training",
        [*INTERLEAVED, "plan.virtual_stages=4", "plan.tensor=3"],
        ["TP 3 x PP 2", "plan.tensor = 3", "plan.virtual_stages = 4"],
    ),
    ("training", [*INTERLEAVED, "plan.layers_per_stage=[2, 2]"], ["must be 4 numbers from 0 that add up to 4"]),
    ("training", [*INTERLEAVED, "workload.global_batch_sequences=24"], ["3 micro-batches are not a multiple of 2"]),
    ("decode", ["plan.virtual_stages=2"], ["plan.virtual_stages = 2"]),
    (
        "training",
        ["plan.schedule=dualpipe-v", "plan.virtual_stages=3"],
        ["plan.virtual_stages = 3: schedule 'dualpipe-v' has 2 part"],
    ),
    ("training", ["plan.schedule=dualpipe-v", "plan.pipeline=1"], ["plan.pipeline = 1: schedule 'dualpipe-v' folds"]),
    (
        "training",
        ["plan.schedule=1f1b-overlap", "plan.virtual_stages=2", "plan.pipeline=1"],
        ["plan.virtual_stages = 2: one stage has one part"],
    ),
]


@pytest.mark.parametrize(("phase", "settings", "places"), CASES, ids=[f"{p}-{' '.join(s)}" for p, s, _ in CASES])
def test_every_misfit_of_schedule_and_plan_has_its_line(
    epsim: Callable[..., Any], small_file: Callable[..., Path], phase: str, settings: list[str], places: list[str]
) -> None:
    outcome = epsim("run", small_file(phase), *(part for setting in settings for part in ("--set", setting)))
    assert outcome.code == 2
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("hint: the nearest plan that ")]
    assert len(lines) == len(places), outcome.err
    for line, place in zip(lines, places, strict=True):
        assert line.startswith("error: ")
        assert place in line
