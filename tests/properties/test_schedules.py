"""What holds for every pipeline, whatever its chunks take."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.analytic.longest_path import longest_path, longest_paths
from simulator.engine.execute import execute
from simulator.phase.pipeline import STREAMS_PER_STAGE, pipeline_program
from simulator.program import PART_INDEX, Program, attribute
from simulator.schedules.table import SCHEDULES, rank_orders

Case = tuple[str, int, int, int, int, float]  # schedule, stages, micro-batches, virtual stages, seed, hop
KINDS = ("F", "B", "I", "W", "FB")


@st.composite
def pipelines(draw: st.DrawFn) -> Case:
    schedule = draw(st.sampled_from(sorted(SCHEDULES)))
    seed, hop_s = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.1, 2.0]))
    virtual_stages = SCHEDULES[schedule].parts or draw(st.integers(2, 4))
    if schedule == "dualpipe":
        stages = 2 * draw(st.integers(1, 3))
        return schedule, stages, 2 * (stages + draw(st.integers(0, 4))), 1, seed, hop_s
    stages = draw(st.integers(2 if virtual_stages > 1 else 1, 4))
    if schedule == "dualpipe-v":
        return schedule, stages, 2 * stages + draw(st.integers(0, 5)), 2, seed, hop_s
    micro_batches = stages * draw(st.integers(1, 3)) if virtual_stages > 1 else draw(st.integers(1, 12))
    return schedule, stages, micro_batches, virtual_stages, seed, hop_s


def build(case: Case, grow: float = 1.0) -> Program:
    """A pipeline whose chunks take random times, all different; one part takes `grow` times as long."""
    schedule, stages, micro_batches, virtual_stages, seed, hop_s = case
    parts = stages * virtual_stages
    generator = np.random.default_rng(seed)
    shapes = {kind: (parts, *[virtual_stages] * (kind == "FB"), micro_batches, len(PART_INDEX)) for kind in KINDS}
    times = {kind: generator.uniform(0.1, 3.0, shape) for kind, shape in shapes.items()}
    for rows in times.values():
        rows[..., PART_INDEX["bubble"]] = 0.0
        rows[generator.integers(parts)] *= grow
    orders = rank_orders(schedule, stages, micro_batches, virtual_stages)
    return pipeline_program(SCHEDULES[schedule], orders, times, hop_s)


@given(pipelines())
@settings(max_examples=60, deadline=None)
def test_both_evaluators_give_every_operation_the_same_time(case: Case) -> None:
    program = build(case)
    for estimate, events in zip(longest_path(program), execute(program), strict=True):
        np.testing.assert_allclose(events, estimate, rtol=1e-12)


@given(pipelines())
@settings(max_examples=40, deadline=None)
def test_attribution_sums_to_the_makespan_on_every_rank(case: Case) -> None:
    program = build(case)
    start_s, end_s = longest_path(program)
    for skewed in (False, True):
        parts = attribute(program, start_s, end_s, range(case[1]), skewed=skewed)
        begin = [start_s[program.stream == rank].min() if skewed else 0.0 for rank in range(case[1])]
        end = [end_s[program.stream == rank].max() if skewed else end_s.max() for rank in range(case[1])]
        np.testing.assert_allclose(parts.sum(axis=1), np.subtract(end, begin).max(), rtol=1e-12)
        assert parts.min() >= -1e-9


@given(pipelines())
@settings(max_examples=40, deadline=None)
def test_the_makespan_is_bounded_by_the_busiest_stream_and_by_all_work(case: Case) -> None:
    program = build(case)
    makespan = longest_path(program)[1].max()
    assert makespan >= np.bincount(program.stream, program.duration_s).max() - 1e-9
    assert makespan <= program.duration_s.sum() + 1e-9


@given(pipelines(), st.floats(1.0, 4.0))
@settings(max_examples=40, deadline=None)
def test_a_slower_stage_never_makes_the_pipeline_faster(case: Case, grow: float) -> None:
    assert longest_path(build(case, grow))[1].max() >= longest_path(build(case))[1].max() - 1e-9


@given(pipelines())
@settings(max_examples=40, deadline=None)
def test_no_stream_runs_two_operations_at_once(case: Case) -> None:
    program = build(case)
    start_s, end_s = longest_path(program)
    for stream in range(STREAMS_PER_STAGE * case[1]):
        mine = np.flatnonzero(program.stream == stream)
        assert (start_s[mine][1:] >= end_s[mine][:-1]).all()
    for op, waits in enumerate(program.waits_for):
        assert all(end_s[other] <= start_s[op] for other in waits)


@given(pipelines())
@settings(max_examples=20, deadline=None)
def test_many_programs_at_once_are_each_alone(case: Case) -> None:
    program = build(case)
    durations = np.stack([program.duration_s, 0.5 * program.duration_s], axis=1)
    makespan = longest_path(program)[1].max()
    found = longest_paths(durations, program.stream.tolist(), program.waits_for)
    np.testing.assert_allclose(found, [makespan, makespan / 2], rtol=1e-12)
