"""What a calibration found, and the text of its file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.calibration.chosen import MeasuredFile, OwnCalibration, Residual
from simulator.fitting.fabrics.calibration_file import toml
from simulator.fitting.own.determined import Constant

COMMENT = 'Written by `epsim calibrate` from the files and rows below; a scenario reads it by calibration = ["FILE"].'
LARGE_ERROR = 0.25


@dataclass(frozen=True)
class Outcome:
    """A calibration, its constants before and after, and what to say of it."""

    own: OwnCalibration
    constants: tuple[Constant, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def mean_abs_error(self) -> float:
        """Mean of the rows' absolute errors with the fitted constants."""
        return mean_abs_error(self.own.residuals)


def mean_abs_error(residuals: Sequence[Residual]) -> float:
    """Return the mean of |predicted / measured - 1|."""
    return float(np.mean([abs(row.predicted_s / row.measured_s - 1) for row in residuals]))


def nothing_told(name: str, residuals: Sequence[Residual]) -> str:
    """Return why there is nothing to write where the rows determine no constant at all."""
    ratio = float(np.exp(np.mean([np.log(row.measured_s / row.predicted_s) for row in residuals])))
    return (
        f"{name}: {len(residuals)} rows determine none of its constants; they take {ratio:.2g} times what the "
        "shipped ones say: give more sizes, and check units and the machine"
    )


def file_text(outcome: Outcome) -> str:
    """Return the calibration as TOML; equal measurements give equal bytes."""
    return toml(outcome.own, COMMENT)


def provenance(files: Sequence[MeasuredFile], where: str) -> str:
    """Return where constants come from: `nccl-tests: ar.txt (24 rows, sha256 0123456789ab) on h200-cluster`."""
    named = [f"{file.tool}: {file.name} ({file.rows} rows, sha256 {file.sha256[:12]})" for file in files]
    return f"own measurements, {'; '.join(named)}{where}"


def remarks(constants: Sequence[Constant], residuals: Sequence[Residual]) -> tuple[str, ...]:
    """Return warnings on constants that were kept or stand at a bound, and on a bad fit."""
    found = []
    for what in dict.fromkeys(constant.what for constant in constants):
        kept = [one for one in constants if one.what == what and one.kept]
        found += [
            f"{what}: as shipped, {why}: {', '.join(one.name for one in kept if one.kept == why)}"
            for why in dict.fromkeys(one.kept for one in kept)
        ]
    for constant in constants:
        if constant.bound == "upper":
            found.append(
                f"{constant.what} {constant.name}: {constant.after:g} is its upper bound; do sizes, units "
                "and the machine fit the measurements?"
            )
        elif constant.bound == "lower" and constant.after > 0:
            found.append(f"{constant.what} {constant.name}: {constant.after:g} is its lower bound; check the rows")
    error = mean_abs_error(residuals)
    if error > LARGE_ERROR:
        found.append(
            f"mean error {error:.0%}: these constants describe the rows badly; look at the largest residuals, "
            "and whether other jobs shared the network"
        )
    return tuple(found)
