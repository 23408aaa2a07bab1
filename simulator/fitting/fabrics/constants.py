"""Constants of fabrics while they are being fitted, and the records that the cost functions read."""

from collections.abc import Callable, Mapping
from typing import Any

from simulator.calibration.fabrics import FabricCalibration
from simulator.fitting.fabrics.series import PARTS, Part

Constants = dict[str, Any]
Known = dict[tuple[str, Part], Constants]

# Start, lower and upper bound of each constant in the fit; in microseconds and GB/s to even out the scales.
RANGE = {
    "fraction": (0.7, 0.05, 1.0),
    "overlap_exponent": (2.0, 1.0, 10.0),
    "step_s": (4.0, 0.0, 200.0),
    "launch_s": (5.0, 0.0, 200.0),
    "small.fraction": (0.2, 0.01, 1.0),
    "small.step_s": (1.0, 0.0, 200.0),
    "in_switch.fraction": (0.7, 0.05, 1.0),
    "in_switch.step_s": (10.0, 0.0, 200.0),
    "fixed_s": (20.0, 0.0, 500.0),
    "dispatch_fixed_s": (20.0, 0.0, 500.0),
    "combine_fixed_s": (20.0, 0.0, 500.0),
    "doubling_s": (1.0, 0.0, 100.0),
    "host_s": (50.0, 0.0, 1000.0),
    "core_bytes_per_s": (10.0, 1.0, 1000.0),
    "combine_core_bytes_per_s": (10.0, 1.0, 1000.0),
    "core_copy_s": (0.1, 0.0, 2.0),
}
# Stands in for constants that no term of the operation at hand reads.
UNUSED: Constants = {"fraction": 1.0, "step_s": 0.0, "launch_s": 0.0}
UNUSED_EP: Constants = {
    "fraction": 1.0,
    "dispatch_fixed_s": 0.0,
    "combine_fixed_s": 0.0,
    "copies": "rank",
}


def scale(name: str) -> float:
    """Return the SI size of one unit of a constant in `RANGE`."""
    if name.endswith("_bytes_per_s"):
        return 1e9
    return 1e-6 if name.endswith("_s") else 1.0


def lookup(known: Known) -> Callable[[str], FabricCalibration]:
    """Return the calibration of any fabric id from the constants known so far; the others cost nothing."""

    def calibration(name: str) -> FabricCalibration:
        parts: dict[Part, Any] = {"collective": UNUSED, "normal": UNUSED_EP, "low_latency": UNUSED_EP}
        parts |= {part: found for (fabric, part), found in known.items() if fabric == name}
        return record(name, {part: {"kind": "assumed", "source": "", **parts[part]} for part in parts})

    return calibration


def lent(known: Known, lender: str) -> Constants:
    """Return the constants of a `fabric/part`."""
    name, part = lender.split("/")
    found = known[name, part]
    both = found.get("fixed_s")
    return found if both is None else {**found, "dispatch_fixed_s": both, "combine_fixed_s": both}


def record(name: str, parts: Mapping[Part, Mapping[str, Any]]) -> FabricCalibration:
    """Return the checked record of one fabric; dotted names are nested, `fixed_s` holds for dispatch and combine."""
    nested: dict[str, Any] = {"fabric": name}
    for part, values in parts.items():
        table = (nested if part in PARTS else nested.setdefault("libraries", {})).setdefault(part, {})
        for key, value in values.items():
            if key == "fixed_s":
                table |= {"dispatch_fixed_s": value, "combine_fixed_s": value}
            elif "." in key:
                outer, inner = key.split(".")
                table.setdefault(outer, {})[inner] = value
            else:
                table[key] = value
    return FabricCalibration.model_validate(nested)
