"""The machine of a scenario: chip, network and calibration, ready for the cost models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from simulator.calibration import ChipCalibration
from simulator.calibration.chosen import SHIPPED, Calibrations, read_calibrations
from simulator.errors import UserError
from simulator.result import Source
from simulator.scenario import Network as NetworkRules
from simulator.scenario import Scenario
from topologies.background import as_faults, in_users_words
from topologies.build import network
from topologies.catalogue.machine_file import Parts, machine_parts
from topologies.errors import TopologyError
from topologies.network import Network
from topologies.routes import Policy
from topologies.specs import Accelerator, ClusterSpec, Fabric

WhatIf = Callable[[Parts], Parts]
AS_LIBRARIES_DO = NetworkRules()


@dataclass(frozen=True, slots=True)
class Machine:
    """A cluster cut to the chips in use."""

    spec: ClusterSpec
    chip: Accelerator
    fabrics: dict[str, Fabric]
    chips: int
    network: Network
    calibration: ChipCalibration
    calibrations: Calibrations = SHIPPED
    rules: NetworkRules = AS_LIBRARIES_DO

    @property
    def ranks(self) -> int:
        """Ranks in use: dies on a dual-die package."""
        return self.chips * self.chip.ranks_per_chip

    @property
    def memory_bytes(self) -> float:
        """Device memory of one rank [bytes]."""
        return self.chip.memory.capacity_bytes / self.chip.ranks_per_chip


def machine(scenario: Scenario, change: WhatIf | None = None) -> Machine:
    """Return the machine that a scenario names.

    Parameters
    ----------
    change
        What-if: replaces the cluster, chip or fabrics before the machine is built.

    Raises
    ------
    UserError, TopologyError
        If the cluster is unknown, or can't have that many chips, or a calibration file can't be used.
    """
    parts = machine_parts(scenario.cluster.name, scenario.cluster.plane, scenario.cluster.island)
    parts = change(parts) if change else parts
    chips = _chips(scenario, parts.spec, parts.chip)
    others = scenario.network.background
    faults = (*scenario.cluster.faults, *as_faults(others))
    try:
        built = assemble(parts, chips, read_calibrations(scenario.calibration), faults, scenario.network.routing)
    except TopologyError as error:
        raise in_users_words(error, others) from None
    return replace(built, rules=scenario.network)


def assemble(
    parts: Parts,
    chips: int,
    calibrations: Calibrations = SHIPPED,
    faults: tuple[str, ...] = (),
    policy: Policy = "ecmp",
) -> Machine:
    """Return the machine made of the first `chips` chips of a cluster that are in working nodes."""
    spec, chip, fabrics = parts
    built = network(spec, chip, fabrics, chips, faults, policy)
    return Machine(spec, chip, fabrics, chips, built, calibrations.chip(chip.id), calibrations)


def _chips(scenario: Scenario, spec: ClusterSpec, chip: Accelerator) -> int:
    """Return the chips asked for; without a number a serving instance is one EP group."""
    if scenario.cluster.chips is not None:
        return scenario.cluster.chips
    if scenario.workload.phase == "training":
        return spec.chips
    ranks = scenario.plan.expert * scenario.plan.pipeline
    ranks = max(ranks, scenario.plan.tensor * (scenario.plan.data or 1))
    if ranks % chip.ranks_per_chip:
        raise UserError(
            f"plan.expert = {scenario.plan.expert}: {chip.name} has {chip.ranks_per_chip} ranks per chip; use an even "
            "number of ranks, or set cluster.chips"
        )
    return ranks // chip.ranks_per_chip


def machine_sources(machine: Machine, constants_read: Sequence[str]) -> list[Source]:
    """Return where the machine's figures come from.

    Parameters
    ----------
    constants_read
        Parts of the fabrics' calibrations that were used: ``collective``, ``normal``, ``low_latency``, or a library.
    """
    chip, spec = machine.chip, machine.spec
    found = [
        Source(what=f"{chip.name}: peak arithmetic rate", kind="datasheet", source=chip.peak.source),
        Source(what=f"{chip.name}: device memory", kind="datasheet", source=chip.memory.source),
        Source(what=f"{spec.name}: layout", kind="datasheet", source=spec.source),
    ]
    for plane in machine.network.planes:
        used, constants = machine.fabrics[plane.fabric], machine.calibrations.fabric(plane.fabric)
        found.append(Source(what=f"{used.name}: port rate and latency", kind="datasheet", source=used.source))
        for what in constants_read:
            part = constants.libraries.get(what) or getattr(constants, what, None)
            if part is None:  # a library is calibrated on the outer fabric; inside, the mode's usual one is read
                continue
            found.append(Source(what=f"{used.name}: {what.replace('_', '-')}", kind=part.kind, source=part.source))
    return found
