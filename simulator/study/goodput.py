"""How long a training run really takes: a scenario's throughput, interrupted, as a distribution over histories."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.cost.memory import OPTIMIZER_BYTES, WEIGHT_BYTES
from simulator.engine.failures import Histories, Recorded, simulate_failures
from simulator.errors import UserError
from simulator.phase.setup import Setup, setup
from simulator.reliability.fleets import fleet
from simulator.reliability.history import read_history
from simulator.reliability.job import DAY_S, HOUR_S, Job
from simulator.reliability.renewal import goodput
from simulator.reliability.resolve import RESTART_S, RESTART_S_PER_CHIP, Sizes, build_job
from simulator.result import Result
from simulator.run import run
from simulator.scenario import Scenario

PERCENTILES = {"p10": 10, "median": 50, "p90": 90}
JOULES_PER_KWH = 3.6e6
# Parts of a history's time, in the order of reports.
TIME_PARTS = ("useful", "slowed", "lost", "checkpoint", "detection", "restart", "waiting")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run of so many tokens comes to.

    Parameters
    ----------
    figures
        Name with unit -> {p10, median, p90}: goodput, days, chip_hours, energy_kwh, usd, interruptions; the last three
        are left out where the catalogue has no figure.
    time_shares
        Mean share of each of `TIME_PARTS`; sums to 1.
    notes
        Assumptions in words, with sources.
    """

    scenario: str
    model: str
    chip: str
    chips: int
    spare_chips: int
    tokens: float
    seed: int
    histories: int
    tokens_per_s: float
    job: Job
    recorded: Recorded | None
    analytic_goodput: float
    figures: dict[str, dict[str, float]]
    time_shares: dict[str, float]
    notes: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """Return the figures as one flat row; percentiles are named `<figure>_<percentile>`."""
        saved = self.job.checkpoints
        return {
            "scenario": self.scenario,
            "model": self.model,
            "chip": self.chip,
            "chips": self.chips,
            "spare_chips": self.spare_chips,
            "tokens": self.tokens,
            "tokens_per_s": self.tokens_per_s,
            "mtbf_hours": 1 / (self.job.failures_per_s * HOUR_S) if self.job.failures_per_s else None,
            "checkpoint_interval_s": saved.interval_s,
            "checkpoint_stall_s": saved.stall_s,
            "checkpoint_durable_s": saved.durable_s,
            "detection_s": self.job.detection_s,
            "restart_s": self.job.restart_s,
            "undisturbed_days": self.job.work_s / DAY_S,
            "goodput_analytic": self.analytic_goodput,
            **{f"{name}_{at}": value for name, each in self.figures.items() for at, value in each.items()},
            **{f"{name}_share": value for name, value in self.time_shares.items()},
            "seed": self.seed,
            "histories": self.histories,
        }


def outlook(scenario: Scenario, tokens: float, histories: int, allow_oom: bool = False) -> Outlook:
    """Return how long training on `tokens` tokens takes, and what it costs.

    Parameters
    ----------
    tokens
        Tokens to train on.
    histories
        Independent histories of failures to simulate.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario is no training that can be run, or its [reliability] table has problems.
    """
    if scenario.workload.phase != "training":
        raise UserError(f"workload.phase: {scenario.workload.phase}: goodput is of training; use a training scenario")
    result = run(scenario, allow_oom)
    resolved = setup(scenario)
    work_s = tokens / result.tokens_per_s
    job, recorded = prepared(scenario, sizes_of(resolved), work_s)
    spent = simulate_failures(job, 1 if recorded and not job.slow_share else histories, scenario.seed, recorded)
    spare_chips = scenario.reliability.spare_nodes * resolved.machine.spec.chips_per_node
    return Outlook(
        scenario=scenario.name,
        model=result.model,
        chip=result.chip,
        chips=result.chips,
        spare_chips=spare_chips,
        tokens=tokens,
        seed=scenario.seed,
        histories=len(spent.useful_s),
        tokens_per_s=result.tokens_per_s,
        job=job,
        recorded=recorded,
        analytic_goodput=goodput(job),
        figures=_figures(scenario, result, spent, spare_chips),
        time_shares=shares_of(spent),
        notes=_notes(scenario, job),
    )


