"""Scaling curves: throughput against the swept axis, efficiency below it, and what holds each point back."""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from reports.curves import Axis, Floats, Series, read_axis, read_curves
from reports.style import (
    MUTED,
    figure,
    headline,
    hide_spines,
    ink_on,
    log_text,
    part_short,
    save,
    style,
)
from reports.text import shorten

WIDTH_IN = 9.0
MAX_TICKS = 18
AXIS_LABELS = {
    "chips": "chips",
    "cluster.chips": "chips",
    "plan.expert": "EP size [ranks]",
    "plan.tensor": "TP size [ranks]",
    "plan.pipeline": "PP size [stages]",
    "plan.virtual_stages": "virtual stages per rank",
    "workload.batch_per_rank": "sequences per rank",
    "workload.sequence_tokens": "tokens per sequence",
}
CHARACTERS = 92  # that fit side by side into the strip


def scaling_curve(
    frame: pd.DataFrame,
    path: Path | str,
    title: str = "Scaling",
    axis: str | None = None,
    series: str | None = None,
) -> Path:
    """Draw throughput (log-log, with the ideal line), scaling efficiency and the dominant bottleneck of every point.

    Parameters
    ----------
    frame
        One row per point: the axis, optionally a series column, tokens_per_s, and where known tokens_per_s_per_chip,
        efficiency (fraction of ideal), bottleneck (a name of `PARTS`), feasible, reason.
    path
        PNG, SVG or PDF.
    axis
        Swept column; without it `chips`, or else the first column.
    series
        Column that tells curves apart; without it `series` or `label` where there is one.
    """
    axis_name = axis or ("chips" if "chips" in frame else str(frame.columns[0]))
    series_name = series or next((name for name in ("series", "label") if name in frame), None)
    swept = read_axis(frame, axis_name)
    curves = read_curves(frame, swept, series_name)
    with style():
        strip_in = 0.42 * len(curves) + 0.45
        drawn = figure(WIDTH_IN, 5.6 + strip_in)
        heights = [3.5, 1.5, strip_in]
        top, middle, bottom = drawn.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        if swept.is_log:
            bottom.set_xscale("log", base=2)
        _draw_throughput(top, swept, curves)
        _draw_efficiency(middle, swept, curves)
        _draw_strip(bottom, swept, curves)
        _dress_axis(bottom, swept)
        headline(drawn, title, "Marker fill and strip below: the part that takes most of the time.")
        return save(drawn, path)


def _draw_throughput(axes: Axes, axis: Axis, curves: Sequence[Series]) -> None:
    axes.set_title("Throughput [tokens/s]", fontsize=9.0, fontweight="normal", color=MUTED)
    axes.grid(True, which="major")
    for curve in curves:
        x, y = curve.x[curve.feasible], curve.tokens_per_s[curve.feasible]
        if len(curve.linear):
            axes.plot(x, curve.linear, ":", color=curve.colour, linewidth=1.2)
        axes.plot(x, y, color=curve.colour, zorder=3)
        fills = [curve.colour_of(point) for point in np.flatnonzero(curve.feasible).tolist()]
        axes.scatter(x, y, c=fills, marker=curve.marker, s=58, edgecolors=curve.colour, linewidths=1.5, zorder=4)
    _dress_throughput(axes, curves)
    _mark_refused(axes, curves)
    handles = _legend(curves)
    if handles:
        axes.legend(handles=handles, loc="upper left")


def _mark_refused(axes: Axes, curves: Sequence[Series]) -> None:
    """Put a cross on the axis for each infeasible point, one above the other where curves share it."""
    stacked: Counter[float] = Counter()
    for curve in curves:
        for x in curve.x[~curve.feasible].tolist():
            at = (x, 0.04 * stacked[x])
            stacked[x] += 1
            axes.plot(
                *([value] for value in at),
                "x",
                color=curve.colour,
                markeredgewidth=2.0,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=5,
            )


def _legend(curves: Sequence[Series]) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            color=curve.colour,
            marker=curve.marker,
            markerfacecolor="white",
            markeredgewidth=1.5,
            label=shorten(curve.label, 44),
        )
        for curve in curves
        if curve.label
    ]
    if any(len(curve.linear) for curve in curves):
        handles.append(
            Line2D([], [], linestyle=":", linewidth=1.2, color=MUTED, label="linear from the smallest point")
        )
    if any(not curve.feasible.all() for curve in curves):
        handles.append(Line2D([], [], linestyle="", marker="x", color=MUTED, markeredgewidth=2.0, label="infeasible"))
    return handles


