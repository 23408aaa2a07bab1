"""Plain tables of facts: catalogue entries, checks, sources."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from reports.text import cell, table
from simulator.result import Source


def facts_table(rows: Sequence[Mapping[str, Any]], title: str) -> RenderableType:
    """Return rows of equal keys as a table; the keys are its headings.

    Parameters
    ----------
    rows
        Values are written as they are; the columns of text are set left, those that start with a digit right.
    """
    if not rows:
        return cell(f"{title}: nothing")
    names = list(rows[0])
    texts = [[str(row.get(name, "")) for name in names] for row in rows]
    left = tuple(index for index in range(len(names)) if not all(_numeric(line[index]) for line in texts))
    made = table(title, *names, left=left)
    made.columns[0].no_wrap = len(names) > 2 and max(len(line[0]) for line in texts) <= 32
    for line in texts:
        made.add_row(*(cell(text) for text in line))
    return made


def _numeric(text: str) -> bool:
    return text in {"", "-"} or text[0].isdigit()


def source_table(sources: Sequence[Source]) -> RenderableType:
    """Return where each figure of a run comes from, those that were assumed first."""
    order = {"assumed": 0, "fitted": 1, "measured": 2, "trace": 3, "datasheet": 4}
    rows = [
        {"figure": source.what, "kind": source.kind, "source": source.source}
        for source in sorted(sources, key=lambda source: order[source.kind])
    ]
    return Group(facts_table(rows, "Where the figures come from"))
