"""From the [reliability] table to a job: rates, times and bytes put together."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import norm

from simulator.reliability.fleets import fleet
from simulator.reliability.job import HOUR_S, Checkpoints, FailureClass, Job, Spares
from simulator.reliability.renewal import best_interval_s
from simulator.reliability.section import Reliability

# A line through the cold recoveries of 16,000 (200 s), 22,000 (300 s), 64,000 (600 s) and 98,000 (900 s) H100
# (arXiv:2602.00277), least squares; what loading a checkpoint takes is added, its share in them is not published.
RESTART_S = 90.1
RESTART_S_PER_CHIP = 8.198e-3
# Shortest interval between checkpoints where they cost nothing: every step is saved, and a step takes seconds.
LEAST_INTERVAL_S = 10.0


class Sizes(NamedTuple):
    """What a job's reliability depends on.

    Parameters
    ----------
    chips, chips_per_node, replicas
        Working chips, chips in one node, data-parallel replicas.
    state_bytes
        Weights and optimizer state of the whole model [bytes].
    nic_bytes_per_s
        One chip to the network between nodes [bytes/s].
    """

    chips: int
    chips_per_node: int
    replicas: int
    state_bytes: float
    nic_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Times:
    """What saving and loading the state takes [s]: until work goes on, until it can be restored, until it is back."""

    stall_s: float
    durable_s: float
    load_s: float


def checkpoint_times(asked: Reliability, sizes: Sizes) -> Times:
    """Return what a checkpoint of all of `state_bytes` takes, each replica's share written once."""
    nodes = math.ceil(sizes.chips / sizes.chips_per_node)
    storage = min(asked.storage_bytes_per_s, nodes * asked.storage_bytes_per_s_per_node)
    stored_s = sizes.state_bytes / storage
    copied_s = sizes.state_bytes / sizes.chips / asked.snapshot_bytes_per_s
    if asked.checkpoint == "synchronous":
        return Times(stored_s, 0.0, stored_s)
    if asked.checkpoint == "asynchronous":
        return Times(copied_s, stored_s, stored_s)
    sent_s = sizes.state_bytes / sizes.chips / sizes.nic_bytes_per_s
    return Times(copied_s, sent_s, sent_s + copied_s)


def failure_classes(asked: Reliability) -> tuple[FailureClass, ...]:
    """Return what fails: the fleet's classes, or one at the rate given.

    Raises
    ------
    UserError
        If the fleet is unknown.
    """
    if asked.failures_per_chip_hour is None:
        return fleet(asked.fleet).classes
    return (FailureClass("as given", asked.failures_per_chip_hour / HOUR_S, takes_node=True),)


def build_job(asked: Reliability, sizes: Sizes, work_s: float, classes: tuple[FailureClass, ...] | None = None) -> Job:
    """Return the job of `work_s` undisturbed seconds [s]; its interval is the best one where none is given.

    Raises
    ------
    UserError
        If the fleet is unknown.
    """
    times = checkpoint_times(asked, sizes)
    restart_s = asked.restart_s
    if restart_s is None:
        restart_s = RESTART_S + RESTART_S_PER_CHIP * sizes.chips
    job = Job(
        chips=sizes.chips,
        work_s=work_s,
        classes=failure_classes(asked) if classes is None else classes,
        checkpoints=Checkpoints(work_s, times.stall_s, times.durable_s),
        restart_s=restart_s + times.load_s,
        detection_s=asked.detection_s,
        spares=Spares(
            asked.spare_nodes,
            asked.spare_start_s if asked.spares == "cold" else 0.0,
            asked.repair_s,
            asked.elastic_nodes,
        ),
        replicas=sizes.replicas,
        jitter_speed=1.0 / slowest_of(sizes.chips, asked.jitter),
        slow_share=asked.slow_share,
        slow_speed=asked.slow_speed,
    )
    interval_s = asked.checkpoint_interval_s or best_interval(job, times)
    # One checkpoint is written at a time.
    return job.every(max(interval_s, times.durable_s - times.stall_s))


def best_interval(job: Job, times: Times) -> float:
    """Return the best work between checkpoints [s], at most the whole run."""
    return min(job.work_s, max(LEAST_INTERVAL_S, best_interval_s(times.stall_s, job.failures_per_s)))


def slowest_of(ranks: int, deviation: float) -> float:
    """Return the expected slowest step of `ranks` over the mean, step times being normal with that deviation.

    Source: G. Blom, Statistical Estimates and Transformed Beta-Variables, 1958 (expected largest of a normal sample).
    """
    return 1.0 + deviation * max(0.0, float(norm.ppf((ranks - 0.375) / (ranks + 0.25))))