def _dress_throughput(axes: Axes, curves: Sequence[Series]) -> None:
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    seen = np.concatenate([*lines, np.empty(0)])
    if not len(seen):
        axes.text(0.5, 0.5, "no feasible point", transform=axes.transAxes, ha="center", color=MUTED, fontsize=11)
        axes.yaxis.set_major_locator(NullLocator())
        return
    low, high = float(seen.min()) / 1.7, float(seen.max()) * 1.7
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = (1.0, 2.0, 5.0) if high / low < 300.0 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: log_text(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_efficiency(axes: Axes, axis: Axis, curves: Sequence[Series]) -> None:
    what = "Scaling efficiency" if any(len(curve.linear) for curve in curves) else "Throughput per chip"
    axes.set_title(f"{what}, against the smallest point", fontsize=9.0, fontweight="normal", color=MUTED)
    axes.grid(True)
    seen = [0.0]
    for curve in curves:
        known = np.isfinite(curve.efficiency)
        axes.plot(curve.x[known], curve.efficiency[known], color=curve.colour, marker=curve.marker, markersize=4.5)
        seen += curve.efficiency[known].tolist()
    axes.axhline(1.0, color=MUTED, linestyle=":", linewidth=1.2)
    axes.set_ylim(0.0, max(1.1, 1.1 * max(seen)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    _label_ends(axes, curves)


def _label_ends(axes: Axes, curves: Sequence[Series]) -> None:
    """Write the last efficiency of each curve beside it, pushed apart where they would touch."""
    ends = [
        (float(curve.efficiency[known][-1]), float(curve.x[known][-1]), curve.colour)
        for curve in curves
        if (known := np.isfinite(curve.efficiency)).any()
    ]
    gap = 0.09 * axes.get_ylim()[1]
    at = -math.inf
    for value, x, colour in sorted(ends):
        at = max(value, at + gap)
        text = f"{100 * value:.0f} %"
        axes.annotate(text, (x, at), (8, 0), textcoords="offset points", va="center", color=colour, fontsize=8.5)


def _draw_strip(axes: Axes, axis: Axis, curves: Sequence[Series]) -> None:
    axes.set_title("Dominant bottleneck", fontsize=9.0, fontweight="normal", color=MUTED)
    borders = axis.edges()
    for row, curve in enumerate(curves):
        places = np.searchsorted(axis.values, curve.x)
        for first, last in _runs(curve, places):
            sides = (float(borders[places[first]]), float(borders[places[last] + 1]))
            _draw_cell(axes, curve, first, row, sides)
            _write_cell(axes, axis, _words(curve, first, is_alone=first == last), row, sides, curve.colour_of(first))
    labels = [shorten(curve.label, 24) for curve in curves]
    axes.set_yticks(range(len(curves)), labels)
    for tick, curve in zip(axes.get_yticklabels(), curves, strict=True):
        tick.set_color(curve.colour)
    axes.set_ylim(max(1, len(curves)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    hide_spines(axes, "left", "bottom")


def _runs(curve: Series, places: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Return first and last point of each run of neighbours that say the same."""
    keys = [(bool(curve.feasible[point]), _words(curve, point, is_alone=False)) for point in range(len(curve.x))]
    cuts = [
        point
        for point in range(1, len(keys))
        if keys[point] != keys[point - 1] or places[point] != places[point - 1] + 1
    ]
    starts = [0, *cuts] if keys else []
    return list(zip(starts, [*(cut - 1 for cut in cuts), len(keys) - 1], strict=False))


def _words(curve: Series, point: int, is_alone: bool) -> str:
    """Return the bottleneck, or why the point is infeasible: in full where alone, else the first clause."""
    if curve.feasible[point]:
        return part_short(curve.bottleneck[point])
    reason = curve.reason[point].strip().split(": ", 1)[-1]  # less the key it is about
    return (reason if is_alone else re.split("[,;=]", reason)[0].strip()) or "infeasible"


def _draw_cell(axes: Axes, curve: Series, point: int, row: int, sides: tuple[float, float]) -> None:
    left, right = sides
    is_fine = bool(curve.feasible[point])
    axes.bar(
        left,
        0.84,
        right - left,
        row - 0.42,
        align="edge",
        color=curve.colour_of(point),
        hatch=None if is_fine else "////",
        edgecolor="white" if is_fine else "#C4C8CD",
        linewidth=1.2,
    )


def _write_cell(axes: Axes, axis: Axis, words: str, row: int, sides: tuple[float, float], colour: str) -> None:
    """Write words into a cell of the strip, folded or cut, or not at all where the cell is too narrow."""
    left, right = axis.spread(np.array(sides))
    span = axis.spread(axis.edges()[[0, -1]])
    characters = int(CHARACTERS * (right - left) / (span[1] - span[0]))
    if characters < len(words.split(":", 1)[0].split(" ", 1)[0]):
        return
    folded = textwrap.fill(words, characters, max_lines=3, placeholder="...")
    middle = float(axis.unspread(np.array((left + right) / 2.0)))
    size = 6.5 if "\n" in folded else 8.0
    axes.text(middle, row, folded, ha="center", va="center", fontsize=size, color=ink_on(colour), linespacing=0.95)


def _dress_axis(axes: Axes, axis: Axis) -> None:
    axes.set_xlabel(AXIS_LABELS.get(axis.name, axis.name))
    if not len(axis.values):
        return
    borders = axis.edges()
    axes.set_xlim(float(borders[0]), float(borders[-1]))
    kept = _thinned(axis, borders)
    axes.xaxis.set_major_locator(FixedLocator([float(axis.values[place]) for place in kept]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    labels = {float(axis.values[place]): shorten(axis.names[place], 16) for place in kept}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(float(value), "")))


def _thinned(axis: Axis, borders: Floats) -> list[int]:
    """Return the points that get a tick: as many as fit without touching, the first always."""
    at = axis.spread(axis.values)
    span = float(np.ptp(axis.spread(borders)))
    kept: list[int] = []
    for place in range(len(at)):
        if not kept or float(at[place] - at[kept[-1]]) >= span / MAX_TICKS:
            kept.append(place)
    return kept
