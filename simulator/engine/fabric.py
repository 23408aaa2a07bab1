"""Flows on shared links under the simpy clock: each moves at its max-min fair rate until it is done."""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.cost.max_min import max_min_rates, nearly_fair_rates, used_bytes_per_s

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Events = Generator[simpy.Event, object, None]
ROUNDING = 1e-12
IDLE = 0.01  # part of a link that may idle where ends are taken together
FULL = 1 - 2 * IDLE  # part of a link's capacity from which it counts as full


class Saturation:
    """When links were full.

    Parameters
    ----------
    capacity_bytes_per_s
        ``[links]``.

    Attributes
    ----------
    first_s, last_s
        ``[links]`` when each was first and last full [s]; NaN if it never was.
    full_s
        ``[links]`` how long in all [s].
    """

    def __init__(self, capacity_bytes_per_s: Floats) -> None:
        self._enough = FULL * capacity_bytes_per_s
        self.first_s, self.last_s = np.full((2, capacity_bytes_per_s.size), np.nan)
        self.full_s = np.zeros(capacity_bytes_per_s.size)

    def add(self, used_bytes_per_s: Floats, start_s: float, end_s: float) -> None:
        """Count a time at constant rates."""
        full = used_bytes_per_s >= self._enough
        self.first_s[full & np.isnan(self.first_s)] = start_s
        self.last_s[full] = end_s
        self.full_s[full] += end_s - start_s


