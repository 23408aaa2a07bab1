"""Errors of training runs by group as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from reports.text import cell, table
from simulator import units


def training_errors_table(records: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return errors in time by source, chip and kind of model, beside one constant's, and the regret of the choice."""
    heads = ("source", "chip", "kind", "rows", "mean error", "median", "one MFU", "regret", "aim")
    made = table("Training: error in time by group", *heads, left=(0, 1, 2))
    for record in records:
        style = {None: "", True: "green", False: "red"}[record["met"]]
        made.add_row(
            cell(record["source"]),
            cell(record["chip"].removeprefix("ascend-")),
            cell(record["kind"]),
            cell(str(record["rows"])),
            cell(units.percent(record["mean"]), style),
            cell(f"{record['median']:+.0%}"),
            cell("" if record["naive"] is None else units.percent(record["naive"])),
            cell("" if record["regret"] is None else units.percent(record["regret"])),
            cell("" if record["aim"] is None else f"{record['aim']:.0%}", style),
        )
    return made
