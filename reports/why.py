"""Why a run takes as long as it does, as text: the tree of its time, the critical path, and what would help."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.text import Bar, bullets, cell, shorten, table
from simulator import units
from simulator.result import PART_LABELS
from simulator.why import CriticalPath, Line, Why

BEST = 3
LIMIT_LENGTH = 30


def why_report(why: Why, every_change: bool = False) -> RenderableType:
    """Return the tree, the critical path by part, and the best changes.

    Parameters
    ----------
    every_change
        List all changes that gain anything, not only the best three.
    """
    blocks: list[RenderableType] = [cell(why.scenario, "bold"), tree_table(why), path_table(why.path)]
    if why.changes:
        blocks.append(change_table(why, len(why.changes) if every_change else BEST))
    return Group(*blocks, bullets("Notes", why.notes), Text())


def tree_table(why: Why) -> Table:
    """Return the tree with each line's share, distance from the speed of light, limit, and origin of constants."""
    headers = ("what", "time", "share", "of light", "limited by", "constants")
    made = table("Where the time goes", *headers, left=(0, 4, 5))
    made.columns[0].no_wrap = made.columns[4].no_wrap = True
    for guide, line, depth in _walk(why.tree, ""):
        style = "bold" if depth < 2 else ""
        made.add_row(
            Text(guide, "dim") + cell(line.what, style),
            cell(units.seconds(line.time_s), style),
            cell(units.percent(line.share), style),
            cell("" if line.light is None else units.percent(line.light)),
            cell(shorten(line.limited_by, LIMIT_LENGTH), "dim"),
            cell(line.constants, "yellow" if line.constants == "assumed" else "dim"),
        )
    return made


def _walk(line: Line, guide: str, depth: int = 0, last: bool = True) -> Iterator[tuple[str, Line, int]]:
    own = guide + ("" if depth == 0 else "└ " if last else "├ ")
    yield own, line, depth
    below = guide if depth == 0 else guide + ("  " if last else "│ ")
    for index, each in enumerate(line.lines):
        yield from _walk(each, below, depth + 1, index == len(line.lines) - 1)


def path_table(path: CriticalPath) -> Table:
    """Return what the critical path is spent on."""
    length_s = sum(path.parts_s.values())
    streams = len({step.stream for step in path.steps})
    title = f"Critical path: {units.count(len(path.steps))} operations on {streams} streams"
    made = table(title, "part", "time", "share", "", left=(0, 3))
    for name, time_s in sorted(path.parts_s.items(), key=lambda item: -item[1]):
        if time_s > 1e-9 * length_s:
            share = time_s / length_s
            made.add_row(
                cell(PART_LABELS[name]), cell(units.seconds(time_s)), cell(units.percent(share)), Bar(share, "blue")
            )
    return made


def change_table(why: Why, rows: int) -> Table:
    """Return the best single changes and what each gains."""
    made = table("What would help most, one at a time", "change", "time", "throughput", "gain", left=(0,))
    for change in why.changes[:rows]:
        made.add_row(
            cell(change.what),
            cell(units.seconds(change.step_s)),
            cell(f"+{units.tokens_per_s(change.gain_tokens_per_s)}"),
            cell(units.percent(change.gain, signed=True)),
        )
    return made
