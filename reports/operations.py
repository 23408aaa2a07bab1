"""Errors of single operations by fabric and library, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from reports.text import bullets, cell, table
from simulator import units

Records = Sequence[Mapping[str, Any]]
_STYLES = {True: "green", False: "yellow", None: ""}


def operations_table(records: Records) -> RenderableType:
    """Return errors by fabric, library and kind of operation, and the likely causes where an aim is missed.

    Parameters
    ----------
    records
        As `simulator.validation.summary.summarise` returns them.
    """
    heads = ("operation", "rows", "fitted on", "mean", "median", "left out", "aim")
    made = table("Mean absolute error by fabric and library", *heads, left=(0,))
    for place, record in enumerate(records):
        if place == 0 or group_name(record) != group_name(records[place - 1]):
            made.add_section()
            made.add_row(cell(group_name(record), "bold"))
        style = _STYLES[record["met"]]
        made.add_row(
            cell(f"  {record['operation']}"),
            cell(record["rows"]),
            cell(record["fitted_on"]),
            cell(units.percent(record["mean"]), style),
            cell(units.percent(record["median"])),
            cell(_left_out(record), _STYLES[record["left_out_met"]]),
            cell(_aim(record), style),
        )
    missed = [
        f"{group_name(record)}, {record['operation']}: {record['cause']}" for record in records if record["cause"]
    ]
    note = cell("left out: by constants that the rows' series took no part in; missed: over 1.5 times the aim", "dim")
    return Group(made, note, *([bullets("Likely causes of missed aims", missed)] if missed else []))


def _left_out(record: Mapping[str, Any]) -> str:
    if record["left_out"] is None:
        return ""
    return "missed, " * (record["left_out_met"] is False) + units.percent(record["left_out"])


def _aim(record: Mapping[str, Any]) -> str:
    return "" if record["aim"] is None else f"{'met' if record['met'] else 'missed'}, {record['aim']:.0%}"


def group_name(record: Mapping[str, Any]) -> str:
    """Return fabric and library of a record."""
    return ", ".join(text for text in (str(record["fabric"]), str(record["library"])) if text)
