"""Least squares that leaves a constant as it was where the measurements can't tell it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

# Standard error over size beyond which a constant counts as undetermined.
UNDETERMINED = 0.5
# Scatter that a few rows in perfect agreement can't argue away: repeated runs of these benchmarks differ by about 2 %.
SCATTER = 0.02
# Width of what is known before, in sizes of the constant: wide enough not to matter where rows say anything.
PRIOR = 10.0
# Change of log time per change of a constant by its size below which no row depends on it.
SILENT = 1e-6
# Distance from a bound, in sizes of the constant, at which the bound counts as reached.
NEAR = 1e-3


@dataclass(frozen=True)
class Free:
    """A constant to fit: its value as shipped, its bounds, and a size to measure changes by, in its own unit."""

    before: float
    low: float
    high: float
    size: float


@dataclass(frozen=True)
class Constant:
    """A constant before and after the fit.

    Parameters
    ----------
    error
        Standard error; None where the constant was kept.
    kept
        Why the value before was kept; empty where it was fitted.
    bound
        ``lower`` or ``upper`` where the fit ended at the end of its range.
    """

    what: str
    name: str
    before: float
    after: float
    error: float | None
    kept: str = ""
    bound: str = ""


class _Found(NamedTuple):
    """A fitted constant, its standard error, and a row's largest change of log time with it, here or before."""

    value: float
    error: float
    slope: float


def fit_determined(
    what: str, free: Mapping[str, Free], log_errors: Callable[[Mapping[str, float]], Array]
) -> tuple[Constant, ...]:
    """Return all constants, fitted where the rows determine them, in the order of `free`.

    Parameters
    ----------
    what
        What the constants belong to, for display.
    free
        Candidates by name, the weightiest first.
    log_errors
        Logarithm of predicted over measured time of each row, for values by name.
    """
    left = dict(free)
    kept: dict[str, str] = {}
    fixed = {name: candidate.before for name, candidate in free.items()}
    found: dict[str, _Found] = {}
    while left:
        found = _solve(left, fixed, log_errors)
        name, why = _least_known(left, found)
        if not why:
            break
        kept[name] = why
        del left[name], found[name]
    return tuple(_constant(what, name, free[name], kept, found) for name in free)


def _least_known(left: dict[str, Free], found: dict[str, _Found]) -> tuple[str, str]:
    """Return a constant that the rows can't tell, and why; no reason where all can be told.

    Of constants that can only be told together, the one goes that rows contradict least as it was; the last among
    equals, for callers name them by weight.
    """
    for name, one in found.items():
        if one.slope < SILENT:
            return name, "no row depends on it"
    against = {
        name: round(abs(one.value - left[name].before) / one.error, 1)
        for name, one in reversed(found.items())
        if one.error > UNDETERMINED * max(abs(one.value), left[name].size)
    }
    if against:
        return min(against, key=lambda name: against[name]), "the rows do not tell it from the others"
    for name, one in found.items():
        if _bound(left[name], one.value) and 0 < abs(one.value - left[name].before) <= one.error:
            return name, "the rows push it to a bound, but no farther than its error"
    return "", ""


def _bound(candidate: Free, value: float) -> str:
    ends = {"lower": candidate.low, "upper": candidate.high}
    return next((end for end, place in ends.items() if abs(value - place) <= NEAR * candidate.size), "")


def _constant(what: str, name: str, candidate: Free, kept: Mapping[str, str], found: Mapping[str, _Found]) -> Constant:
    if name in kept:
        return Constant(what, name, candidate.before, candidate.before, None, kept[name])
    one = found[name]
    rounded, bound = float(f"{one.value:.4g}"), _bound(candidate, one.value)
    return Constant(what, name, candidate.before, rounded, float(f"{one.error:.2g}"), bound=bound)


def _solve(
    left: Mapping[str, Free], fixed: Mapping[str, float], log_errors: Callable[[Mapping[str, float]], Array]
) -> dict[str, _Found]:
    """Return what one fit of the constants that are left finds."""
    size = np.array([candidate.size for candidate in left.values()])
    low, high = (np.array([getattr(candidate, end) for candidate in left.values()]) / size for end in ("low", "high"))

    def residuals(scaled: Array) -> Array:
        return log_errors({**fixed, **dict(zip(left, (scaled * size).tolist(), strict=True))})

    # What the rows leave open stays near the values before; where they speak, this weighs nothing.
    before = np.array([candidate.before for candidate in left.values()]) / size
    weak = SCATTER / (PRIOR * np.maximum(before, 1.0))

    def pulled(scaled: Array) -> Array:
        return np.concatenate([residuals(scaled), (scaled - before) * weak])

    # The faster of several algorithms is a kink that can hide a better fit, so a second start is tried.
    starts = [np.clip(before * factor, low, high) for factor in (1.0, 0.5)]
    best = min((least_squares(pulled, start, bounds=(low, high)) for start in starts), key=lambda found: found.cost)
    off = residuals(best.x)
    variance = max(float(off @ off) / max(len(off) - len(left), 1), SCATTER**2)
    slopes = _slopes(residuals, best.x, low, high)
    known_before = np.diag((PRIOR * np.maximum(np.abs(best.x), 1.0)) ** -2.0)
    covariance = np.linalg.inv(slopes.T @ slopes / variance + known_before)
    steepest = np.abs(np.concatenate([slopes, _slopes(residuals, before, low, high)])).max(axis=0)
    columns = (best.x * size, np.sqrt(np.diag(covariance)) * size, steepest)
    return {name: _Found(*map(float, one)) for name, *one in zip(left, *columns, strict=True)}


def _slopes(residuals: Callable[[Array], Array], at: Array, low: Array, high: Array) -> Array:
    """Return the change of each row with each constant, over steps wide enough to see past a kink."""
    columns = []
    for place in range(len(at)):
        step = 0.02 * max(at[place], 0.1)
        ends = np.array([max(at[place] - step, low[place]), min(at[place] + step, high[place])])
        values = []
        for end in ends:
            moved = at.copy()
            moved[place] = end
            values.append(residuals(moved))
        columns.append((values[1] - values[0]) / (ends[1] - ends[0]))
    return np.column_stack(columns)
