"""What all text reports share: a console of at most 100 columns, plain cells and bars."""

import io
import math
import sys
from collections.abc import Iterable
from typing import IO

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

WIDTH = 100
BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Bar:
    """A horizontal bar of a fraction between 0 and 1, with `#` where the terminal has no block characters."""

    def __init__(self, fraction: float, style: str = "", width: int = BAR_WIDTH) -> None:
        self.fraction = min(1.0, max(0.0, fraction))
        self.style = Style.parse(style)
        self.width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self.width, options.max_width)
        if options.ascii_only:
            drawn = "#" * round(self.fraction * width)
        else:
            whole, eighths = divmod(math.ceil(self.fraction * width * 8), 8)
            drawn = _EIGHTHS[-1] * whole + (_EIGHTHS[eighths] if eighths else "")
        yield Segment(f"{drawn:<{width}}", self.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(4, options.max_width), min(self.width, options.max_width))


def console(file: IO[str] | None = None) -> Console:
    """Return a console for reports: at most 100 columns wide, and exactly that where the output is not a terminal."""
    probe = Console(file=file or sys.stdout)
    width = min(WIDTH, probe.width) if probe.is_terminal else WIDTH
    return Console(file=file or sys.stdout, width=width, highlight=False, emoji=False, markup=False)


def render(renderable: RenderableType, width: int = WIDTH) -> str:
    """Return a report as plain text without colour, at most `width` columns wide and without trailing blanks."""
    buffer = io.StringIO()
    plain = Console(
        file=buffer, width=width, color_system=None, force_terminal=False, emoji=False, legacy_windows=False
    )
    plain.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def cell(value: object, style: str = "") -> Text:
    """Return text that rich prints as it is: `[P]` in it is no markup."""
    return Text(str(value), style=style, overflow="fold")


def shorten(text: str, width: int) -> str:
    """Cut text to `width` characters, marking the cut."""
    return text if len(text) <= width else text[: max(1, width - 3)].rstrip() + "..."


def shorten_fabric(name: str, fabric: str) -> str:
    """Cut a long fabric's name in a link's."""
    return name.replace(fabric, shorten(fabric.split("(", maxsplit=1)[0].strip(), 20))


def table(title: str, *headers: str, left: Iterable[int] = (0,)) -> Table:
    """Return an empty table whose columns are right-aligned except those in `left`."""
    aligned_left = set(left)
    made = Table(
        title=cell(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
        expand=False,
    )
    for index, header in enumerate(headers):
        made.add_column(cell(header), justify="left" if index in aligned_left else "right", overflow="fold")
    return made


def pairs(rows: Iterable[tuple[str, str]], columns: int = 2) -> Table:
    """Lay (label, value) pairs out in a grid of `columns` pairs a line."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(columns):
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
    known = list(rows)
    for start in range(0, len(known), columns):
        grid.add_row(*(cell(text) for pair in known[start : start + columns] for text in pair))
    return grid


def bullets(title: str, lines: Iterable[str], style: str = "") -> RenderableType:
    """Return a titled list, folded with a hanging indent."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row(cell("-", style), cell(line))
    outer = Table.grid()
    outer.add_row(cell(title, f"bold {style}".strip()))
    outer.add_row(grid)
    return outer
