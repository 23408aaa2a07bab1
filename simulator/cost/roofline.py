"""Time of operators on one rank: compute and memory with partial overlap, and the launch of each kernel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.calibration import ChipCalibration
from simulator.calibration.chips import overlapped_s
from simulator.errors import UserError
from topologies.specs import Accelerator
from workloads.operators import Operators

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OperatorTime:
    """Time of each operator [s], shape [..., operator]; the three parts sum to `total_s`."""

    compute_s: Array
    memory_s: Array
    overhead_s: Array

    @property
    def total_s(self) -> Array:
        """Sum of the parts."""
        return self.compute_s + self.memory_s + self.overhead_s

    def summed(self) -> "OperatorTime":
        """Return the time of all operators one after the other, shape [...]."""
        # einsum, because numpy's sum is slow along a short last axis
        return OperatorTime(
            *(np.einsum("...i->...", part) for part in (self.compute_s, self.memory_s, self.overhead_s))
        )


def operator_time(
    ops: Operators, chip: Accelerator, calibration: ChipCalibration, compute_share: float = 1.0
) -> OperatorTime:
    """Return the time of each operator on one rank of a chip.

    Parameters
    ----------
    ops
        Operators of one rank, amounts of shape [..., operator].
    chip
        Datasheet rates; a rank has its `1/ranks_per_chip`.
    calibration
        Achieved fractions, overlap exponent and launch time by class and format.
    compute_share
        Share of the chip's cores left to compute while a communication kernel holds the others.

    Raises
    ------
    UserError
        If an operator needs a number format the chip does not compute in.

    Source: roofline, doi:10.1145/1498765.1498785, with the p-norm of compute and memory time in place of the maximum.
    """
    constants = [calibration.of(kind, dtype) for kind, dtype in zip(ops.classes, ops.dtypes, strict=True)]
    efficiency = np.array([entry.compute_efficiency for entry in constants])
    bandwidth = chip.memory.bandwidth_bytes_per_s / chip.ranks_per_chip
    compute_s = ops.flop / (_peaks(ops, chip) * efficiency * compute_share)
    memory_s = ops.bytes / (bandwidth * np.array([entry.memory_efficiency for entry in constants]))
    exponent = np.array([entry.overlap_exponent for entry in constants])
    overhead_s = ops.launches * np.array([entry.launch_s for entry in constants])
    return OperatorTime(*overlapped_s(compute_s, memory_s, exponent), overhead_s)


def _peaks(ops: Operators, chip: Accelerator) -> Array:
    """Return the peak rate of one rank for each operator's format [FLOP/s]."""
    peaks = {dtype: chip.peak_flop_per_s(dtype) for dtype in set(ops.dtypes)}
    has = ", ".join(dtype for dtype in ("bf16", "fp8", "int8", "fp4") if chip.peak_flop_per_s(dtype))
    problems = [
        f"chip {chip.id}: {dtype}: the chip has no units for it; use one of {has}"
        for dtype, peak in sorted(peaks.items())
        if peak is None
    ]
    if problems:
        raise UserError(*problems)
    return np.array([peaks[dtype] or 0.0 for dtype in ops.dtypes]) / chip.ranks_per_chip
