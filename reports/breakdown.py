"""Bars: where the time of each run goes, and how runs compare per chip, per watt and per dollar."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from reports.comparison import tokens_per_joule, tokens_per_usd
from reports.style import (
    INK,
    MUTED,
    SERIES_COLOURS,
    figure,
    headline,
    hide_spines,
    ink_on,
    ordered_parts,
    part_colour,
    part_label,
    save,
    style,
)
from reports.text import shorten
from simulator import units
from simulator.result import Result

WIDTH_IN = 9.0
NAME_LENGTH = 34
TIMED_SHARE = 0.07  # a segment of this share has room for its share and time
LABELLED_SHARE = 0.035  # and one of this for its share alone

_Panel = tuple[str, Callable[[Result], float | None], Callable[[float | None], str]]
_PANELS: tuple[_Panel, ...] = (
    ("tokens/s", lambda result: result.tokens_per_s, units.tokens),
    ("tokens/s per chip", lambda result: result.tokens_per_s_per_chip, units.tokens),
    ("tokens/s per watt", tokens_per_joule, units.number),
    ("tokens per dollar", tokens_per_usd, units.tokens),
)


def breakdown_bars(results: Sequence[Result], path: Path | str, title: str = "Where the time goes") -> Path:
    """Draw one bar per run, split into parts of the time, each with its share and its time.

    Parameters
    ----------
    results
        Runs from top to bottom; times are of one step or iteration.
    path
        PNG, SVG or PDF.
    """
    present = {name for result in results for name, part_s in result.breakdown_s.items() if part_s > 0.0}
    parts = ordered_parts(present)
    with style():
        legend_rows = -(-len(parts) // 4)
        drawn = figure(WIDTH_IN, 1.35 + 0.62 * max(1, len(results)) + 0.22 * legend_rows)
        axes = drawn.subplots()
        for row, result in enumerate(results):
            _draw_bar(axes, row, result, parts)
        _dress_rows(axes, results)
        axes.set_xlim(0.0, 1.0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        axes.set_xlabel("share of the step or iteration")
        swatches = [Patch(color=part_colour(part), label=part_label(part)) for part in parts]
        drawn.legend(handles=swatches, loc="outside lower left", ncols=4, columnspacing=1.4, handlelength=1.2)
        headline(drawn, title)
        return save(drawn, path)


def _draw_bar(axes: Axes, row: int, result: Result, parts: Sequence[str]) -> None:
    whole = sum(result.breakdown_s.values())
    left = 0.0
    for part in parts:
        part_s = result.breakdown_s.get(part, 0.0)
        share = part_s / whole if whole > 0.0 else 0.0
        colour = part_colour(part)
        axes.barh(row, share, 0.66, left, color=colour, edgecolor="white", linewidth=1.0)
        if share >= LABELLED_SHARE:
            text = f"{100 * share:.0f} %" + (f"\n{units.seconds(part_s)}" if share >= TIMED_SHARE else "")
            axes.text(left + share / 2, row, text, ha="center", va="center", fontsize=7.5, color=ink_on(colour))
        left += share
    total = units.seconds(result.step_s)
    axes.annotate(total, (1.0, row), (6, 0), textcoords="offset points", va="center", fontsize=9, fontweight="bold")


def _dress_rows(axes: Axes, results: Sequence[Result], is_named: bool = True) -> None:
    names = [f"{shorten(result.scenario, NAME_LENGTH)}\n{_machine(result)}" for result in results]
    axes.set_yticks(range(len(results)), names if is_named else [""] * len(results))
    axes.set_ylim(max(1, len(results)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    hide_spines(axes, "left")


def _machine(result: Result) -> str:
    return shorten(f"{units.count(result.chips)} x {result.chip}", NAME_LENGTH)


def comparison_bars(results: Sequence[Result], path: Path | str, title: str = "Comparison") -> Path:
    """Draw throughput in all, per chip, per watt and per dollar as small multiples; ratios are against the first run.

    Parameters
    ----------
    results
        Runs from top to bottom, the first is the reference; a run without power or cost has no bar there.
    path
        PNG, SVG or PDF.
    """
    with style():
        drawn = figure(WIDTH_IN + 1.0, 1.1 + 0.55 * max(1, len(results)))
        panels = drawn.subplots(1, len(_PANELS), squeeze=False)[0]
        for place, (axes, panel) in enumerate(zip(panels, _PANELS, strict=True)):
            _draw_panel(axes, panel, results)
            _dress_rows(axes, results, is_named=place == 0)
        headline(drawn, title, "Longer is better. Ratios are against the first run." if len(results) > 1 else "")
        return save(drawn, path)


def _draw_panel(axes: Axes, panel: _Panel, results: Sequence[Result]) -> None:
    label, read, write = panel
    values = [read(result) for result in results]
    longest = max((value for value in values if value is not None), default=0.0) or 1.0
    for row, value in enumerate(values):
        colour = SERIES_COLOURS[row % len(SERIES_COLOURS)]
        if value is None:
            axes.annotate(
                "unknown", (0.0, row), (4, 0), textcoords="offset points", va="center", fontsize=8, color=MUTED
            )
            continue
        axes.barh(row, value / longest, 0.62, color=colour)
        text = write(value)
        if row and values[0]:
            text += f"\n{units.ratio(value / values[0])}"
        end = (value / longest, row)
        axes.annotate(text, end, (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    axes.set_title(label, fontsize=9)
    axes.set_xlim(0.0, 1.55)  # room for the numbers behind the longest bar
    axes.set_xticks([])
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    hide_spines(axes, "bottom")
