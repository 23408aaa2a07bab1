"""Compute, memory and launch time by operator class: the same program priced again with one class at a time.

The time of a chunk is the sum over its operators, so pricing a class alone (all others take no time) gives its exact
share, whatever schedule, recomputation and placement make of it. With every efficiency at 1, no launch and perfect
overlap of compute and memory the same pricing gives the class's speed of light.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.chips import ChipCalibration, OperatorConstants
from simulator.phase.routed import Routed
from simulator.phase.serving import ITERATIONS, serving_iteration
from simulator.phase.setup import Setup
from simulator.phase.training import training_step
from simulator.program import PART_INDEX
from workloads.operators import OperatorClass

Floats = NDArray[np.float64]
Pair = tuple[OperatorClass, str]
NOTHING = {"compute_efficiency": np.inf, "memory_efficiency": np.inf, "launch_s": 0.0}
LIGHT = {"compute_efficiency": 1.0, "memory_efficiency": 1.0, "overlap_exponent": np.inf, "launch_s": 0.0}


@dataclass(frozen=True, slots=True)
class ClassTime:
    """Time of one operator class in one number format on the mean rank [s].

    Parameters
    ----------
    compute_s, memory_s, launch_s
        As predicted: bound by arithmetic, by memory, and launches.
    light_s
        At the binding datasheet rate.
    optimizer_s, optimizer_light_s
        The same for what the class does in the optimizer step, which is a part of its own.
    constants
        Constants of the class.
    """

    kind: OperatorClass
    dtype: str
    compute_s: float
    memory_s: float
    launch_s: float
    light_s: float
    optimizer_s: float
    optimizer_light_s: float
    constants: OperatorConstants

    @property
    def time_s(self) -> float:
        """Compute and memory time [s]."""
        return self.compute_s + self.memory_s


@dataclass(frozen=True, slots=True)
class DrawnOnce(Setup):
    """A setup that draws its routing once, however often it is priced."""

    drawn: dict[tuple[float, float, int], Routed | None] = field(default_factory=dict)

    def routed(self, tokens_per_rank: float, sequences: float, batches: int) -> Routed | None:
        """Return the routed tokens of one EP group, see `Setup.routed`."""
        key = (tokens_per_rank, sequences, batches)
        if key not in self.drawn:
            self.drawn[key] = Setup.routed(self, tokens_per_rank, sequences, batches)
        return self.drawn[key]


def drawn_once(resolved: Setup) -> DrawnOnce:
    """Return the same setup, drawing its routing once."""
    return DrawnOnce(**{name: getattr(resolved, name) for name in Setup.__slots__})


def class_times(resolved: Setup, used: set[Pair]) -> Iterator[ClassTime]:
    """Yield the time of each operator class and format in `used` that takes any.

    Parameters
    ----------
    resolved
        A training, prefill or decode scenario.
    """
    fixed = drawn_once(resolved)
    for kind, dtype in sorted(used):
        constants = resolved.machine.calibration.of(kind, dtype)
        parts = busy_parts(_priced(fixed, used, (kind, dtype), constants))
        if not parts.any():
            continue
        light = busy_parts(_with_all_cores(_priced(fixed, used, (kind, dtype), constants.model_copy(update=LIGHT))))
        compute, memory, launch, optimizer = (
            PART_INDEX[name] for name in ("compute", "memory", "overhead", "optimizer")
        )
        yield ClassTime(
            kind,
            dtype,
            float(parts[compute]),
            float(parts[memory]),
            float(parts[launch]),
            float(light[compute] + light[memory]),
            float(parts[optimizer]),
            float(light[optimizer]),
            constants,
        )


def busy_parts(resolved: Setup) -> Floats:
    """Return what the operations on compute streams are spent on, of the mean stream, ``[len(PARTS)]`` [s]."""
    draw_all = resolved.scenario.fidelity == "des"
    if resolved.scenario.workload.phase == "training":
        step = training_step(resolved, draw_all)
        program = step.program()
        streams = step.compute_streams
        total: Floats = program.parts[np.isin(program.stream, streams)].sum(axis=0) / len(streams)
        return total
    iteration = serving_iteration(resolved)
    drawn = list(range(ITERATIONS)) if draw_all else [None]
    programs = [iteration.program(index) for index in drawn]
    mean: Floats = np.mean([program.parts[program.stream == 0].sum(axis=0) for program in programs], axis=0)
    return mean


def _priced(resolved: DrawnOnce, used: set[Pair], alone: Pair, constants: OperatorConstants) -> DrawnOnce:
    """Return the setup with one class at the given constants and all others taking no time."""
    calibration = resolved.machine.calibration
    table: dict[OperatorClass, dict[str, OperatorConstants]] = {
        kind: {dtype: entry.model_copy(update=NOTHING) for dtype, entry in formats.items()}
        for kind, formats in calibration.constants.items()
    }
    for kind, dtype in used:
        table[kind][dtype] = calibration.of(kind, dtype).model_copy(update=NOTHING)
    table[alone[0]][alone[1]] = constants
    changed = ChipCalibration.model_construct(chip=calibration.chip, constants=table)
    return replace(resolved, machine=replace(resolved.machine, calibration=changed))


def _with_all_cores(resolved: DrawnOnce) -> DrawnOnce:
    """Return the setup with no cores lent to dispatch and combine, so that compute has the whole chip."""
    paths = resolved.paths
    return replace(resolved, paths=replace(paths, cores=0)) if paths else resolved
