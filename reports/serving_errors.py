"""Errors of serving by source and system as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.text import bullets, cell, shorten, table
from simulator import units

REASONS = 12
REASON_CHARACTERS = 84


def serving_errors_table(records: Sequence[Mapping[str, Any]], left_out: Sequence[tuple[str, int]]) -> RenderableType:
    """Return errors in time and order by source and system, and below why rows were left out."""
    heads = ("source", "system", "rows", "mean error", "median", "order", "aim", "left out")
    made = table("Serving: error in time by source", *heads, left=(0, 1))
    for record in records:
        style = {None: "", True: "green", False: "red"}[record["met"]]
        made.add_row(
            cell(shorten(record["source"], 34)),
            cell(record["system"].removeprefix("ascend-")),
            cell(str(record["rows"])),
            cell(units.percent(record["mean"]), style),
            cell(f"{record['median']:+.0%}"),
            cell("" if record["order"] is None else f"{record['order']:.2f}", style),
            cell("" if record["aim"] is None else f"{record['aim']:.0%}", style),
            cell(str(record["left_out"]) if record["left_out"] else ""),
        )
    if not left_out:
        return made
    lines = [f"{count} x {shorten(reason, REASON_CHARACTERS)}" for reason, count in left_out[:REASONS]]
    more = sum(count for _, count in left_out[REASONS:])
    lines += [f"{more} more, each for a reason of its own (--json lists them)"] * bool(more)
    return Group(made, Text(), bullets("Rows left out", lines))
