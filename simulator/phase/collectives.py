"""Collectives of a phase, by the algorithm that the scenario names."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Algorithm, CommCost, Kind, collective
from simulator.phase.machine import Machine


def group_cost(machine: Machine, groups: NDArray[np.int32], kind: Kind, size_bytes: float) -> CommCost:
    """Return the cost of one collective that all groups start together on this machine.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` members.
    size_bytes
        Buffer per rank [bytes], see `simulator.cost.collectives`.

    Raises
    ------
    UserError
        If the scenario names an algorithm that these groups can't use.
    """
    algorithm: Algorithm | Literal["auto"] = getattr(machine.rules, kind, "auto")
    return collective(machine.network, groups, kind, size_bytes, machine.calibrations.fabric, algorithm)
