"""Predicted against measured: one log-log panel per kind of quantity, and the error of every point by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from reports.style import (
    INK,
    MUTED,
    SERIES_COLOURS,
    SERIES_MARKERS,
    figure,
    headline,
    hide_spines,
    log_text,
    save,
    style,
)
from reports.text import shorten

BAND = 0.10
PANELS_IN_ROW = 3
NAMED_POINTS = 45  # more than this and the lower panel shows how errors spread by area, not one line per point
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """How one area is drawn, and its points."""

    name: str
    colour: str
    marker: str
    rows: pd.DataFrame  # columns id, unit, predicted, measured, error, evidence, number


def validation_scatter(frame: pd.DataFrame, path: Path | str, title: str = "Predicted against measured") -> Path:
    """Draw predictions against measurements on log-log axes with a band of 10 %, and the error of every point.

    Parameters
    ----------
    frame
        Columns id, area, predicted, measured, unit, evidence; rows without both positive numbers are left out.
    path
        PNG, SVG or PDF.
    """
    areas = _areas(frame)
    panels = [(area, str(unit)) for area in areas for unit in area.rows["unit"].drop_duplicates()]
    points = sum(len(area.rows) for area in areas)
    rows = max(1, -(-len(panels) // PANELS_IN_ROW))
    upper_in = 2.9 * rows
    lower_in = 0.75 + (0.2 * points if points <= NAMED_POINTS else 0.55 * len(areas))
    with style():
        drawn = figure(9.0, upper_in + lower_in + 0.6)
        if not points:
            drawn.text(0.5, 0.5, "no point could be predicted", ha="center", color=MUTED, fontsize=11)
        else:
            upper, lower = np.ravel(np.asarray(drawn.subfigures(2, 1, height_ratios=[upper_in, lower_in])))
            _draw_panels(upper, panels, rows, is_numbered=points <= NAMED_POINTS)
            _draw_errors(lower, areas, points)
        headline(drawn, title, _subtitle(points, len(frame)))
        return save(drawn, path)


def _subtitle(points: int, rows: int) -> str:
    left_out = f"; {rows - points} of {rows} could not be predicted" if rows > points else ""
    return f"Solid line: predicted = measured. Band: within {100 * BAND:.0f} %. {points} points{left_out}."


def _areas(frame: pd.DataFrame) -> list[Area]:
    numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in ("predicted", "measured")}
    rows = frame.assign(**numbers)
    rows = rows[(rows["predicted"] > 0.0) & (rows["measured"] > 0.0) & np.isfinite(rows["predicted"])]
    order = {name: place for place, name in enumerate(dict.fromkeys(rows["area"]))}
    rows = rows.assign(error=rows["predicted"] / rows["measured"] - 1.0)
    rows = rows.iloc[np.argsort([order[name] for name in rows["area"]], kind="stable")]
    rows = rows.assign(number=np.arange(1, len(rows) + 1))
    return [
        Area(
            str(name),
            SERIES_COLOURS[place % len(SERIES_COLOURS)],
            SERIES_MARKERS[place % len(SERIES_MARKERS)],
            rows[rows["area"] == name],
        )
        for name, place in order.items()
    ]


def _draw_panels(upper: SubFigure, panels: Sequence[tuple[Area, str]], rows: int, is_numbered: bool) -> None:
    columns = min(PANELS_IN_ROW, len(panels)) if rows == 1 else PANELS_IN_ROW
    grid = upper.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(panels):
            area, unit = panels[place]
            _draw_panel(axes, area, unit, is_numbered)
            if place % columns == 0:
                axes.set_ylabel("predicted")
            axes.set_xlabel("measured")
        else:
            axes.set_visible(False)


def _draw_panel(axes: Axes, area: Area, unit: str, is_numbered: bool) -> None:
    rows = area.rows[area.rows["unit"].astype(str) == unit]
    measured, predicted = rows["measured"].to_numpy(dtype=float), rows["predicted"].to_numpy(dtype=float)
    low, high = _limits(np.concatenate([measured, predicted]))
    line = np.array([low, high])
    axes.fill_between(line, (1.0 - BAND) * line, (1.0 + BAND) * line, color="#DFE3E8", linewidth=0)
    axes.plot(line, line, color=MUTED, linewidth=1.0)
    axes.scatter(
        measured, predicted, c=area.colour, marker=area.marker, s=34, alpha=0.9, edgecolors="white", linewidths=0.7
    )
    if is_numbered:
        _number_points(axes, rows, (low, high))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    steps = (1.0, 2.0, 5.0) if high / low < 60.0 else (1.0,)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_locator(LogLocator(subs=steps, numticks=8))
        one.set_major_formatter(FuncFormatter(lambda value, _: log_text(value)))
        one.set_minor_formatter(NullFormatter())
    axes.set_title(f"{area.name} [{unit}]", fontsize=9, color=area.colour)


def _limits(values: _Floats) -> tuple[float, float]:
    """Return the shared limits of both axes: room around the points, and at least a decade."""
    low, high = float(values.min()) / 1.6, float(values.max()) * 1.6
    widen = max(1.0, math.sqrt(10.0 * low / high))
    return low / widen, high * widen


def _number_points(axes: Axes, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    """Write each number on the side of its point away from the diagonal, unless it would cover another."""
    low, high = limits
    points = rows.assign(off=-rows["error"].abs()).sort_values("off", kind="stable")  # the worst get theirs first
    taken: list[tuple[float, float]] = []
    for row in points.to_dict("records"):
        x, y = float(row["measured"]), float(row["predicted"])
        side = 1.0 if y >= x else -1.0
        across, up = (math.log(value / low) / math.log(high / low) for value in (x, y))
        spot = (across - 0.05 * side, up + 0.05 * side)
        if all(abs(spot[0] - other[0]) > 0.07 or abs(spot[1] - other[1]) > 0.06 for other in taken):
            taken.append(spot)
            offset = (-7.0 * side, 7.0 * side)
            text = str(row["number"])
            axes.annotate(text, (x, y), offset, textcoords="offset points", ha="center", va="center", fontsize=7.5)


def _draw_errors(lower: Figure | SubFigure, areas: Sequence[Area], points: int) -> None:
    axes = lower.subplots()
    axes.set_title("Error of the prediction", fontsize=9)
    axes.axvspan(-BAND, BAND, color="#DFE3E8", linewidth=0)
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    axes.grid(True, axis="x")
    if points <= NAMED_POINTS:
        _list_points(axes, areas)
    else:
        _spread_points(axes, areas)
    largest = max(float(area.rows["error"].abs().max()) for area in areas)
    reach = 1.25 * max(largest, 2 * BAND)
    lowest = min(float(area.rows["error"].min()) for area in areas)
    axes.set_xlim(max(-reach, min(1.6 * lowest, -2 * BAND)), reach)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:+.0f} %" if abs(value) > 1e-9 else "0")
    )
    axes.tick_params(axis="y", length=0)
    hide_spines(axes, "left")


def _list_points(axes: Axes, areas: Sequence[Area]) -> None:
    labels = []
    for area in areas:
        for row in area.rows.to_dict("records"):
            place, error = int(row["number"]), float(row["error"])
            axes.plot([0.0, error], [place, place], color=area.colour, linewidth=1.4)
            axes.plot([error], [place], marker=area.marker, color=area.colour, markersize=5.0)
            side = 1 if error >= 0.0 else -1
            axes.annotate(
                f"{100 * error:+.0f} %",
                (error, place),
                (6 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=7.5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.6},
            )
            labels.append(f"{shorten(str(row['id']), 44)}  [{row['evidence']}]  {place}")
    axes.set_yticks(range(1, len(labels) + 1), labels, fontsize=7.5)
    axes.set_ylim(len(labels) + 0.7, 0.3)


def _spread_points(axes: Axes, areas: Sequence[Area]) -> None:
    for row, area in enumerate(areas):
        errors = area.rows["error"].to_numpy(dtype=float)
        heights = row + 0.22 * np.sin(2.4 * np.argsort(np.argsort(errors)))  # fixed spread: points lie side by side
        axes.plot(errors, heights, linestyle="", marker=area.marker, color=area.colour, markersize=3.5, alpha=0.7)
        median = float(np.median(errors))
        axes.plot([median, median], [row - 0.32, row + 0.32], color=INK, linewidth=1.6)
        inside, worst = int((np.abs(errors) <= BAND).sum()), int(np.abs(errors).argmax())
        text = (
            f"median {100 * median:+.0f} %, {inside} of {len(errors)} within {100 * BAND:.0f} %, "
            f"worst {100 * errors[worst]:+.0f} %: {shorten(str(area.rows['id'].iloc[worst]), 40)}"
        )
        axes.text(1.0, row - 0.5, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=7.5)
    axes.set_yticks(range(len(areas)), [area.name for area in areas])
    axes.set_ylim(len(areas) - 0.55, -0.75)
