"""What chips achieve, by operator class and number format, apart from the datasheet.

The time of an operator is `launch + (t_c^p + t_m^p)^(1/p)` with `t_c = flop / (peak x compute efficiency)` and
`t_m = bytes / (bandwidth x memory efficiency)`. The exponent says how well a kernel hides one behind the other:
1 not at all, infinity perfectly (the plain roofline). The efficiencies are asymptotes: the shape of an operator enters
through its bytes, so no table over shapes is needed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulator.calibration.fabrics import Provenance, Record
from simulator.errors import UserError, did_you_mean
from workloads.operators.records import OperatorClass

Array = NDArray[np.float64]

CLASSES: tuple[OperatorClass, ...] = get_args(OperatorClass)
# A format without constants of its own borrows the nearest one that has; integer and float tensor units are alike.
_NEAREST = {
    "bf16": ("fp8", "int8"),
    "fp8": ("int8", "bf16"),
    "int8": ("fp8", "bf16"),
    "fp4": ("fp8", "int8", "bf16"),
}
SAME = {"fp16": "bf16", "int4": "int8"}


class OperatorConstants(Provenance):
    """Constants of one operator class in one number format."""

    compute_efficiency: float = Field(gt=0, le=1)
    memory_efficiency: float = Field(gt=0, le=1)
    overlap_exponent: float = Field(ge=1)
    launch_s: float = Field(ge=0, description="fixed time of one kernel: launch, ramp up and down")


class ChipConstants(Record):
    """One calibration file: constants by class and format, and the chip that lends the missing ones."""

    id: str
    inherits: str = ""
    because: str = ""
    constants: Mapping[OperatorClass, Mapping[str, OperatorConstants]] = Field(default_factory=dict)


class ChipCalibration(Record):
    """All constants of one chip, every operator class in at least one format."""

    chip: str
    constants: Mapping[OperatorClass, Mapping[str, OperatorConstants]]

    def of(self, kind: OperatorClass, dtype: str) -> OperatorConstants:
        """Return the constants of an operator class in a number format, or an assumed copy of the nearest format's."""
        formats, wanted = self.constants[kind], SAME.get(dtype, dtype)
        lender = next(name for name in (wanted, *_NEAREST[wanted]) if name in formats)
        return formats[wanted] if lender == wanted else _lent(formats[lender], f"no figure for {wanted}, as {lender}")

    @property
    def sources(self) -> tuple[tuple[str, str, str], ...]:
        """What, kind (measured, fitted, assumed) and source of every set of constants."""
        return self.sources_of({(kind, dtype) for kind, formats in self.constants.items() for dtype in formats})

    def sources_of(self, used: Iterable[tuple[OperatorClass, str]]) -> tuple[tuple[str, str, str], ...]:
        """Return the same for the (class, format) pairs that a run used: `zip(ops.classes, ops.dtypes)`."""
        pairs = sorted({(kind, SAME.get(dtype, dtype)) for kind, dtype in used})
        return tuple(
            (f"{self.chip}: {kind.replace('_', ' ')} {dtype}", entry.kind, entry.source)
            for kind, dtype in pairs
            for entry in (self.of(kind, dtype),)
        )


def overlapped_s(compute_s: Array, memory_s: Array, exponent: Array | float) -> tuple[Array, Array]:
    """Return the joint time of computing and loading, split into its compute and memory parts, which sum to it.

    Parameters
    ----------
    compute_s, memory_s
        Time of each alone, same shape [s].
    exponent
        Overlap exponent p >= 1: total (t_c^p + t_m^p)^(1/p), never below the longer of the two.
        The parts are shares t_c^p and t_m^p of the sum of powers: continuous in the shapes, and all to the winner
        for large p.
    """
    longer, shorter = np.maximum(compute_s, memory_s), np.minimum(compute_s, memory_s)
    ratio = (shorter / np.maximum(longer, np.finfo(np.float64).tiny)) ** exponent
    total = longer * (1.0 + ratio) ** (1.0 / exponent)
    minor = total * (ratio / (1.0 + ratio))
    compute = np.where(compute_s >= memory_s, total - minor, minor)
    return compute, total - compute


@cache
def chip_calibration(chip: str) -> ChipCalibration:
    """Return the calibration of a chip id, gaps filled from the chip it inherits from.

    Raises
    ------
    UserError
        If the chip has none, or a class is described nowhere.
    """
    found = _with_inherited(chip)
    missing = [
        f"chip {chip}: {kind}: no constants; add them to its calibration" for kind in CLASSES if kind not in found
    ]
    if missing:
        raise UserError(*missing)
    return ChipCalibration(chip=chip, constants=found)


def _with_inherited(chip: str) -> dict[OperatorClass, dict[str, OperatorConstants]]:
    own = _read(chip)
    if not own.inherits:
        return {kind: dict(formats) for kind, formats in own.constants.items()}
    merged = {
        kind: {dtype: _lent(entry, f"as {own.inherits}: {own.because}") for dtype, entry in formats.items()}
        for kind, formats in _with_inherited(own.inherits).items()
    }
    # A class described by the chip itself replaces the lender's in every format: its own BF16 says more about its INT8
    # than another chip's FP8 does.
    return merged | {kind: dict(formats) for kind, formats in own.constants.items()}


def _lent(entry: OperatorConstants, why: str) -> OperatorConstants:
    """Return constants that hold by assumption, their origin kept behind the reason."""
    return entry.model_copy(
        update={"kind": "assumed", "source": f"{why} [{entry.source}]", "rows": (), "mean_abs_error": None}
    )


def _read(chip: str) -> ChipConstants:
    folder = files("simulator.calibration").joinpath("chips")
    try:
        text = folder.joinpath(f"{chip}.toml").read_text(encoding="utf-8")
    except OSError:
        known = sorted(path.name.removesuffix(".toml") for path in folder.iterdir())
        raise UserError(
            f"chip {chip}: no calibration{did_you_mean(chip, known)}; add simulator/calibration/chips/{chip}.toml"
        ) from None
    data: dict[str, Any] = tomllib.loads(text)
    head = {key: data.pop(key) for key in ("id", "inherits", "because") if key in data}
    return ChipConstants.model_validate({**head, "constants": cast(Mapping[OperatorClass, Any], data)})
