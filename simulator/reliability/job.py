"""A long run that failures interrupt, as plain records; nothing here knows of models or networks."""

from dataclasses import dataclass, replace

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class FailureClass:
    """One kind of interruption.

    Parameters
    ----------
    per_chip_s
        Rate per working chip [1/s].
    takes_node
        The node goes to repair; otherwise the job restarts where it was.
    planned
        Announced: nothing to detect, and the state is saved first.
    """

    name: str
    per_chip_s: float
    takes_node: bool = False
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """How the state of a job is saved.

    Parameters
    ----------
    interval_s
        Work between two checkpoints [s].
    stall_s
        How long one stops the work [s].
    durable_s
        From the end of the stall until it can be restored [s]; a failure before falls back to the one before.
    """

    interval_s: float
    stall_s: float
    durable_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spares:
    """Nodes that stand in for those in repair.

    Parameters
    ----------
    nodes
        Spare nodes.
    start_s
        Time until one can take part [s]; 0 when hot.
    repair_s
        From failure to return [s].
    elastic_nodes
        Beyond the spares, so many nodes may be missing before the job waits; each costs one data-parallel replica.
    """

    nodes: int = 0
    start_s: float = 0.0
    repair_s: float = 0.0
    elastic_nodes: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A run of `work_s` undisturbed seconds on `chips` chips.

    Parameters
    ----------
    chips, replicas
        Working chips, and data-parallel replicas over them.
    work_s
        Time that the run takes if nothing ever happens [s].
    detection_s
        From a failure until the job is known to be dead [s].
    restart_s
        From then until work goes on: reschedule, load the checkpoint, set up communication, first steps [s].
    jitter_speed
        Speed that random variation of step times over ranks leaves.
    slow_share, slow_speed
        Share of chips that are slow, and their speed; one of them slows the whole job.
    """

    chips: int
    work_s: float
    classes: tuple[FailureClass, ...]
    checkpoints: Checkpoints
    restart_s: float = 0.0
    detection_s: float = 0.0
    spares: Spares = Spares()
    replicas: int = 1
    jitter_speed: float = 1.0
    slow_share: float = 0.0
    slow_speed: float = 1.0

    @property
    def failures_per_s(self) -> float:
        """Rate of unplanned interruptions of the whole job [1/s]."""
        return self.chips * sum(kind.per_chip_s for kind in self.classes if not kind.planned)

    @property
    def planned_per_s(self) -> float:
        """Rate of planned interruptions of the whole job [1/s]."""
        return self.chips * sum(kind.per_chip_s for kind in self.classes if kind.planned)

    @property
    def slow_chance(self) -> float:
        """Chance that at least one chip of the job is slow."""
        return 1.0 - float((1.0 - self.slow_share) ** self.chips)

    def every(self, interval_s: float) -> "Job":
        """Return the same job with another checkpoint interval."""
        return replace(self, checkpoints=replace(self.checkpoints, interval_s=interval_s))
