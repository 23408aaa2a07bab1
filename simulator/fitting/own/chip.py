"""Constants of one chip's operator classes from the user's own table of kernel times."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.chips import OperatorConstants, chip_calibration, overlapped_s
from simulator.calibration.chosen import MeasuredFile, OwnCalibration, Residual
from simulator.errors import UserError
from simulator.fitting.own.determined import Constant, Free, fit_determined
from simulator.fitting.own.kernels import Kernel, read_kernels
from simulator.fitting.own.outcome import Outcome, mean_abs_error, nothing_told, provenance, remarks
from topologies.catalogue import accelerator
from workloads.operators import OperatorClass

Array = NDArray[np.float64]

# Lower and upper bound of each constant, the weightiest first, and the smallest size to measure its changes by.
_RANGE = {
    "compute_efficiency": (0.01, 1.0, 0.05),
    "memory_efficiency": (0.01, 1.0, 0.05),
    "launch_s": (0.0, 1e-3, 5e-7),
    "overlap_exponent": (1.0, 20.0, 1.0),
}


def calibrate_chip(name: str, paths: Sequence[str]) -> Outcome:
    """Fit the constants of a chip's operator classes that a table of kernels determines; the others stay as shipped.

    Parameters
    ----------
    name
        Catalogue id or alias of the chip; times are of one rank (one die of a dual-die package).
    paths
        CSV tables, see `read_kernels`.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the chip is unknown or a table can't be used; one line per problem.
    """
    chip = accelerator(name)
    kernels, files = read_kernels(paths, chip)
    constants: list[Constant] = []
    residuals: list[Residual] = []
    operators: dict[OperatorClass, dict[str, OperatorConstants]] = {}
    for kind, dtype in sorted({(kernel.kind, kernel.dtype) for kernel in kernels}):
        own = [kernel for kernel in kernels if (kernel.kind, kernel.dtype) == (kind, dtype)]
        before = chip_calibration(chip.id).of(kind, dtype)
        found = _fit(f"{kind.replace('_', ' ')} {dtype}", before, own)
        constants += found
        values = {constant.name: constant.after for constant in found}
        rows = _residuals(own, values)
        residuals += rows
        about = _about(own, files, mean_abs_error(rows))
        if any(not constant.kept for constant in found):
            operators.setdefault(kind, {})[dtype] = OperatorConstants.model_validate({**values, **about})
    if not operators:
        raise UserError(nothing_told(chip.id, residuals))
    calibration = OwnCalibration(chip=chip.id, operators=operators, files=files, residuals=tuple(residuals))
    return Outcome(calibration, tuple(constants), remarks(constants, residuals), ())


def _fit(what: str, before: OperatorConstants, kernels: Sequence[Kernel]) -> tuple[Constant, ...]:
    free = {}
    for name, (low, high, size) in _RANGE.items():
        value = min(max(float(getattr(before, name)), low), high)
        free[name] = Free(value, low, high, max(value, size))
    measured_s = np.array([kernel.measured_s for kernel in kernels])
    return fit_determined(what, free, lambda values: np.log(_times_s(kernels, values) / measured_s))


def _times_s(kernels: Sequence[Kernel], values: Mapping[str, float]) -> Array:
    compute_s, memory_s, launches = (
        np.array([getattr(kernel, name) for kernel in kernels]) for name in ("compute_s", "memory_s", "launches")
    )
    parts = overlapped_s(
        compute_s / values["compute_efficiency"], memory_s / values["memory_efficiency"], values["overlap_exponent"]
    )
    return np.asarray(np.add(*parts) + launches * values["launch_s"])


def _residuals(kernels: Sequence[Kernel], values: Mapping[str, float]) -> list[Residual]:
    return [
        Residual(
            row=kernel.id,
            what=kernel.what,
            measured_s=float(f"{kernel.measured_s:.6g}"),
            predicted_s=float(f"{time_s:.6g}"),
        )
        for kernel, time_s in zip(kernels, _times_s(kernels, values), strict=True)
    ]


def _about(kernels: Sequence[Kernel], files: Sequence[MeasuredFile], error: float) -> dict[str, object]:
    read = {kernel.id.rpartition(":")[0] for kernel in kernels}
    return {
        "kind": "fitted",
        "source": provenance([file for file in files if file.name in read], ""),
        "rows": tuple(kernel.id for kernel in kernels),
        "mean_abs_error": round(error, 4),
    }
