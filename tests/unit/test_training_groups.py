"""Errors of training runs by group: in time, beside one constant's, and the regret of the chosen plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.tables import render, training_errors_table
from simulator.validation.training_groups import group_errors, naive_error, regret, time_error


def row(predicted: float, measured: float, metric: str = "step_s", **changes: object) -> dict[str, object]:
    base = {"source": "paper", "chip": "h100", "kind": "dense", "evidence": "P", "mfu": 0.4, "case": "a"}
    return {**base, "predicted": predicted, "measured": measured, "metric": metric, **changes}


def test_errors_are_in_time_for_rates_too() -> None:
    assert time_error(row(11.0, 10.0)) == pytest.approx(0.1)
    assert time_error(row(10.0, 11.0, "tokens_per_s_per_chip")) == pytest.approx(0.1)


@given(st.lists(st.floats(0.05, 0.9), min_size=1, max_size=8), st.floats(0.05, 0.9))
def test_no_other_constant_beats_the_naive_one(measured: list[float], other: float) -> None:
    best = naive_error(measured)
    assert best <= sum(abs(mfu / other - 1.0) for mfu in measured) / len(measured) + 1e-12


def test_the_naive_constant_knows_measured_runs_only() -> None:
    # Twice too fast a prediction at MFU 0.8 is a run at MFU 0.4, as the other ones: one constant fits all.
    (group,) = group_errors([row(1.0, 2.0, mfu=0.8), row(2.0, 2.0, mfu=0.4), row(2.0, 2.0, mfu=0.4)])
    assert group["naive"] == pytest.approx(0.0)
    assert group["mean"] == pytest.approx(0.5 / 3)
    assert group_errors([row(1.0, 2.0)])[0]["naive"] is None  # one constant always fits one run
    assert group["met"] is False


def test_regret_is_what_the_chosen_plan_costs() -> None:
    assert regret([row(1.0, 3.0), row(2.0, 2.0)]) == pytest.approx(0.5)
    assert regret([row(9.0, 3.0, "mfu"), row(8.0, 6.0, "mfu")]) == pytest.approx(1.0)
    assert regret([row(1.0, 3.0), row(2.0, 2.0, case="b")]) is None
    assert regret([row(1.0, 3.0), row(1.0, 2.0)]) is None  # the same plan twice


def test_rows_without_time_or_of_weak_evidence_do_not_count() -> None:
    rows = [row(1.0, 1.0, "peak_memory_bytes"), row(1.0, 1.0, evidence="C"), row(None, 1.0)]  # type: ignore[arg-type]
    assert group_errors(rows) == []


def test_table_fits_the_terminal() -> None:
    records = group_errors([row(1.0, 2.0, source="a source of some length " * 3), row(1.0, 2.0, chip="ascend-910b")])
    shown = render(training_errors_table(records))
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "910b" in shown
    assert "50.0 %" in shown
