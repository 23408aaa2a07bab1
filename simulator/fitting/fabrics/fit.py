"""Least squares on the logarithm of time, for one library on one fabric."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.calibration.fabrics import FabricCalibration
from simulator.fitting.fabrics.constants import RANGE, Constants, Known, lent, lookup, scale
from simulator.fitting.fabrics.series import Series

# Logarithmic errors well above this weigh by their size, not its square.
SMALL_ERROR = 0.05


class Sample(Protocol):
    """A measured operation that the cost functions can price."""

    @property
    def id(self) -> str:
        """Name of the measurement."""

    @property
    def measured_s(self) -> float:
        """Measured time [s]."""

    def predict_s(self, calibration: Callable[[str], FabricCalibration]) -> float:
        """Return the predicted time with these constants [s]."""


@dataclass(frozen=True)
class Fit:
    """Constants of one series, and predicted over measured time minus one by sample."""

    series: Series
    constants: Constants
    errors: Mapping[str, float]

    @property
    def mean_abs_error(self) -> float:
        """Mean of the samples' absolute errors."""
        return float(np.mean(np.abs(list(self.errors.values()))))


def fit(series: Series, points: Sequence[Sample], known: Known, start: Constants | None = None) -> Fit:
    """Return the constants of a series that bring predicted nearest to measured times.

    Parameters
    ----------
    series
        Which constants are free, and the values of the others; a name of another fabric's part lends its constant.
        Its patterns of rows are not read here.
    points
        Measured operations; their order does not matter.
    known
        Constants of other fabrics that the operations or the series read, inner fabrics for example.
    start
        Constants to start from, of a fit to nearly the same points.
    """
    given = series.marks | {
        name: value if isinstance(value, float) else lent(known, value)[name] for name, value in series.fixed.items()
    }

    def constants(values: NDArray[np.float64]) -> Constants:
        return given | {name: float(value) * scale(name) for name, value in zip(series.free, values, strict=True)}

    def log_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
        calibration = lookup(known | {(series.fabric, series.part): constants(values)})
        return np.array([np.log(point.predict_s(calibration) / point.measured_s) for point in points])

    usual, low, high = (np.array([RANGE[name][column] for name in series.free]) for column in range(3))
    # Squares first, then nearly absolute errors: points where a library chose badly for itself must not pull.
    if start is None:
        first = least_squares(log_error, usual, bounds=(low, high), x_scale=usual).x
    else:
        first = np.clip([start[name] / scale(name) for name in series.free], low, high)
    found = least_squares(log_error, first, bounds=(low, high), x_scale=usual, loss="soft_l1", f_scale=SMALL_ERROR).x
    rounded = np.array([float(f"{value:.3g}") if value > 1e-9 else 0.0 for value in found])
    errors = np.expm1(log_error(rounded))
    return Fit(series, constants(rounded), {point.id: float(e) for point, e in zip(points, errors, strict=True)})
