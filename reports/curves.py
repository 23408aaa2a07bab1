"""The curves of a sweep as arrays: from the rows of a frame to what a picture draws."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.frame_tables import axis_text
from reports.style import INFEASIBLE_COLOUR, SERIES_COLOURS, SERIES_MARKERS, part_colour

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One curve: arrays over its points, sorted along the axis; not-a-number where infeasible or not known."""

    label: str
    colour: str
    marker: str
    x: Floats
    tokens_per_s: Floats
    efficiency: Floats
    chips: Floats
    bottleneck: tuple[str, ...]
    reason: tuple[str, ...]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Points that have a throughput to draw."""
        return np.isfinite(self.tokens_per_s) & (self.tokens_per_s > 0.0)

    @property
    def linear(self) -> Floats:
        """Throughput of each feasible point if every chip did as much as at the smallest; empty where size is fixed."""
        chips, tokens_per_s = self.chips[self.feasible], self.tokens_per_s[self.feasible]
        grows = len(chips) > 1 and bool(np.isfinite(chips).all()) and float(np.ptp(chips)) > 0.0
        return tokens_per_s[0] / chips[0] * chips if grows else np.empty(0)

    def colour_of(self, point: int) -> str:
        """Return the colour of the point's bottleneck."""
        return part_colour(self.bottleneck[point]) if self.feasible[point] else INFEASIBLE_COLOUR


@dataclass(frozen=True)
class Axis:
    """The swept axis: its values in order, and whether they are spread as logarithms, linearly, or are mere names."""

    name: str
    values: Floats
    names: tuple[str, ...]
    is_log: bool

    @property
    def is_chips(self) -> bool:
        """Tell whether the axis counts chips, so that linear scaling means something."""
        return self.name.rsplit(".", 1)[-1] == "chips"

    def spread(self, values: Floats) -> Floats:
        """Return values as distances along the drawn axis."""
        return np.log2(values) if self.is_log else values

    def unspread(self, distances: Floats) -> Floats:
        """Return the values at distances along the drawn axis."""
        return np.exp2(distances) if self.is_log else distances

    def edges(self) -> Floats:
        """Return the borders between neighbouring points, one more than there are points."""
        at = self.spread(self.values)
        if not len(at):
            return np.array([0.0, 1.0])
        gaps = np.diff(at) if len(at) > 1 else np.ones(1)
        inner = at[:-1] + np.diff(at) / 2.0
        return self.unspread(np.concatenate([[at[0] - gaps[0] / 2.0], inner, [at[-1] + gaps[-1] / 2.0]]))


def read_axis(frame: pd.DataFrame, name: str) -> Axis:
    """Return the swept axis: numbers in order, or names in order of appearance."""
    column = frame[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = np.unique(column.to_numpy(dtype=float))
        values = values[np.isfinite(values)]
        is_log = len(values) > 0 and values[0] > 0.0 and (len(values) == 1 or values[-1] / values[0] >= 4.0)
        return Axis(name, values, tuple(axis_text(value) for value in values.tolist()), is_log)
    names = tuple(dict.fromkeys(str(value) for value in column))
    return Axis(name, np.arange(len(names), dtype=float), names, is_log=False)


def read_curves(frame: pd.DataFrame, axis: Axis, series_name: str | None) -> list[Series]:
    """Return one curve for each value of the series column, or a single one without it."""
    groups: list[tuple[str, pd.DataFrame]] = [("", frame)]
    if series_name is not None:
        groups = [(str(label), rows) for label, rows in frame.groupby(series_name, sort=False)]
    return [
        _curve(
            label, rows, axis, SERIES_COLOURS[place % len(SERIES_COLOURS)], SERIES_MARKERS[place % len(SERIES_MARKERS)]
        )
        for place, (label, rows) in enumerate(groups)
    ]


def _curve(label: str, rows: pd.DataFrame, axis: Axis, colour: str, marker: str) -> Series:
    is_named = not pd.api.types.is_numeric_dtype(rows[axis.name])
    x = np.array(
        [axis.names.index(str(value)) for value in rows[axis.name]] if is_named else rows[axis.name], dtype=float
    )
    order = np.argsort(x, kind="stable")
    x, rows = x[order], rows.iloc[order]
    feasible = rows["feasible"].to_numpy(dtype=bool) if "feasible" in rows else np.ones(len(rows), dtype=bool)
    tokens_per_s = np.where(feasible, _floats(rows, "tokens_per_s"), np.nan)
    efficiency = _floats(rows, "efficiency") if "efficiency" in rows else _against_first(rows, x, tokens_per_s)
    return Series(
        label,
        colour,
        marker,
        x,
        tokens_per_s,
        np.where(feasible, efficiency, np.nan),
        x if axis.is_chips else _floats(rows, "chips") if "chips" in rows else np.full(len(x), np.nan),
        tuple(str(value) for value in rows["bottleneck"]) if "bottleneck" in rows else ("",) * len(rows),
        tuple(str(value) for value in rows["reason"]) if "reason" in rows else ("",) * len(rows),
    )


def _floats(rows: pd.DataFrame, column: str) -> Floats:
    return pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=float)


def _against_first(rows: pd.DataFrame, x: Floats, tokens_per_s: Floats) -> Floats:
    """Return throughput per chip (or per unit of the axis) against the first feasible point."""
    has_chips = "tokens_per_s_per_chip" in rows
    per_chip = _floats(rows, "tokens_per_s_per_chip") if has_chips else tokens_per_s / np.where(x > 0, x, np.nan)
    known = per_chip[np.isfinite(tokens_per_s) & np.isfinite(per_chip)]
    return per_chip / known[0] if len(known) else np.full(len(x), np.nan)
