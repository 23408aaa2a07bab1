"""What a token costs at each size, by part: why scaling falls short, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from reports.text import bullets, cell, table
from simulator import units
from simulator.result import PART_LABELS, PARTS

Rows = Sequence[Mapping[str, Any]]
NAMED = 2  # parts that grew, named in the table
LEAST_GROWTH = 0.001


def scaling_table(rows: Rows, title: str) -> RenderableType:
    """Return efficiency by size, and the parts that grew most.

    Parameters
    ----------
    rows
        As `simulator.study.scaling.with_growth` returns them.
    """
    heads = (
        "chips",
        "step",
        "tokens/s",
        "per chip",
        "efficiency",
        "MFU",
        "what grew, of the first size",
    )
    made = table(title, *heads, left=(6,))
    refused = []
    for row in rows:
        if not row["feasible"]:
            refused.append(f"{units.count(row['cluster.chips'])} chips: {row['reason']}")
            continue
        made.add_row(
            cell(units.count(row["chips"])),
            cell(units.seconds(row["step_s"])),
            cell(units.tokens(row["tokens_per_s"])),
            cell(units.tokens(row["tokens_per_s_per_chip"])),
            cell(units.percent(row["efficiency"])),
            cell(units.percent(row["mfu"])),
            cell(_grown(row), "dim"),
        )
    return Group(made, bullets("Can't be run", refused, "red")) if refused else made


def _grown(row: Mapping[str, Any]) -> str:
    growth = {part: float(row[f"growth_{part}"]) for part in PARTS}
    largest = sorted(growth, key=lambda part: -growth[part])[:NAMED]
    return ", ".join(
        f"{PART_LABELS[part].removesuffix(' (exposed)')} {units.percent(growth[part], signed=True)}"
        for part in largest
        if growth[part] >= LEAST_GROWTH
    )
