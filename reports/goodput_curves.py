"""Goodput against size, and against the checkpoint interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from reports.style import INK, MUTED, SERIES_COLOURS, SERIES_MARKERS, figure, headline, log_text, save, style
from simulator import units

Rows = Sequence[Mapping[str, Any]]
# What takes time, from the axis up, with its colour: blues for work, reds for loss, greys for standing still.
STACK = {
    "useful": ("useful work", "#2F5BC0"),
    "slowed": ("slowed", "#8FC1F2"),
    "checkpoint": ("checkpoints", "#F0C11F"),
    "lost": ("lost work", "#E03C14"),
    "detection": ("not yet noticed", "#F5A069"),
    "restart": ("restart", "#71146C"),
    "waiting": ("waiting for a node", "#686E75"),
}


def goodput_over_chips(rows: Rows, path: Path | str, title: str) -> Path:
    """Draw where the time goes at each size, with the spread of goodput over histories.

    Parameters
    ----------
    rows
        Rows of outlooks: chips, goodput_p10, goodput_median, goodput_p90, goodput_analytic, and a `<part>_share` for
        each of `STACK`.
    path
        PNG, SVG or PDF.
    """
    shown = [row for row in rows if not row.get("reason")]
    with style():
        drawn = figure(9.0, 4.6)
        axes = drawn.subplots()
        places = list(range(len(shown)))
        base = [0.0] * len(shown)
        for name, (label, colour) in STACK.items():
            heights = [float(row[f"{name}_share"]) for row in shown]
            if any(height > 1e-9 for height in heights):
                axes.bar(places, heights, 0.62, base, color=colour, label=label, edgecolor="white", linewidth=0.6)
                base = [low + height for low, height in zip(base, heights, strict=True)]
        for place, row in zip(places, shown, strict=True):
            _mark(axes, place, row)
        axes.set_xticks(places, [units.count(row["chips"]) for row in shown])
        axes.set_xlabel("working chips")
        lowest = min((float(row["goodput_p10"]) for row in shown), default=0.0)
        axes.set_ylim(max(0.0, lowest - 1.5 * (1.0 - lowest)), 1.0 + 0.06 * (1.0 - lowest))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.set_ylabel("share of time (axis cut)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        headline(drawn, title, "Bars: mean over histories. Line: p10 to p90 of goodput. Dash: closed formula.")
        return save(drawn, path)


def _mark(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    low, middle, high, formula = (float(row[f"goodput_{name}"]) for name in ("p10", "median", "p90", "analytic"))
    axes.plot([place, place], [low, high], color=INK, linewidth=1.6)
    axes.plot([place - 0.12, place + 0.12], [formula, formula], color=INK, linewidth=1.6)
    axes.annotate(
        units.percent(middle), (place, low), (0, -4), textcoords="offset points", ha="center", va="top", color="white"
    )


def goodput_over_interval(curves: Rows, points: Rows, path: Path | str, title: str) -> Path:
    """Draw goodput against the checkpoint interval: the closed formula, and simulated points with their spread.

    Parameters
    ----------
    curves
        Rows chips, checkpoint_interval_s, goodput_analytic; one curve per number of chips.
    points
        The same with goodput_p10, goodput_median, goodput_p90.
    path
        PNG, SVG or PDF.
    """
    with style():
        drawn = figure(9.0, 4.6)
        axes = drawn.subplots()
        axes.grid(True)
        for place, chips in enumerate(dict.fromkeys(row["chips"] for row in curves)):
            colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
            own = [row for row in curves if row["chips"] == chips]
            over_s = [row["checkpoint_interval_s"] for row in own]
            heights = [row["goodput_analytic"] for row in own]
            axes.plot(over_s, heights, color=colour, label=f"{units.count(chips)} chips")
            marker = SERIES_MARKERS[place % len(SERIES_MARKERS)]
            for row in (row for row in points if row["chips"] == chips):
                at_s = row["checkpoint_interval_s"]
                axes.plot([at_s, at_s], [row["goodput_p10"], row["goodput_p90"]], color=colour, linewidth=1.6)
                axes.plot([at_s], [row["goodput_median"]], marker=marker, color=colour, markersize=6.0)
        axes.set_xscale("log")
        _dress_interval(axes)
        axes.legend(loc="lower left")
        headline(drawn, title, "Lines: closed formula. Points: median of simulated histories, p10 to p90.")
        return save(drawn, path)


def _dress_interval(axes: Axes) -> None:
    ticks = [1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000, 86_400]
    low, high = axes.get_xlim()
    inside = [tick for tick in ticks if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(inside) if len(inside) > 1 else LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _duration(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("work between checkpoints")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_ylabel("goodput", color=MUTED)


def _duration(value_s: float) -> str:
    for name, size_s in (("h", 3600.0), ("min", 60.0)):
        if value_s >= size_s:
            return f"{value_s / size_s:g} {name}"
    return f"{log_text(value_s)} s"
