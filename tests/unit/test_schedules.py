import itertools
from collections import Counter

import numpy as np
import pytest

from simulator.cost.memory import in_flight
from simulator.errors import UserError
from simulator.phase.pipeline import pipeline_program
from simulator.plan import Layout
from simulator.program import PART_INDEX, part
from simulator.schedules.chunk import Chunk
from simulator.schedules.dualpipe import dualpipe
from simulator.schedules.one_way import gpipe, interleaved, one_f_one_b
from simulator.schedules.table import SCHEDULES, rank_orders

CASES = [
    ("1f1b", 1, 1, 1),
    ("1f1b", 4, 2, 1),
    ("1f1b", 4, 12, 1),
    ("gpipe", 4, 6, 1),
    ("dualpipe", 2, 4, 1),
    ("dualpipe", 6, 14, 1),
    ("dualpipe", 8, 20, 1),
    ("interleaved", 2, 2, 2),
    ("interleaved", 4, 8, 2),
    ("interleaved", 4, 4, 3),
    ("interleaved", 3, 12, 5),
    ("1f1b-overlap", 1, 1, 1),
    ("1f1b-overlap", 1, 5, 1),
    ("1f1b-overlap", 4, 3, 1),
    ("1f1b-overlap", 4, 12, 1),
    ("1f1b-overlap", 4, 8, 2),
    ("1f1b-overlap", 3, 12, 5),
    ("zb-h1", 1, 3, 1),
    ("zb-h1", 4, 2, 1),
    ("zb-h1", 6, 14, 1),
    ("zb-h2", 1, 3, 1),
    ("zb-h2", 4, 20, 1),
    ("zb-h2", 6, 14, 1),
    ("dualpipe-v", 2, 4, 2),
    ("dualpipe-v", 4, 10, 2),
    ("dualpipe-v", 7, 15, 2),
]


def halves(order: list[Chunk]) -> list[tuple[str, int, int, int]]:
    """Split pairs into their forward and backward."""
    done = []
    for chunk in order:
        done.append((chunk.kind[0], chunk.direction, chunk.micro_batch, chunk.turn))
        if chunk.kind == "FB":
            done.append(("B", chunk.paired_direction, chunk.paired_micro_batch, chunk.paired_turn))
    return done


def test_one_f_one_b_by_hand() -> None:
    first, last = one_f_one_b(2, 3)
    assert [(chunk.kind, chunk.micro_batch) for chunk in first] == [
        ("F", 0),
        ("F", 1),
        ("B", 0),
        ("F", 2),
        ("B", 1),
        ("B", 2),
    ]
    assert [chunk.kind for chunk in last] == ["F", "B"] * 3


def test_gpipe_by_hand() -> None:
    assert [[chunk.kind for chunk in order] for order in gpipe(2, 2)] == [["F", "F", "B", "B"]] * 2


