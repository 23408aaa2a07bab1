"""Why a run takes as long as it does: the tree sums to the step, whatever the phase and schedule."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from simulator.analytic.longest_path import longest_path
from simulator.attribution import explain
from simulator.attribution.classes import busy_parts, class_times
from simulator.attribution.path import critical_path
from simulator.calibration.chips import SAME
from simulator.program import PART_INDEX, ProgramBuilder, part
from simulator.run import operator_constants, simulate
from simulator.scenario import Scenario
from simulator.schedules.table import SCHEDULES
from simulator.why import Line

Small = Callable[..., Scenario]


def check_sums(line: Line, step_s: float) -> None:
    assert line.share == pytest.approx(line.time_s / step_s)
    assert line.time_s >= 0.0
    if line.lines:
        assert math.fsum(below.time_s for below in line.lines) == pytest.approx(line.time_s, rel=1e-9)
        assert list(line.lines) == sorted(line.lines, key=lambda below: -below.time_s)
    for below in line.lines:
        check_sums(below, step_s)


def schedule_settings(schedule: str) -> list[str]:
    more = {"interleaved": ["plan.virtual_stages=2"]}
    return [f"plan.schedule={schedule}", *more.get(schedule, [])]


@pytest.mark.parametrize("fidelity", ["analytic", "des"])
@pytest.mark.parametrize(
    ("phase", "settings"),
    [
        *(("training", schedule_settings(name)) for name in SCHEDULES),
        ("training", ["plan.tensor=2", "plan.context=2", "plan.recompute=full"]),
        ("training", ["plan.pipeline=1", "plan.zero=3", "plan.expert=1"]),
        ("prefill", ["plan.overlap=two-microbatch", "precision.gemm=fp8", "precision.dispatch=fp8"]),
        ("decode", ["routing.kind=uniform"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_leaves_sum_to_the_step(small: Small, phase: str, settings: list[str], fidelity: str) -> None:
    asked = small(phase, f"fidelity={fidelity}", *settings)
    why = explain(asked, what_if=False)
    assert math.fsum(leaf.time_s for leaf in why.tree.leaves()) == pytest.approx(why.step_s, rel=1e-9)
    assert math.fsum(leaf.share for leaf in why.tree.leaves()) == pytest.approx(1.0, rel=1e-9)
    check_sums(why.tree, why.step_s)
    assert all(0.0 <= leaf.light <= 1.0 + 1e-9 for leaf in why.tree.leaves() if leaf.light is not None)


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "dualpipe"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_classes_explain_all_compute_of_training(small: Small, schedule: str, recompute: str) -> None:
    """Each class priced alone: together they are the run's own compute, memory and launch time."""
    simulation = simulate(small("training", f"plan.schedule={schedule}", f"plan.recompute={recompute}"))
    used = {(kind, SAME.get(dtype, dtype)) for kind, dtype in operator_constants(simulation.resolved)}
    found = list(class_times(simulation.resolved, used))
    spent = simulation.result.breakdown_s
    assert math.fsum(each.compute_s for each in found) == pytest.approx(spent["compute"], rel=1e-9)
    assert math.fsum(each.memory_s for each in found) == pytest.approx(spent["memory"], rel=1e-9)
    assert math.fsum(each.launch_s for each in found) == pytest.approx(spent["overhead"], rel=1e-9)
    assert math.fsum(each.optimizer_s for each in found) == pytest.approx(spent["optimizer"], rel=1e-9)
    assert all(each.light_s <= each.time_s * (1 + 1e-9) for each in found)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_classes_explain_all_compute_of_serving(small: Small, phase: str) -> None:
    simulation = simulate(small(phase))
    spent = busy_parts(simulation.resolved)
    used = {(kind, SAME.get(dtype, dtype)) for kind, dtype in operator_constants(simulation.resolved)}
    found = list(class_times(simulation.resolved, used))
    assert math.fsum(each.time_s for each in found) == pytest.approx(
        float(spent[PART_INDEX["compute"]] + spent[PART_INDEX["memory"]]), rel=1e-9
    )


def test_communication_names_link_and_constants(small: Small) -> None:
    why = explain(small("training", "plan.tensor=2"), what_if=False)
    leaves = {leaf.part: leaf for leaf in why.tree.leaves()}
    assert "NVLink" in leaves["tensor_parallel"].limited_by
    assert leaves["dispatch"].limited_by
    assert leaves["tensor_parallel"].constants in {"measured", "fitted", "assumed"}
    assert leaves["tensor_parallel"].light is not None


def test_critical_path_by_hand() -> None:
    """Two streams: the long transfer of the first chunk holds up the second stream."""
    builder = ProgramBuilder()
    first = builder.add(0, part("compute", 2.0), label="a")
    builder.add(0, part("memory", 1.0), label="b")
    sent = builder.add(1, part("pipeline", 5.0), (first,), label="send")
    builder.add(2, part("compute", 3.0), (sent,), label="c")
    program = builder.build()
    found = critical_path(program, *longest_path(program))
    assert [step.what for step in found.steps] == ["a", "send", "c"]
    assert {name: time for name, time in found.parts_s.items() if time} == {"compute": 5.0, "pipeline": 5.0}


@pytest.mark.parametrize("fidelity", ["analytic", "des"])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_critical_path_has_no_gaps_and_sums_to_its_end(small: Small, schedule: str, fidelity: str) -> None:
    simulation = simulate(small("training", f"fidelity={fidelity}", *schedule_settings(schedule)))
    found = critical_path(simulation.program, simulation.start_s, simulation.end_s)
    assert found.steps[0].start_s == pytest.approx(0.0, abs=1e-12)
    starts = np.array([step.start_s for step in found.steps])
    ends = np.array([step.end_s for step in found.steps])
    assert starts[1:] == pytest.approx(ends[:-1], rel=1e-9, abs=1e-12)
    assert ends[-1] == pytest.approx(simulation.end_s.max())
    assert math.fsum(found.parts_s.values()) == pytest.approx(ends[-1], rel=1e-9)


def test_changes_are_ranked_and_true(small: Small) -> None:
    """A gain is what the run says when the cause is taken away in the scenario itself."""
    asked = small("training", "routing.kind=fitted", "plan.expert=8")
    why = explain(asked)
    gains = [change.gain for change in why.changes]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0.0
    named = {change.what: change for change in why.changes}
    balanced = simulate(small("training", "routing.kind=balanced", "plan.expert=8")).result
    assert named["balanced routing"].step_s == pytest.approx(balanced.step_s, rel=1e-12)
    assert named["balanced routing"].gain_tokens_per_s == pytest.approx(balanced.tokens_per_s - why.tokens_per_s)
    assert {"arithmetic twice as fast", "device memory twice as fast", "stages never wait for each other"} <= set(named)
    for change in why.changes:
        assert change.step_s * (why.tokens_per_s + change.gain_tokens_per_s) == pytest.approx(
            why.step_s * why.tokens_per_s
        )


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_no_wait_where_routing_is_balanced(small: Small, phase: str) -> None:
    why = explain(small(phase, "routing.kind=balanced"))
    assert "balanced routing" not in {change.what for change in why.changes}
    assert "no wait for the most loaded rank" not in {change.what for change in why.changes}