class Fabric:
    """Links, and the flows on them. Rates change when flows start or end, or links change.

    A million ends need not be a million events: with a `resolution`, flows that end soon one after the other are taken
    together. Over such a window each moves the bytes that it has left, and the others share what remains, so that no
    link carries more than it can, nor idles for it; only who gets which part within the window is averaged.

    Parameters
    ----------
    env
        The clock.
    capacity_bytes_per_s
        ``[links]``.
    resolution
        Part of the flows under way whose ends may be taken together; 0 is exact.
    """

    def __init__(self, env: simpy.Environment, capacity_bytes_per_s: Floats, resolution: float = 0.0) -> None:
        self.env = env
        self.resolution = resolution
        self._capacity = capacity_bytes_per_s
        self._link = np.zeros((1, 0), dtype=np.int64)
        self._share: Floats | None = None
        self._left = np.zeros(0)
        self._flow = np.zeros(0, dtype=np.int64)
        self._owner = np.zeros(0, dtype=np.int64)
        self._done: list[simpy.Event] = []
        self._finish: list[Floats] = []
        self._changed = env.event()
        self._since, self._rate, self._ends = env.now, np.zeros(0), np.zeros(0)
        self._guess = False  # rates are good enough to guess ends from: no flow has started, no link changed since
        self._watched = True
        self.saturation = Saturation(capacity_bytes_per_s)  # until `rewire`: after that, links are others
        self.rounds = 0
        env.process(self._run())

    @property
    def waiting(self) -> tuple[Ints, Ints, Floats]:
        """Transfer, number in it and bytes left of each flow that has not ended."""
        return self._owner, self._flow, self._left

    def send(self, link: Ints, share: Floats | None, size_bytes: Floats) -> simpy.Event:
        """Start flows; the event comes when the last has ended, with when each did, ``[flows]`` [s].

        Parameters
        ----------
        link, share
            ``[places, flows]`` as in `simulator.cost.flow_links.FlowLinks`.
        size_bytes
            ``[flows]``.
        """
        done = self.env.event()
        moving = np.flatnonzero((size_bytes > 0) & (link < self._capacity.size).any(axis=0))
        finish = np.full(size_bytes.size, self.env.now)
        self._finish.append(finish)
        self._done.append(done)
        if not moving.size:
            return done.succeed(finish)
        self._wake()
        share = None if share is None else share[:, moving]
        self._link, self._share = _beside(self._link, self._share, link[:, moving], share, self._capacity.size)
        self._left = np.append(self._left, size_bytes[moving])
        self._flow = np.append(self._flow, moving)
        self._owner = np.append(self._owner, np.full(moving.size, len(self._done) - 1))
        return done

    def rewire(self, link: Ints, share: Floats | None, capacity_bytes_per_s: Floats) -> None:
        """Give the flows of `waiting`, in that order, other links: after a fault, or its repair."""
        self._wake()
        self._watched = False
        self._capacity, self._link, self._share = capacity_bytes_per_s, link, share

    def settle(self) -> None:
        """Count what has moved until now, so that `waiting` is up to date."""
        self._advance()

    def _wake(self) -> None:
        self._advance()
        self._guess = False
        if not self._changed.triggered:
            self._changed.succeed()

    def _run(self) -> Events:
        while True:
            self._changed = self.env.event()
            if not self._left.size:
                yield self._changed
                continue
            window_s = self._plan()
            self._since = self.env.now
            self.rounds += 1
            if np.isfinite(window_s):
                yield self.env.timeout(window_s) | self._changed
            else:
                yield self._changed
            self._advance()

    def _plan(self) -> float:
        """Set the rates from now on; return how long they hold [s], infinite if nothing moves."""
        many = int(self.resolution * self._left.size)
        if not many:
            return self._share_out(max_min_rates(self._link, self._share, self._capacity))
        if not self._guess:
            self._share_out(nearly_fair_rates(self._link, self._share, self._capacity, IDLE))
        with np.errstate(divide="ignore"):
            self._ends = self._left / self._rate
        heads = np.flatnonzero(np.diff(self._owner, prepend=-1))
        last = float(np.maximum.reduceat(self._ends, heads).min())  # a transfer's end is an event of its own
        window_s = min(float(np.partition(self._ends, many)[many]), last)
        if not np.isfinite(window_s):
            return self._share_out(nearly_fair_rates(self._link, self._share, self._capacity, IDLE))
        self._average(window_s)
        self._guess = True
        return window_s

    def _share_out(self, rate: Floats) -> float:
        """Take up rates; return when the first flow ends at them [s]."""
        self._rate, self._guess = rate, False
        with np.errstate(divide="ignore"):
            self._ends = self._left / rate
        return float(self._ends.min())

    def _average(self, window_s: float) -> None:
        """Let the flows that end in the window take all of it, and the others what these leave."""
        ending = self._ends <= window_s
        self._rate[ending] = self._left[ending] / window_s
        going = ~ending
        if not going.any():
            return
        share = None if self._share is None else self._share[:, ending]
        taken = used_bytes_per_s(self._rate[ending], self._link[:, ending], share, self._capacity.size)
        share = None if self._share is None else self._share[:, going]
        left = np.maximum(self._capacity - taken[:-1], 0.0)
        self._rate[going] = nearly_fair_rates(self._link[:, going], share, left, IDLE)
        self._ends[going] = np.inf

    def _advance(self) -> None:
        """Move every flow on to the present moment, and let those go that have ended."""
        elapsed = self.env.now - self._since
        if not self._rate.size or elapsed <= 0:
            return
        if self._watched:
            used = used_bytes_per_s(self._rate, self._link, self._share, self._capacity.size)
            self.saturation.add(used[:-1], self._since, self.env.now)
        self._left = self._left - self._rate * elapsed
        over = self._left <= self._rate * (ROUNDING * self.env.now)
        stay = ~over
        self._record(np.flatnonzero(over), elapsed)
        self._since = self.env.now
        owners = self._owner[over]
        self._link, self._left = self._link[:, stay], self._left[stay]
        self._share = None if self._share is None else self._share[:, stay]
        self._flow, self._owner, self._rate = self._flow[stay], self._owner[stay], self._rate[stay]
        self._ends = self._ends[stay]
        for owner in np.setdiff1d(owners, self._owner).tolist():
            self._done[owner].succeed(self._finish[owner])

    def _record(self, ended: Ints, elapsed_s: float) -> None:
        owners = self._owner[ended]
        ends_s = self._since + np.minimum(self._ends[ended], elapsed_s)
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        for first, last in pairwise([*starts.tolist(), ended.size]):
            self._finish[int(owners[first])][self._flow[ended[first:last]]] = ends_s[first:last]


def _beside(
    link: Ints,
    share: Floats | None,
    more: Ints,
    more_share: Floats | None,
    nowhere: int,
) -> tuple[Ints, Floats | None]:
    """Put two sets of flows side by side, with as many places as the larger one."""
    places = max(link.shape[0], more.shape[0])

    def filled(values: NDArray[np.generic], value: float) -> NDArray[np.generic]:
        return np.pad(values, ((0, places - values.shape[0]), (0, 0)), constant_values=value)

    both = np.concatenate([filled(link, nowhere), filled(more, nowhere)], axis=1).astype(np.int64)
    if share is None and more_share is None:
        return both, None
    shares = [
        filled(np.ones(links.shape) if own is None else own, 1.0) for links, own in ((link, share), (more, more_share))
    ]
    return both, np.concatenate(shares, axis=1).astype(np.float64)
