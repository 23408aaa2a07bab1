"""Constants of fabrics while they are being fitted, and the records that the cost functions read."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from simulator.calibration.fabrics import PARTS, FabricCalibration
from simulator.fitting.fabrics.series import Part

Constants = dict[str, Any]
Known = dict[tuple[str, Part], Constants]

# Start, lower and upper bound of each constant in the fit; in microseconds and GB/s to even out the scales.
RANGE = {
    "fraction": (0.8, 0.05, 1.0),
    "overlap_exponent": (2.0, 1.0, 10.0),
    "step_s": (1.0, 0.0, 200.0),
    "launch_s": (5.0, 0.0, 200.0),
    "ramp_s": (30.0, 0.0, 500.0),
    "medium.ramp_s": (15.0, 0.0, 500.0),
    "in_switch.fraction": (0.7, 0.05, 1.0),
    "in_switch.ramp_s": (60.0, 0.0, 500.0),
    "exchange.fraction": (0.7, 0.05, 1.0),
    "exchange.ramp_s": (10.0, 0.0, 500.0),
    "write_fraction": (0.8, 0.05, 1.0),
    "read_fraction": (0.8, 0.05, 1.0),
    "both_fraction": (0.8, 0.05, 1.0),
    "fixed_s": (20.0, 0.0, 500.0),
    "dispatch_fixed_s": (20.0, 0.0, 500.0),
    "combine_fixed_s": (20.0, 0.0, 500.0),
    "doubling_s": (1.0, 0.0, 100.0),
    "host_s": (50.0, 0.0, 1000.0),
    "core_bytes_per_s": (10.0, 1.0, 1000.0),
    "combine_core_bytes_per_s": (10.0, 1.0, 1000.0),
    "core_copy_s": (0.1, 0.0, 2.0),
}
# One value for two constants of a record.
BOTH = {"fixed_s": ("dispatch_fixed_s", "combine_fixed_s"), "both_fraction": ("write_fraction", "read_fraction")}
# Whose collectives run on a fabric; NCCL's where it is not named.
LIBRARIES = {
    **dict.fromkeys(("hccs-a2", "ub1", "ub2", "roce-200g", "roce-2x200g", "uboe-800g"), "HCCL"),
    "infinity-fabric": "RCCL",
}
# Stands in for constants that no term of the operation at hand reads.
_UNUSED_EP: Constants = {
    "fraction": 1.0,
    "dispatch_fixed_s": 0.0,
    "combine_fixed_s": 0.0,
    "copies": "rank",
}
UNUSED: Mapping[Part, Constants] = {
    "collective": {"fraction": 1.0, "step_s": 0.0, "launch_s": 0.0},
    "copies": {"both_fraction": 1.0, "launch_s": 0.0},
    "normal": _UNUSED_EP,
    "low_latency": _UNUSED_EP,
}


def scale(name: str) -> float:
    """Return the SI size of one unit of a constant in `RANGE`."""
    if name.endswith("_bytes_per_s"):
        return 1e9
    return 1e-6 if name.endswith("_s") else 1.0


def lookup(known: Known) -> Callable[[str], FabricCalibration]:
    """Return the calibration of any fabric id from the constants known so far; the others cost nothing."""

    @cache
    def calibration(name: str) -> FabricCalibration:
        parts: dict[Part, Any] = dict(UNUSED)
        parts |= {part: found for (fabric, part), found in known.items() if fabric == name}
        return record(name, {part: {"kind": "assumed", "source": "", **parts[part]} for part in parts})

    return calibration


def lent(known: Known, lender: str) -> Constants:
    """Return the constants of a `fabric/part`."""
    name, part = lender.split("/")
    found = dict(known[name, part])
    for both, names in BOTH.items():
        if both in found:
            found |= dict.fromkeys(names, found[both])
    return found


def record(name: str, parts: Mapping[Part, Mapping[str, Any]]) -> FabricCalibration:
    """Return the checked record of one fabric; dotted names are nested, some hold for two constants."""
    nested: dict[str, Any] = {"fabric": name}
    for part, values in parts.items():
        table = (nested if part in PARTS else nested.setdefault("libraries", {})).setdefault(part, {})
        for key, value in values.items():
            if key in BOTH:
                table |= dict.fromkeys(BOTH[key], value)
            elif "." in key:
                outer, inner = key.split(".")
                table.setdefault(outer, {})[inner] = value
            else:
                table[key] = value
    if name in LIBRARIES:
        nested["collective"]["library"] = LIBRARIES[name]
    return FabricCalibration.model_validate(nested)
