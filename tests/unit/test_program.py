from collections.abc import Callable

import numpy as np
import pytest
import simpy

from simulator.analytic.longest_path import longest_path, longest_paths
from simulator.engine.execute import execute
from simulator.program import PART_INDEX, Program, ProgramBuilder, attribute, merged, part, without

Evaluate = Callable[[Program], tuple[np.ndarray, np.ndarray]]
EVALUATORS: list[Evaluate] = [longest_path, execute]


def two_streams() -> Program:
    """Compute 2 s, send 3 s on the other stream, compute 1 s when it has arrived; the sender computes 1 s meanwhile."""
    builder = ProgramBuilder()
    first = builder.add(0, part("compute", 2.0))
    sent = builder.add(1, part("dispatch", 3.0), (first,))
    builder.add(0, part("memory", 1.0))
    builder.add(0, part("compute", 1.0), (sent,))
    return builder.build()


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_operations_start_when_stream_and_inputs_are_ready(evaluate: Evaluate) -> None:
    start_s, end_s = evaluate(two_streams())
    assert start_s.tolist() == [0.0, 2.0, 2.0, 5.0]
    assert end_s.tolist() == [2.0, 5.0, 3.0, 6.0]


def test_a_gap_goes_to_what_was_waited_for() -> None:
    program = two_streams()
    parts = attribute(program, *longest_path(program), [0])[0]
    assert parts.sum() == 6.0
    assert parts[PART_INDEX["compute"]] == 3.0
    assert parts[PART_INDEX["memory"]] == 1.0
    assert parts[PART_INDEX["dispatch"]] == 2.0


def test_a_gap_goes_where_the_operation_says() -> None:
    builder = ProgramBuilder()
    other = builder.add(1, part("compute", 4.0))
    builder.add(0, part("optimizer", 1.0), (other,), idle="imbalance_wait")
    program = builder.build()
    parts = attribute(program, *longest_path(program), [0])[0]
    assert parts[PART_INDEX["imbalance_wait"]] == 4.0
    assert parts[PART_INDEX["compute"]] == 0.0


def test_the_time_after_the_last_operation_is_bubble() -> None:
    program = two_streams()
    parts = attribute(program, *longest_path(program), [1])[0]
    assert parts[PART_INDEX["bubble"]] == 1.0
    assert parts.sum() == 6.0


def test_operations_of_a_stream_keep_their_order() -> None:
    builder = ProgramBuilder()
    late = builder.add(1, part("compute", 5.0))
    builder.add(0, part("compute", 1.0), (late,))
    builder.add(0, part("compute", 1.0))
    for evaluate in EVALUATORS:
        assert evaluate(builder.build())[0].tolist() == [0.0, 5.0, 6.0]


def test_operations_that_take_no_time() -> None:
    builder = ProgramBuilder()
    before = builder.add(0, part("compute", 1.0))
    nothing = builder.add(1, part("dispatch", 0.0), (before,))
    builder.add(0, part("compute", 1.0), (nothing, before))
    program = builder.build()
    for evaluate in EVALUATORS:
        start_s, end_s = evaluate(program)
        assert end_s.max() == 2.0
        assert attribute(program, start_s, end_s, [0]).sum() == 2.0


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_an_empty_program_takes_no_time(evaluate: Evaluate) -> None:
    start_s, end_s = evaluate(ProgramBuilder().build())
    assert start_s.size == end_s.size == 0


def test_the_event_simulation_refuses_a_deadlock() -> None:
    builder = ProgramBuilder()
    builder.add(0, part("compute", 1.0), (1,))
    builder.add(0, part("compute", 1.0))
    with pytest.raises(RuntimeError, match="waits for itself"):
        execute(builder.build())


def test_without_a_part_the_rest_stays() -> None:
    program = without(two_streams(), "dispatch")
    assert longest_path(program)[1].max() == 4.0
    assert two_streams().duration_s.sum() - program.duration_s.sum() == 3.0


def test_merged_programs_run_side_by_side() -> None:
    both = merged([two_streams(), two_streams()], streams=2).build()
    assert sorted(set(both.stream.tolist())) == [0, 1, 2, 3]
    start_s, end_s = longest_path(both)
    alone_start_s, alone_end_s = longest_path(two_streams())
    np.testing.assert_array_equal(start_s, np.tile(alone_start_s, 2))
    np.testing.assert_array_equal(end_s, np.tile(alone_end_s, 2))


def test_many_programs_of_one_structure() -> None:
    program = two_streams()
    durations = np.stack([program.duration_s, 2 * program.duration_s], axis=1)
    assert longest_paths(durations, program.stream.tolist(), program.waits_for).tolist() == [6.0, 12.0]


def test_events_are_one_per_operation_and_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event simulation costs O(operations): a start per stream, a timeout and an end per operation."""
    seen = []
    step = simpy.Environment.step

    def counted(env: simpy.Environment) -> None:
        step(env)
        seen.append(env.now)

    monkeypatch.setattr(simpy.Environment, "step", counted)
    execute(two_streams())
    assert len(seen) == 2 * 2 + 4 * 2  # per stream its start and end, per operation its timeout and its end
