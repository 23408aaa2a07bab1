from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import UserError
from simulator.run import run
from simulator.scenario import Scenario
from simulator.scenario_file import load_scenario
from simulator.study.sweep import MAX_POINTS, flat, grid, parse_over, run_points, with_efficiency

Files = Callable[..., Path]


def test_axes_are_read_in_order_without_repeats() -> None:
    axes = parse_over(["cluster.chips=8, 16,8", "plan.schedule=1f1b,gpipe"])
    assert axes == [("cluster.chips", ["8", "16"]), ("plan.schedule", ["1f1b", "gpipe"])]


def test_the_grid_varies_the_last_axis_fastest() -> None:
    assert grid([("a", ["1", "2"]), ("b", ["x", "y"])]) == [
        (("a", "1"), ("b", "x")),
        (("a", "1"), ("b", "y")),
        (("a", "2"), ("b", "x")),
        (("a", "2"), ("b", "y")),
    ]


def test_all_malformed_axes_are_named() -> None:
    with pytest.raises(UserError) as refused:
        parse_over(["cluster.chips", "plan.expert=,", "seed=1", "seed=2", "name=" + ",".join(map(str, range(30_000)))])
    assert len(refused.value.problems) == 4
    assert str(MAX_POINTS) in refused.value.problems[-1]


def test_infeasible_points_are_rows_with_a_reason(small_file: Files) -> None:
    axes = parse_over(["plan.expert=3,8,5000", "workload.global_batch_sequences=64,65"])
    rows = list(run_points([str(small_file("training"))], ["seed=4"], axes, jobs=1))
    assert [row["feasible"] for row in rows] == [False, False, True, False, False, False]
    assert "plan.expert = 3" in rows[0]["reason"]
    assert "workload.global_batch_sequences = 65" in rows[3]["reason"]
    assert rows[2]["reason"] == ""
    assert [row["plan.expert"] for row in rows] == [3, 3, 8, 8, 5000, 5000]


def test_a_point_is_what_a_run_gives(small_file: Files) -> None:
    path = str(small_file("decode"))
    (row,) = run_points([path], ["seed=4"], parse_over(["plan.expert=8"]), jobs=1)
    result = run(load_scenario(path, ["seed=4", "plan.expert=8"]))
    assert row == {"series": path, "plan.expert": 8, "feasible": True, "reason": "", **flat(result)}
    assert sum(row[f"{part}_s"] for part in result.breakdown_s) == pytest.approx(row["step_s"])


def test_processes_change_neither_order_nor_values(small_file: Files) -> None:
    paths = [str(small_file("decode", name="a.toml")), str(small_file("prefill", name="b.toml"))]
    axes = parse_over(["plan.expert=8,16,7", "seed=1,2"])
    assert list(run_points(paths, [], axes, jobs=2)) == list(run_points(paths, [], axes, jobs=1))


def test_a_misspelled_axis_is_refused_at_once(small_file: Files) -> None:
    with pytest.raises(UserError, match="did you mean 'expert'"):
        list(run_points([str(small_file("decode"))], [], parse_over(["plan.exprt=1,2,3"]), jobs=1))


def test_an_axis_that_is_unset_by_default_may_be_swept(small_file: Files) -> None:
    rows = list(run_points([str(small_file("prefill"))], [], parse_over(["cluster.chips=16,32"]), jobs=1))
    assert [row["chips"] for row in rows] == [16, 32]


def test_efficiency_is_relative_to_the_smallest_feasible_size_of_each_series() -> None:
    def row(series: str, chips: int, rate: float | None) -> dict[str, Any]:
        return {"series": series, "c.chips": chips, "p.x": 1, "feasible": rate is not None, "chips": chips} | (
            {"tokens_per_s_per_chip": rate} if rate else {}
        )

    rows = [row("a", 32, 8.0), row("a", 8, None), row("a", 16, 10.0), row("b", 64, 3.0)]
    labelled = with_efficiency(rows, "c.chips")
    assert [r["efficiency"] for r in labelled] == [0.8, None, 1.0, 1.0]
    assert [r["label"] for r in labelled] == ["a x=1", "a x=1", "a x=1", "b x=1"]


def test_the_flat_row_names_the_fullest_rank_class(small: Callable[..., Scenario]) -> None:
    result = run(small("training"))
    row = flat(result)
    assert row["memory_bytes"] == max(use.total_bytes for use in result.memory)
    assert row["memory_share"] == pytest.approx(row["memory_bytes"] / (80 * 2**30))
    assert row["bottleneck"] in result.breakdown_s


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("64,128,...,2048", ["64", "128", "256", "512", "1024", "2048"]),
        ("1,2,...,4", ["1", "2", "4"]),
        ("8,16,...,40", ["8", "16", "24", "32", "40"]),
        ("3,9,...,81,100", ["3", "9", "27", "81", "100"]),
        ("1,2,...,3", ["1", "2", "3"]),
    ],
)
def test_dots_are_filled_in(written: str, values: list[str]) -> None:
    assert parse_over([f"a.b={written}"]) == [("a.b", values)]


@pytest.mark.parametrize("written", ["64,...,100", "64,96,...,100", "...,4", "4,2,...,1", "a,b,...,c", "1,2,..."])
def test_dots_that_lead_nowhere_are_refused(written: str) -> None:
    with pytest.raises(UserError, match=r"--over a\.b="):
        parse_over([f"a.b={written}"])


def test_lists_are_values() -> None:
    swept = parse_over(['cluster.faults=[],["nic 17", "node 3"],["leaf 1"]', "plan.expert=32,64"])
    assert swept == [("cluster.faults", ["[]", '["nic 17", "node 3"]', '["leaf 1"]']), ("plan.expert", ["32", "64"])]
