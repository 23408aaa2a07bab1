"""Recorded interruptions: a CSV with a column `hours`, and optionally `component`."""

import csv
import math
from pathlib import Path

from simulator.errors import UserError
from simulator.reliability.job import HOUR_S, FailureClass

MAX_PROBLEMS = 5
MAX_ROWS = 200_000
# Components whose failure does not take a node away.
STAYS = frozenset({"network", "software", "planned"})


def read_history(path: str) -> tuple[list[float], list[int], tuple[FailureClass, ...]]:
    """Return times since the start [s] in order, each one's class, and the classes (rates 0: they are not drawn).

    Components `network`, `software` and `planned` leave the nodes as they are; any other takes its node.

    Raises
    ------
    UserError
        If the file can't be read, or rows hold no time: each named.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise UserError(f"reliability.history: {path}: can't be read: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"reliability.history: {path}: not CSV text in UTF-8; give columns hours, component") from None
    if not rows or "hours" not in rows[0]:
        raise UserError(f"reliability.history: {path}: column hours is missing, or there are no rows; add both")
    if len(rows) > MAX_ROWS:
        raise UserError(f"reliability.history: {path}: more than {MAX_ROWS:,} rows; cut it")
    times = [_hours(row["hours"]) for row in rows]
    problems = [
        f"reliability.history: {path}: row {place}: hours = {str(row['hours'])[:40]}: give hours since the start"
        for place, (row, hours) in enumerate(zip(rows, times, strict=True), 2)
        if hours is None
    ]
    if problems:
        raise UserError(*problems[:MAX_PROBLEMS])
    found = sorted(
        (hours or 0.0, (row.get("component") or "any").strip()) for hours, row in zip(times, rows, strict=True)
    )
    names = list(dict.fromkeys(name for _, name in found))
    classes = tuple(FailureClass(name, 0.0, name not in STAYS, name == "planned") for name in names)
    return [hours * HOUR_S for hours, _ in found], [names.index(name) for _, name in found], classes


def _hours(text: object) -> float | None:
    try:
        hours = float(str(text))
    except ValueError:
        return None
    return hours if math.isfinite(hours) and hours >= 0 else None
