"""Which library moves tokens between a scenario's experts, over which links, with how many cores."""

from simulator.cost.expert_parallel import ExpertPaths, Mode, expert_paths, library_mode, over_nics
from simulator.errors import UserError
from simulator.phase.exchange import ALL_GATHER
from simulator.phase.machine import Machine
from simulator.plan import Layout
from simulator.scenario import Scenario
from topologies.specs import Accelerator


def transport_mode(scenario: Scenario, target: Machine) -> Mode:
    """Return how dispatch and combine run: as asked, as the named library does, or as usual in the phase.

    Raises
    ------
    UserError
        If the library is not calibrated on the machine's fabrics, or has another mode.
    """
    asked = scenario.transport
    if asked.library is None or asked.library == ALL_GATHER:
        usual: Mode = "low-latency" if scenario.workload.phase == "decode" else "normal"
        return usual if asked.mode == "auto" else asked.mode
    mode = library_mode(target.network, asked.library, target.calibrations.fabric)
    if asked.mode not in {"auto", mode}:
        raise UserError(
            f"transport.mode = '{asked.mode}': library '{asked.library}' has mode '{mode}'; leave transport.mode "
            "out, or name another library"
        )
    return mode


def transport_paths(scenario: Scenario, target: Machine, placed: Layout, mode: Mode) -> ExpertPaths:
    """Return the network as the EP groups of a plan see it.

    Raises
    ------
    UserError
        If the machine has no such path or library, or fewer cores than are asked for.
    """
    asked, constants = scenario.transport, target.calibrations.fabric
    net = over_nics(target.network) if asked.path == "nic" else target.network
    groups = placed.expert_rank_groups()
    library = None if asked.library == ALL_GATHER else asked.library
    paths = expert_paths(net, groups, mode, constants, library=library, cores=asked.cores)
    _check_cores(target.chip, paths.cores)
    return paths


def compute_share(chip: Accelerator, paths: ExpertPaths | None) -> float:
    """Return the share of a rank's cores that is left to compute while dispatch or combine runs beside it."""
    if paths is None or not paths.cores:
        return 1.0
    return 1.0 - paths.cores * chip.ranks_per_chip / (chip.compute_cores or 1)


def _check_cores(chip: Accelerator, cores: int) -> None:
    if not cores:
        return
    if chip.compute_cores is None:
        raise UserError(f"chip {chip.id}: compute_cores missing; dispatch takes {cores} of them from compute")
    own = chip.compute_cores // chip.ranks_per_chip
    if cores >= own:
        raise UserError(f"transport.cores = {cores}: a rank of {chip.name} has {own}; leave some to compute")
