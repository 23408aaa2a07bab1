"""Errors of measurements that took no part in the fit: as shipped, and by group beside the aims."""

import csv
from importlib.resources import files
from pathlib import Path

import pytest

from reports.plots import operations_picture
from reports.tables import operations_table, render
from simulator.fitting.fabrics.fit import fit
from simulator.fitting.fabrics.left_out import COLUMNS, left_out, text
from simulator.fitting.fabrics.rows import read_rows
from simulator.fitting.fabrics.shipped import SERIES, samples
from simulator.units import percent
from simulator.validation.cells import Cells
from simulator.validation.summary import left_out_errors, operation, summarise

SHARED = Path(__file__).parents[3] / "shared"
needs_measurements = pytest.mark.skipif(
    not (SHARED / "measured" / "collectives.csv").exists(), reason="the measurements are not beside the checkout"
)


def shipped() -> list[dict[str, str]]:
    place = files("simulator.validation").joinpath("left_out.csv")
    return list(csv.DictReader(place.read_text(encoding="utf-8").splitlines()))


def replayed(name: str, error: float | None, kind: str = "all-to-all", **given: object) -> dict[str, object]:
    row = {"id": name, "error": error, "operation": kind, "fabric": "nvl72", "library": "NCCL", "evidence": "D"}
    return {**row, "status": "predicted", **given}


@needs_measurements
def test_shipped_errors_are_what_leaving_out_gives() -> None:
    """For the copies over UB, whose few rows are fitted quickly."""
    table = read_rows(SHARED / "measured", SHARED / "reference")
    series = next(each for each in SERIES if (each.fabric, each.part) == ("ub1", "copies"))
    points = samples(series, table)
    found = list(left_out(series, {row["id"]: row for row in table}, points, fit(series, points, {}), {}))
    ours = {row["id"]: row for row in shipped() if (row["fabric"], row["part"]) == ("ub1", "copies")}
    assert found
    assert {str(record["id"]) for record in found} == set(ours)
    for record in found:
        assert float(ours[str(record["id"])]["left_out_error"]) == pytest.approx(record["left_out_error"], abs=2e-3)
        assert float(ours[str(record["id"])]["fitted_error"]) == pytest.approx(record["fitted_error"], abs=2e-3)


def test_shipped_errors_name_series_and_are_unique() -> None:
    rows = shipped()
    assert rows
    assert tuple(rows[0]) == COLUMNS
    keys = [(row["id"], row["fabric"], row["part"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert {(row["fabric"], row["part"]) for row in rows} <= {(each.fabric, each.part) for each in SERIES}
    assert text([{**row, **{name: float(row[name]) for name in COLUMNS[4:]}} for row in rows[:3]]).count("\n") == 4


def test_groups_count_published_predictions_and_know_their_aims() -> None:
    rows = [
        replayed("a", 0.04, status="fitted-on"),
        replayed("b", -0.1),
        replayed("c", 0.5, evidence="C"),
        replayed("d", None),
        replayed("e", 0.3, fabric="ub1", library="HIXL", kind="copies"),
    ]
    first, second = summarise(rows)
    assert (first["fabric"], first["rows"], first["fitted_on"]) == ("nvl72", 2, 1)
    assert (first["mean"], first["median"]) == pytest.approx((0.07, 0.07))
    assert (first["aim"], first["met"], first["cause"]) == (0.10, True, "")
    assert (second["aim"], second["met"]) == (0.06, False)
    assert second["cause"]


def test_errors_left_out_stand_beside_the_fitted_ones() -> None:
    name, error = next(iter(left_out_errors().items()))
    (found,) = summarise([replayed(name, 0.01, library="other")])
    assert found["left_out"] == pytest.approx(abs(error))
    assert found["aim"] == 0.10


def test_errors_left_out_may_be_half_as_large_again_as_the_aim() -> None:
    known = left_out_errors()
    within, beyond = (
        next(name for name, error in known.items() if (abs(error) > 0.15) is far) for far in (False, True)
    )
    near, far = (summarise([replayed(name, 0.01, library="other")])[0] for name in (within, beyond))
    assert (near["met"], near["left_out_met"], near["cause"]) == (True, True, "")
    assert (far["met"], far["left_out_met"]) == (True, False)
    assert far["cause"]
    table = render(operations_table([near, far]))
    assert f"missed, {percent(far['left_out'])}" in table
    assert f"missed, {percent(near['left_out'])}" not in table


@pytest.mark.parametrize(
    ("op", "size", "kind"),
    [
        ("all_reduce", "67108864", "all-reduce from 64 MiB"),
        ("all_reduce", "67108863", "all-reduce below 64 MiB"),
        ("all_to_all", "1", "all-to-all"),
        ("combine", "", "dispatch, combine"),
        ("kv_transfer", "5", "copies"),
    ],
)
def test_kinds_of_operation(op: str, size: str, kind: str) -> None:
    assert operation(Cells({"op": op, "size_bytes": size}, "collectives")) == kind


def test_table_and_picture(tmp_path: Path) -> None:
    records = summarise([replayed("b", -0.3), replayed("e", 0.3, fabric="ub1", library="HIXL", kind="copies")])
    shown = render(operations_table(records))
    assert "missed, 10%" in shown
    assert "ub1, HIXL" in shown
    assert operations_picture(records, tmp_path / "errors.png").stat().st_size > 5_000