@pytest.mark.parametrize(("schedule", "stages", "micro_batches", "virtual_stages"), CASES)
def test_each_rank_runs_every_micro_batch_forward_and_backward_once(
    schedule: str, stages: int, micro_batches: int, virtual_stages: int
) -> None:
    directions = 2 if schedule == "dualpipe" else 1
    wanted = set(itertools.product(range(directions), range(micro_batches // directions), range(virtual_stages)))
    for order in rank_orders(schedule, stages, micro_batches, virtual_stages):
        count = Counter(halves(order))
        assert max(count.values()) == 1
        for kinds in ("F", "BI"):
            assert {chunk[1:] for chunk in count if chunk[0] in kinds} == wanted
        put_off = {chunk[1:] for chunk in count if chunk[0] == "I"}
        assert {chunk[1:] for chunk in count if chunk[0] == "W"} == put_off


@pytest.mark.parametrize(("schedule", "stages", "micro_batches", "virtual_stages"), CASES)
def test_forward_before_backward_before_weight(
    schedule: str, stages: int, micro_batches: int, virtual_stages: int
) -> None:
    for order in rank_orders(schedule, stages, micro_batches, virtual_stages):
        place = {chunk: index for index, chunk in enumerate(halves(order))}
        for (kind, *micro_batch), index in place.items():
            before = {"B": "F", "I": "F", "W": "I"}.get(kind)
            assert before is None or place[(before, *micro_batch)] < index  # type: ignore[index]


@pytest.mark.parametrize(("schedule", "stages", "micro_batches", "virtual_stages"), CASES)
def test_memory_counts_what_the_schedule_keeps(
    schedule: str, stages: int, micro_batches: int, virtual_stages: int
) -> None:
    """The chunks that `cost.memory` charges are the most whose activations a rank's order ever holds."""
    layout = Layout(1, 1, stages, 1, micro_batches, (1,) * stages * virtual_stages, virtual_stages)
    for stage, order in enumerate(rank_orders(schedule, stages, micro_batches, virtual_stages)):
        held = np.cumsum([{"F": 1, "B": -1, "W": -1}.get(kind, 0) for kind, *_ in halves(order)])
        assert held[-1] == 0
        assert held.max() == in_flight(schedule, stage, layout)


def test_interleaved_by_hand() -> None:
    first, last = interleaved(2, 2, 2)
    done = [[(chunk.kind, chunk.turn, chunk.micro_batch) for chunk in order] for order in (first, last)]
    forwards = [("F", 0, 0), ("F", 0, 1), ("F", 1, 0), ("F", 1, 1)]
    backwards = [("B", 1, 0), ("B", 1, 1), ("B", 0, 0), ("B", 0, 1)]
    assert done[0] == forwards + backwards
    assert done[1] == [*forwards[:3], backwards[0], forwards[3], *backwards[1:]]


@pytest.mark.parametrize(("stages", "virtual_stages", "micro_batches"), [(4, 2, 8), (2, 3, 6), (3, 4, 3)])
def test_interleaved_hands_over_from_the_last_rank_to_the_first(
    stages: int, virtual_stages: int, micro_batches: int
) -> None:
    parts = stages * virtual_stages
    times = {kind: np.broadcast_to(part("compute", 1.0), (parts, micro_batches, len(PART_INDEX))) for kind in "FB"}
    program = pipeline_program(
        SCHEDULES["interleaved"], interleaved(stages, micro_batches, virtual_stages), times, hop_s=0.5
    )
    hops = program.parts[:, PART_INDEX["pipeline"]] > 0
    assert (~hops).sum() == 2 * parts * micro_batches
    sent = np.bincount(program.stream[hops], minlength=3 * stages).reshape(3, stages)
    whole, short = virtual_stages * micro_batches, (virtual_stages - 1) * micro_batches
    assert sent[0].sum() == 0
    assert sent[1].tolist() == [short, *[whole] * (stages - 1)]  # gradients, inwards
    assert sent[2].tolist() == [*[whole] * (stages - 1), short]  # activations, outwards


@pytest.mark.parametrize(("stages", "micro_batches", "near"), [(4, 6, 8), (4, 1, 4), (3, 10, 9)])
def test_interleaved_refuses_a_broken_group_of_micro_batches(stages: int, micro_batches: int, near: int) -> None:
    with pytest.raises(UserError, match=rf"{micro_batches} micro-batches are not .* {near} micro-batches"):
        interleaved(stages, micro_batches, 2)
    assert interleaved(stages, near, 2)


def test_dualpipe_is_symmetric() -> None:
    """The last rank does for direction 1 what the first does for direction 0."""
    orders = dualpipe(4, 8)
    for mirrored, order in zip(orders, reversed(orders), strict=True):
        flipped = [
            chunk._replace(
                direction=1 - chunk.direction,
                paired_direction=1 - chunk.paired_direction if chunk.kind == "FB" else -1,
            )
            for chunk in order
        ]
        assert mirrored == flipped


def test_every_transfer_is_an_operation_of_its_own() -> None:
    stages, micro_batches = 4, 6
    times = {kind: np.broadcast_to(part("compute", 1.0), (stages, micro_batches, len(PART_INDEX))) for kind in "FB"}
    program = pipeline_program(SCHEDULES["1f1b"], one_f_one_b(stages, micro_batches), times, hop_s=0.5)
    hops = program.parts[:, PART_INDEX["pipeline"]] > 0
    assert hops.sum() == 2 * (stages - 1) * micro_batches
    assert (~hops).sum() == 2 * stages * micro_batches
    assert (program.stream[hops] >= stages).all()
    assert (program.stream[~hops] < stages).all()
    assert all(other < op for op, waits in enumerate(program.waits_for) for other in waits)


def test_a_schedule_that_waits_for_itself_is_an_error() -> None:
    times = {kind: np.zeros((1, 1, len(PART_INDEX))) for kind in "FB"}
    with pytest.raises(RuntimeError, match="waits for itself"):
        pipeline_program(SCHEDULES["1f1b"], [[Chunk("B", 0, 0), Chunk("F", 0, 0)]], times, 0.0)
