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
from simulator.phase.pipeline import pipeline_program
from simulator.program import PART_INDEX, Program, attribute, part
from simulator.schedules.table import SCHEDULES, rank_orders

UNITS = {"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0, "FB": 3.0}
EVALUATORS: list[Callable[[Program], tuple[np.ndarray, np.ndarray]]] = [longest_path, execute]


def program(schedule: str, stages: int, micro_batches: int, hop_s: float = 0.0, virtual_stages: int = 1) -> Program:
    parts = stages * virtual_stages
    times = {
        kind: np.broadcast_to(
            part("compute", time_s), (parts, *[virtual_stages] * (kind == "FB"), micro_batches, len(PART_INDEX))
        )
        for kind, time_s in UNITS.items()
    }
    orders = rank_orders(schedule, stages, micro_batches, virtual_stages)
    return pipeline_program(SCHEDULES[schedule], orders, times, hop_s)


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
        ("zb-h1", 4, 1, 8, 27, 0.1111),
        ("zb-h1", 16, 1, 120, 375, 15 / 375),
        ("dualpipe-v", 4, 2, 10, 66, 0.0909),
        ("dualpipe-v", 8, 2, 60, 374, 14 / 374),
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
    parts = attribute(pipeline, start_s, end_s, range(stages)).mean(axis=0)
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
        rank_orders("dualpipe", stages, micro_batches)


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 4), (4, 8), (8, 20), (16, 120)])
def test_zb_h2_leaves_no_stage_waiting_once_it_has_begun(stages: int, micro_batches: int) -> None:
    pipeline = program("zb-h2", stages, micro_batches)
    start_s, end_s = longest_path(pipeline)
    assert end_s.max() == 3 * micro_batches + stages - 1
    parts = attribute(pipeline, start_s, end_s, range(stages), skewed=True)
    np.testing.assert_array_equal(parts.sum(axis=1), 3.0 * micro_batches)
    np.testing.assert_array_equal(parts[:, PART_INDEX["bubble"]], 0.0)


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 4), (4, 12), (16, 120)])
def test_overlapped_pairs_warm_up_twice_as_long(stages: int, micro_batches: int) -> None:
    """With pairs as long as both halves, the price of 2 (p - 1) + 1 forwards that run alone, and as many backwards."""
    _, end_s = longest_path(program("1f1b-overlap", stages, micro_batches))
    assert end_s.max() == 3 * micro_batches + 3 * (stages - 1)


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 7), (2, 3)])
def test_dualpipe_v_refuses_too_few_micro_batches(stages: int, micro_batches: int) -> None:
    with pytest.raises(UserError, match=r"plan\.schedule = dualpipe-v"):
        rank_orders("dualpipe-v", stages, micro_batches)
