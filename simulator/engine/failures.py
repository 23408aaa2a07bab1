"""Runs under failures: many histories side by side, one array element each.

A history alternates between work with its checkpoints and restarts. Every pass of the loop takes all histories that are
not at their end to their next interruption, so a pass costs the same for one history as for hundreds.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.reliability.job import Job

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
MAX_INTERRUPTIONS = 200_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded history of interruptions, replayed instead of drawn ones; after its last nothing fails.

    Parameters
    ----------
    at_s
        ``[interruptions]`` rising times since the start [s].
    kind
        ``[interruptions]`` index into the job's classes.
    """

    at_s: Floats
    kind: Ints


@dataclass(slots=True)
class Histories:
    """Where the time went, ``[histories]`` [s]; the parts sum to `total_s`.

    `slowed_s` is what stragglers and missing replicas add to useful work, `waiting_s` the wait for a node.
    """

    useful_s: Floats
    slowed_s: Floats
    lost_s: Floats
    checkpoint_s: Floats
    detection_s: Floats
    restart_s: Floats
    waiting_s: Floats
    interruptions: Ints

    @property
    def total_s(self) -> Floats:
        """Duration of each history [s]."""
        total: Floats = np.sum([getattr(self, field.name) for field in fields(self)[:-1]], axis=0)
        return total

    @property
    def goodput(self) -> Floats:
        """Useful over total time."""
        return self.useful_s / self.total_s


class Failures:
    """When the next interruption comes and of which kind: drawn at the classes' rates, or recorded."""

    def __init__(self, job: Job, histories: int, seed: int, recorded: Recorded | None) -> None:
        rates = np.array([kind.per_chip_s for kind in job.classes]) * job.chips
        self.rate = float(rates.sum())
        self.chances = np.cumsum(rates / self.rate) if self.rate > 0 else np.empty(0)
        self.recorded = recorded
        # A stream per history: how many are asked for does not change any of them.
        self.streams = [np.random.default_rng([seed, index]) for index in range(histories)]
        self.pool = np.empty((histories, 0, 2))
        self.used = np.zeros(histories, dtype=np.int64)

    def after(self, at_s: Floats, who: Ints) -> tuple[Floats, Ints]:
        """Return time [s] and class of the next interruption after `at_s` of the histories `who`."""
        if self.recorded is not None:
            index = np.searchsorted(self.recorded.at_s, at_s, side="right")
            known = index < len(self.recorded.at_s)
            place = np.where(known, index, 0)
            if not known.any():
                return np.full(len(who), np.inf), np.zeros(len(who), dtype=np.int64)
            return np.where(known, self.recorded.at_s[place], np.inf), self.recorded.kind[place]
        if self.rate <= 0:
            return np.full(len(who), np.inf), np.zeros(len(who), dtype=np.int64)
        drawn = self._draw(who)
        kind = np.minimum(np.searchsorted(self.chances, drawn[:, 1], side="right"), len(self.chances) - 1)
        return at_s - np.log1p(-drawn[:, 0]) / self.rate, kind

    def _draw(self, who: Ints) -> Floats:
        if self.used[who].max() >= self.pool.shape[1]:
            more = np.stack([stream.random((256, 2)) for stream in self.streams])
            self.pool = np.concatenate([self.pool, more], axis=1)
        drawn: Floats = self.pool[who, self.used[who]]
        self.used[who] += 1
        return drawn


class _Nodes:
    """Nodes away for repair: the last departures of each history, oldest overwritten first."""

    def __init__(self, job: Job, histories: int) -> None:
        self.spares = job.spares
        self.replicas = job.replicas
        self.room = max(1, self.spares.nodes + self.spares.elastic_nodes)
        self.left_s = np.full((histories, self.room), -np.inf)
        self.departures = np.zeros(histories, dtype=np.int64)

    def replace(self, at_s: Floats, who: Ints) -> Floats:
        """Send a node to repair and return how long the job waits for another [s]."""
        spares = self.spares
        place = self.departures[who] % self.room
        self.departures[who] += 1
        if spares.nodes + spares.elastic_nodes == 0:
            return np.full(len(who), spares.repair_s)
        back_s = self.left_s[who] + spares.repair_s
        has_spare = (back_s > at_s[:, None]).sum(axis=1) < spares.nodes
        # The longest away is the next one back; who is waited for takes part at once.
        wait_s: Floats = np.maximum(back_s[np.arange(len(who)), place] - at_s, 0.0)
        self.left_s[who, place] = at_s
        return wait_s + np.where(has_spare, spares.start_s, 0.0)

    def speed(self, at_s: Floats, who: Ints) -> Floats:
        """Return the share of the replicas that take part in a job that starts now."""
        away = (self.left_s[who] + self.spares.repair_s > at_s[:, None]).sum(axis=1)
        missing = np.maximum(away - self.spares.nodes, 0)
        share: Floats = np.maximum(self.replicas - missing, 1) / self.replicas
        return share