def sizes_of(resolved: Setup) -> Sizes:
    """Return what reliability depends on in a resolved training scenario."""
    target = resolved.machine
    plane = target.spec.scale_out.fabric if target.spec.scale_out else target.spec.scale_up.fabric
    return Sizes(
        chips=target.chips,
        chips_per_node=target.spec.chips_per_node,
        replicas=resolved.layout.data,
        state_bytes=resolved.counts.total * (WEIGHT_BYTES + OPTIMIZER_BYTES),
        nic_bytes_per_s=target.fabrics[plane].port_bytes_per_s * target.chip.ranks_per_chip,
    )


def prepared(scenario: Scenario, sizes: Sizes, work_s: float) -> tuple[Job, Recorded | None]:
    """Return the job, and the recorded interruptions where the scenario names a history."""
    asked = scenario.reliability
    if asked.history is None:
        return build_job(asked, sizes, work_s), None
    at_s, kind, classes = read_history(asked.history)
    counts = np.bincount(kind, minlength=len(classes))
    per_chip_s = counts / (max(at_s[-1], 1.0) * sizes.chips)
    rated = tuple(replace(each, per_chip_s=float(rate)) for each, rate in zip(classes, per_chip_s, strict=True))
    return build_job(asked, sizes, work_s, rated), Recorded(np.array(at_s), np.array(kind, dtype=np.int64))


def shares_of(spent: Histories) -> dict[str, float]:
    """Return the share of each part of all histories' time."""
    total_s = float(spent.total_s.sum())
    return {name: float(getattr(spent, f"{name}_s").sum()) / total_s for name in TIME_PARTS}


def percentiles(values: "np.ndarray[Any, np.dtype[Any]]") -> dict[str, float]:
    """Return p10, median and p90."""
    return {name: float(np.percentile(values, at)) for name, at in PERCENTILES.items()}


def _figures(scenario: Scenario, result: Result, spent: Histories, spare_chips: int) -> dict[str, dict[str, float]]:
    """Percentiles over histories; money counts the spares, energy those that stand by hot."""
    total_s = spent.total_s
    all_chips = result.chips + spare_chips
    powered = all_chips if scenario.reliability.spares == "hot" else result.chips
    found = {
        "goodput": percentiles(spent.goodput),
        "days": percentiles(total_s / DAY_S),
        "interruptions": percentiles(spent.interruptions),
        "chip_hours": percentiles(total_s / HOUR_S * all_chips),
    }
    if result.power_w:
        found["energy_kwh"] = percentiles(total_s * result.power_w * powered / result.chips / JOULES_PER_KWH)
    if result.usd_per_hour:
        found["usd"] = percentiles(total_s / HOUR_S * result.usd_per_hour * all_chips / result.chips)
    return found


def _notes(scenario: Scenario, job: Job) -> tuple[str, ...]:
    asked = scenario.reliability
    if asked.history is not None:
        rates = f"interruptions: recorded in {asked.history}, replayed as they are"
    elif asked.failures_per_chip_hour is not None:
        rates = f"failures: {asked.failures_per_chip_hour:g} per chip and hour, as given, each takes its node"
    else:
        known = fleet(asked.fleet)
        rates = f"failures: rates per chip of {known.what} ({known.source}), at any size"
    notes = [rates, "failures are independent, at a constant rate; none while a dead job waits"]
    if asked.checkpoint_interval_s is None:
        notes.append("checkpoint interval: the best by Daly's exact formula")
    if asked.restart_s is None:
        notes.append(
            f"restart: {RESTART_S:.0f} s + {RESTART_S_PER_CHIP * 1000:.1f} ms per chip (arXiv:2602.00277), and loading"
        )
    if asked.checkpoint == "in-memory":
        notes.append("no failure takes a node and the peer that keeps its state")
    notes.append("checkpoint: BF16 weights, FP32 master weights and Adam moments, 14 bytes per parameter")
    return tuple(notes)
