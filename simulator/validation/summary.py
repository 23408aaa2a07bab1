"""Errors of single operations by fabric, library and kind of operation, beside the aims set for them."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from statistics import fmean, median
from typing import Any

from simulator.validation.cells import Cells, data

LARGE_BYTES = 2.0**26
PUBLISHED = {"P", "D", ""}  # primary texts and data files, and the user's own
LEFT_OUT = 1.5  # errors without the own series may be so many times the aim
COLUMNS = (
    *("fabric", "library", "operation", "rows", "fitted_on", "mean", "median", "left_out"),
    *("aim", "met", "left_out_met", "cause"),
)


def operation(cells: Cells) -> str:
    """Return the kind of operation that a row counts under; all-reduce is told apart by size."""
    op = cells.stated("op")
    if op in {"dispatch", "combine"}:
        return "dispatch, combine"
    if op == "all_reduce":
        large = float(cells.stated("size_bytes") or 0) >= LARGE_BYTES
        return "all-reduce from 64 MiB" if large else "all-reduce below 64 MiB"
    if op in {"all_gather", "reduce_scatter", "broadcast", "all_to_all"}:
        return op.replace("_", "-")
    return "copies"


@cache
def left_out_errors() -> Mapping[str, float]:
    """Return the error of each measurement by constants that its own series took no part in, by id of the row."""
    text = files("simulator.validation").joinpath("left_out.csv").read_text(encoding="utf-8")
    return {row["id"]: float(row["left_out_error"]) for row in csv.DictReader(io.StringIO(text))}


def summarise(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one record per fabric, library and kind of operation: count, errors, and whether its aim is met.

    Parameters
    ----------
    rows
        Replayed rows; those without a prediction, and of lesser evidence than a primary source, do not count.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["error"] is not None and row["error"] == row["error"] and row["evidence"] in PUBLISHED:
            groups.setdefault((row["fabric"], row["library"], row["operation"]), []).append(row)
    return [_summary(*key, groups[key]) for key in sorted(groups)]


def _summary(fabric: str, library: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors = [abs(float(row["error"])) for row in rows]
    known = left_out_errors()
    others = [abs(known[row["id"]]) for row in rows if row["id"] in known]
    aim = aim_of("aim", {"fabric": fabric, "library": library, "operation": kind})
    goal = aim.get("mean")
    met = None if goal is None else fmean(errors) <= goal
    left_out_met = None if goal is None or not others else fmean(others) <= LEFT_OUT * goal
    return {
        "fabric": fabric,
        "library": library,
        "operation": kind,
        "rows": len(rows),
        "fitted_on": sum(row["status"] == "fitted-on" for row in rows),
        "mean": fmean(errors),
        "median": median(errors),
        "left_out": fmean(others) if others else None,
        "aim": goal,
        "met": met,
        "left_out_met": left_out_met,
        "cause": aim["missed"] if False in (met, left_out_met) else "",
    }


def aim_of(table: str, given: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the first entry of a table of `aims.toml` that fits what a group is of, or an empty one."""
    for aim in data("aims")[table]:
        if all(re.fullmatch(pattern, given[key]) for key, pattern in aim["of"].items()):
            found: Mapping[str, Any] = aim
            return found
    return {}