def simulate_failures(job: Job, histories: int, seed: int, recorded: Recorded | None = None) -> Histories:
    """Return how `histories` runs of a job go.

    Chips fail while the job works or restarts, not while it hangs undetected or waits for a node. A job that lost nodes
    takes them back when it restarts for another reason.

    Parameters
    ----------
    seed
        Each history draws from a stream of its own.
    recorded
        Interruptions at these times instead of drawn ones.

    Raises
    ------
    UserError
        If the job is interrupted so often that it hardly gets on.
    """
    spent = _nothing(histories)
    failures, nodes = Failures(job, histories, seed, recorded), _Nodes(job, histories)
    own_speed = _own_speed(job, histories, seed)
    at_s, left_s = np.zeros(histories), np.full(histories, job.work_s)
    restarting = np.zeros(histories, dtype=bool)
    who = np.arange(histories)
    next_s, kind = failures.after(at_s, who)
    for _ in range(MAX_INTERRUPTIONS):
        _restart(job, spent, who, at_s, next_s, restarting)
        speed = own_speed[who] * nodes.speed(at_s, who)
        keep = ~_work(job, spent, who, (at_s, left_s, next_s, speed), restarting, kind)
        who, at_s, left_s, kind = who[keep], at_s[keep], left_s[keep], kind[keep]
        if not len(who):
            return spent
        at_s = at_s + _recover(job, spent, who, at_s, kind, nodes)
        restarting = np.ones(len(who), dtype=bool)
        next_s, kind = failures.after(at_s, who)
    raise UserError(
        f"reliability: {MAX_INTERRUPTIONS:,} interruptions and the run is not done; failures come faster than the job "
        "restarts: shorten reliability.restart_s and detection_s, checkpoint more often, or use fewer chips"
    )


def _nothing(histories: int) -> Histories:
    useful, slowed, lost, checkpoint, detection, restart, waiting = np.zeros((7, histories))
    none = np.zeros(histories, dtype=np.int64)
    return Histories(useful, slowed, lost, checkpoint, detection, restart, waiting, none)


def _own_speed(job: Job, histories: int, seed: int) -> Floats:
    """Speed that jitter leaves, and slow chips where a history has one."""
    drawn = np.array([np.random.default_rng([seed, index, 1]).random() for index in range(histories)])
    return job.jitter_speed * np.where(drawn < job.slow_chance, job.slow_speed, 1.0)


def _restart(job: Job, spent: Histories, who: Ints, at_s: Floats, next_s: Floats, restarting: Mask) -> None:
    """Advance those that restart, in place; who comes through is no longer `restarting`."""
    due_s = np.where(restarting, job.restart_s, 0.0)
    took_s = np.minimum(next_s - at_s, due_s)
    spent.restart_s[who] += took_s
    at_s += took_s
    restarting[took_s >= due_s] = False


def _work(
    job: Job,
    spent: Histories,
    who: Ints,
    state: tuple[Floats, Floats, Floats, Floats],
    restarting: Mask,
    kind: Ints,
) -> Mask:
    """Advance those that work to their end or next interruption, in place; return who ended."""
    at_s, left_s, next_s, speed = state
    saved = job.checkpoints
    cycle_s = saved.interval_s + saved.stall_s
    need_s = left_s / speed
    stops = np.maximum(np.ceil(need_s / saved.interval_s) - 1.0, 0.0)
    free_s = next_s - at_s
    ended: Mask = ~restarting & (need_s + stops * saved.stall_s <= free_s)
    span_s = np.where(restarting, 0.0, np.where(ended, 0.0, free_s))
    cycles = np.floor(span_s / cycle_s)
    phase_s = span_s - cycles * cycle_s
    worked_s = np.minimum(phase_s, saved.interval_s)
    stalled_s = cycles * saved.stall_s + phase_s - worked_s
    kept = np.where((cycles > 0) & (phase_s < saved.durable_s), cycles - 1.0, cycles)
    safe_s = kept * saved.interval_s
    planned = np.array([each.planned for each in job.classes] or [False])[kind] & ~restarting
    safe_s = np.where(planned, cycles * saved.interval_s + worked_s, safe_s)
    spent.lost_s[who] += cycles * saved.interval_s + worked_s - safe_s
    spent.checkpoint_s[who] += np.where(ended, stops * saved.stall_s, stalled_s)
    gained_s = np.where(ended, left_s, safe_s * speed)
    spent.useful_s[who] += gained_s
    spent.slowed_s[who] += np.where(ended, need_s, safe_s) - gained_s
    left_s -= gained_s
    at_s += span_s
    return ended


def _recover(job: Job, spent: Histories, who: Ints, at_s: Floats, kind: Ints, nodes: _Nodes) -> Floats:
    """Count the interruption, and return how long detection and the wait for a node take [s]."""
    planned = np.array([each.planned for each in job.classes])[kind]
    takes = np.array([each.takes_node for each in job.classes])[kind]
    detection_s = np.where(planned, 0.0, job.detection_s)
    waiting_s = np.zeros(len(who))
    if takes.any():
        waiting_s[takes] = nodes.replace((at_s + detection_s)[takes], who[takes])
    spent.interruptions[who] += 1
    spent.detection_s[who] += detection_s
    spent.waiting_s[who] += waiting_s
    return detection_s + waiting_s
