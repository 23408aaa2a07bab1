"""Pipeline schedules against published makespans, in units of one forward.

A forward takes 1, a backward 2 (1 for the input gradient and 1 for the weight gradient), an overlapped pair 3, and
nothing is sent. Source of the closed forms: arXiv:2412.19437 Table 2, arXiv:2401.10241 Table 1; the integers are those
of the public simulators of each schedule.
"""

from collections.abc import Callable

import numpy as np
import pytest

from simulator.analytic.longest_path import longest_path
from simulator.engine.execute import execute
from simulator.errors import UserError
from simulator.program import PART_INDEX, Program, attribute, part
from simulator.schedules import SCHEDULES, pipeline_program, rank_orders

UNITS = {"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0, "FB": 3.0}
EVALUATORS: list[Callable[[Program], tuple[np.ndarray, np.ndarray]]] = [longest_path, execute]


def program(schedule: str, stages: int, micro_batches: int, hop_s: float = 0.0, virtual_stages: int = 1) -> Program:
    times = {
        kind: np.broadcast_to(part("compute", time_s), (stages * virtual_stages, micro_batches, len(PART_INDEX)))
        for kind, time_s in UNITS.items()
    }
    return pipeline_program(rank_orders(schedule, stages, micro_batches, virtual_stages), times, hop_s)


@pytest.mark.parametrize("evaluate", EVALUATORS)
@pytest.mark.parametrize(
    ("schedule", "stages", "virtual_stages", "micro_batches", "makespan", "idle"),
    [
        ("1f1b", 4, 1, 8, 33, 0.2727),
        ("1f1b", 16, 1, 120, 405, 45 / 405),
        ("gpipe", 4, 1, 8, 33, 0.2727),
        ("gpipe", 16, 1, 120, 405, 45 / 405),
        ("dualpipe", 8, 1, 20, 66, 0.0909),
        ("dualpipe", 16, 1, 120, 374, 14 / 374),
        ("interleaved", 4, 2, 8, 57, 0.1579),
    ],
)
def test_published_makespans(
    evaluate: Callable[[Program], tuple[np.ndarray, np.ndarray]],
    schedule: str,
    stages: int,
    virtual_stages: int,
    micro_batches: int,
    makespan: int,
    idle: float,
) -> None:
    pipeline = program(schedule, stages, micro_batches, virtual_stages=virtual_stages)
    start_s, end_s = evaluate(pipeline)
    assert end_s.max() == makespan
    parts = np.mean([attribute(pipeline, start_s, end_s, stage) for stage in range(stages)], axis=0)
    assert parts.sum() == pytest.approx(makespan)
    assert parts[PART_INDEX["bubble"]] / makespan == pytest.approx(idle, abs=5e-5)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("micro_batches", [1, 2, 7, 16])
def test_closed_form_of_one_direction(schedule: str, stages: int, micro_batches: int) -> None:
    """m (F + B) + (p - 1) (F + B), for any number of micro-batches."""
    assert longest_path(program(schedule, stages, micro_batches))[1].max() == 3 * (micro_batches + stages - 1)


@pytest.mark.parametrize("stages", [2, 3, 4, 8])
@pytest.mark.parametrize("virtual_stages", [2, 3, 7])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_closed_form_of_interleaved(stages: int, virtual_stages: int, groups: int) -> None:
    """(v m + p - 1) (F + B), so a share (p - 1) / (v m + p - 1) is bubble (arXiv:2104.04473 section 2.2.2)."""
    micro_batches = groups * stages
    makespan = longest_path(program("interleaved", stages, micro_batches, 0.0, virtual_stages))[1].max()
    assert makespan == 3 * (virtual_stages * micro_batches + stages - 1)


@pytest.mark.parametrize("stages", [2, 4, 6, 8, 16])
@pytest.mark.parametrize("more", [0, 2, 6])
def test_closed_form_of_dualpipe(stages: int, more: int) -> None:
    """3 m + (p / 2 - 1) (FB + B - 3 W)."""
    micro_batches = 2 * stages + more
    makespan = longest_path(program("dualpipe", stages, micro_batches))[1].max()
    assert makespan == 3 * micro_batches + (stages // 2 - 1) * (3 + 2 - 3)


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_transfers_delay_a_single_micro_batch_by_every_hop(stages: int) -> None:
    assert longest_path(program("1f1b", stages, 1, hop_s=0.25))[1].max() == 3 * stages + 2 * (stages - 1) * 0.25


@pytest.mark.parametrize(("stages", "micro_batches"), [(3, 12), (4, 7), (4, 6), (8, 14)])
def test_dualpipe_refuses_what_it_can_not_schedule(stages: int, micro_batches: int) -> None:
    with pytest.raises(UserError, match=r"plan\.schedule = dualpipe"):
        SCHEDULES["dualpipe"](stages, micro_batches)
