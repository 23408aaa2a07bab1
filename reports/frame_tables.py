"""Sweeps and validations, one row per point, as text of at most 100 columns."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.text import bullets, cell, table
from simulator import units

if TYPE_CHECKING:
    import pandas as pd  # only named here: the report of one run prints without waiting for pandas to load

# Metric columns of a sweep in the order in which they are shown while there is room; every column left of the first
# metric is an axis of the sweep.
SWEEP_METRICS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "tokens_per_s": ("tokens/s", units.tokens),
    "tokens_per_s_per_chip": ("per chip", units.tokens),
    "efficiency": ("scaled", units.percent),
    "tpot_s": ("TPOT", units.seconds),
    "ttft_s": ("TTFT", units.seconds),
    "step_s": ("step", units.seconds),
    "memory_share": ("memory", units.percent),
    "imbalance": ("skew", units.ratio),
    "mfu": ("MFU", units.percent),
    "usd_per_million_tokens": ("$/M", units.usd),
}
MAX_COLUMNS = 8
SMALL_ERROR = 0.10
_Row = Mapping[Any, Any]


def sweep_table(frame: "pd.DataFrame", axes: Sequence[str] | None = None, title: str = "Sweep") -> RenderableType:
    """Return a sweep as a table, and below it why each infeasible point is infeasible.

    Parameters
    ----------
    frame
        One row per point: axis columns, then any of `SWEEP_METRICS`, bottleneck, feasible, reason.
    axes
        Axis columns; without it, the columns left of the first metric.
    """
    shown_axes = list(axes) if axes is not None else leading_axes(frame)
    filled = [name for name in SWEEP_METRICS if name in frame and bool(frame[name].notna().any())]
    if {"tpot_s", "ttft_s"} & set(filled):  # in serving the iteration is already there under its own name
        filled = [name for name in filled if name != "step_s"]
    metrics = filled[: max(3, MAX_COLUMNS - len(shown_axes))]
    headers = [
        *(name.rpartition(".")[2] for name in shown_axes),
        *(SWEEP_METRICS[name][0] for name in metrics),
        "mostly",
    ]
    left = [index for index, name in enumerate(shown_axes) if not _is_numeric(frame, name)]
    made = table(title, *headers, left=(*left, len(headers) - 1))
    refused, previous = [], ""
    for row in frame.to_dict("records"):
        values = texts = [axis_text(row[name]) for name in shown_axes]
        if 0 in left and len(values) > 1:  # a series is named on its first line only
            if previous not in ("", values[0]):
                made.add_section()
            values = ["" if values[0] == previous else values[0], *values[1:]]
            previous = texts[0]
        if is_feasible(row):
            numbers = [cell(SWEEP_METRICS[name][1](row[name])) for name in metrics]
            made.add_row(*map(cell, values), *numbers, cell(str(row.get("bottleneck", "")).replace("_", " ")))
        else:
            dashes = [cell(units.UNKNOWN, "dim") for _ in metrics]
            made.add_row(*map(cell, values), *dashes, cell("infeasible", "red"))
            refused.append(f"{', '.join(texts)}: {row.get('reason', '')}")
    return Group(made, bullets("Infeasible points", refused, "red")) if refused else made


def is_feasible(row: _Row) -> bool:
    """Tell whether a sweep's row holds numbers; a frame without the column is feasible throughout."""
    return bool(row.get("feasible", True))


def leading_axes(frame: "pd.DataFrame") -> list[str]:
    """Return the columns left of the first metric, without text that is the same in every row."""
    known = {*SWEEP_METRICS, "bottleneck", "feasible", "reason"}
    names = [str(name) for name in frame.columns]
    first = next((index for index, name in enumerate(names) if name in known), len(names))
    return [
        name
        for name in names[:first]
        if _is_numeric(frame, name) or len(frame) < 2 or frame[name].nunique(dropna=False) > 1
    ]


def _is_numeric(frame: "pd.DataFrame", name: str) -> bool:
    return frame[name].dtype.kind in "iuf"


def axis_text(value: object) -> str:
    """Write a swept value: whole numbers with thousands separators, other numbers in full, text as it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return units.UNKNOWN
    if isinstance(value, int | float) and not isinstance(value, bool):
        return units.count(value) if float(value).is_integer() else f"{value:g}"
    return str(value)


def validation_table(frame: "pd.DataFrame") -> RenderableType:
    """Return predicted against measured by area, a summary of the errors, what was not predicted, and the sources.

    Parameters
    ----------
    frame
        Columns id, area, predicted, measured, unit, error (signed fraction, empty where not predicted), evidence,
        status, source.
    """
    rows = frame.to_dict("records")
    sources = {source: place for place, source in enumerate(dict.fromkeys(str(row["source"]) for row in rows), 1)}
    made = table("Validation", "id", "predicted", "measured", "unit", "error", "source", left=(0, 3, 5))
    for area in dict.fromkeys(str(row["area"]) for row in rows):
        made.add_section()
        made.add_row(cell(area, "bold"))
        for row in rows:
            if str(row["area"]) == area:
                made.add_row(*_point(row, sources[str(row["source"])]))
    blocks: list[RenderableType] = [made, _summary(frame)]
    missed = [f"{row['id']}: {row['status']}" for row in rows if number_or_none(row["error"]) is None]
    if missed:
        blocks += [bullets("Not predicted", missed, "yellow"), Text()]
    listed = "; ".join(f"{place} {source}" for source, place in sources.items())
    return Group(*blocks, cell(f"Sources: {listed}", "dim"))


def _point(row: _Row, source: int) -> list[Text]:
    error = number_or_none(row["error"])
    style = "" if error is None else ("green" if abs(error) <= SMALL_ERROR else "yellow")
    return [
        cell(f"  {row['id']}"),
        cell(units.number(number_or_none(row["predicted"]))),
        cell(units.number(number_or_none(row["measured"]))),
        cell(row["unit"]),
        cell(units.percent(error, signed=True), style),
        cell(f"[{row['evidence']}] {source}", "dim"),
    ]


def number_or_none(value: Any) -> float | None:
    """Return a float, or None for an empty or unreadable cell."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def _summary(frame: "pd.DataFrame") -> Table:
    headers = ("area", "predicted", "skipped", "median |error|", "within 10 %", "worst", "")
    made = table("Error by area", *headers, left=(0, 6))
    for area, rows in frame.groupby("area", sort=False):
        errors = zip(map(number_or_none, rows["error"]), rows["id"], strict=True)
        known = sorted((abs(error), error, str(name)) for error, name in errors if error is not None)
        counts = [cell(area), cell(len(known)), cell(len(rows) - len(known))]
        if not known:
            made.add_row(*counts, *(cell(units.UNKNOWN) for _ in range(3)), cell(""))
            continue
        inside = sum(size <= SMALL_ERROR for size, _, _ in known)
        _, worst, worst_name = known[-1]
        made.add_row(
            *counts,
            cell(units.percent(statistics.median(size for size, _, _ in known))),
            cell(f"{inside} of {len(known)}"),
            cell(units.percent(worst, signed=True)),
            cell(worst_name, "dim"),
        )
    return made
