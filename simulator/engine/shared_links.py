"""Links that operations of a program share while they run at the same time.

An operation alone takes its own time, during which it keeps each of its links busy for a part of that time. Where the
parts of several operations add up to more than a link has, they share it max-min fairly: those that want less than an
equal part get what they want, the others split the rest, and run the slower for it.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import simpy

ROUNDING = 1e-9


@dataclass(slots=True)
class _Running:
    """An operation under way: time left if it were alone [s], its speed, and when both were true."""

    left_s: float
    since_s: float
    parts: dict[Hashable, float]
    done: simpy.Event
    speed: float = 1.0
    turn: int = field(default=0)


class SharedLinks:
    """Runs operations under the clock; only those that share a full link with others are looked at together."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self._running: dict[int, _Running] = {}
        self._users: dict[Hashable, dict[int, None]] = {}  # in order of arrival, so that runs are the same every time
        self._full: set[Hashable] = set()

    def run(self, operation: int, duration_s: float, busy_s: tuple[tuple[Hashable, float], ...]) -> simpy.Event:
        """Start an operation; the event comes when it ends.

        Parameters
        ----------
        operation
            A number of its own.
        duration_s
            Time alone, above 0 [s].
        busy_s
            Links, and how long the operation would keep each busy if it were alone [s].
        """
        parts = {link: min(time_s / duration_s, 1.0) for link, time_s in busy_s if time_s > 0}
        own = _Running(duration_s, self.env.now, parts, self.env.event())
        self._running[operation] = own
        for link in parts:
            self._users.setdefault(link, {})[operation] = None
        if not self._share_out(parts):
            self._schedule(operation, own)
        return own.done

    def _share_out(self, links: dict[Hashable, float]) -> bool:
        """Set anew the speeds of all operations that full links join to these; say whether there were any."""
        before = [link for link in links if link in self._full]
        for link in links:
            asked = sum(self._running[other].parts[link] for other in self._users[link])
            (self._full.add if asked > 1 + ROUNDING else self._full.discard)(link)
        seeds = before + [link for link in links if link in self._full]
        if not seeds:
            return False
        found, queue = dict.fromkeys(seeds), list(seeds)
        joined: dict[int, None] = {}
        while queue:
            for operation in self._users[queue.pop()]:
                joined.setdefault(operation)
                for link in self._running[operation].parts:
                    if link in self._full and link not in found:
                        found[link] = None
                        queue.append(link)
        speeds = fair_speeds({operation: self._running[operation].parts for operation in joined}, self._full)
        for operation, speed in speeds.items():
            own = self._running[operation]
            own.left_s -= own.speed * (self.env.now - own.since_s)
            own.since_s, own.speed = self.env.now, speed
            self._schedule(operation, own)
        return True

    def _schedule(self, operation: int, own: _Running) -> None:
        own.turn += 1
        turn = own.turn
        timeout = self.env.timeout(max(own.left_s, 0.0) / own.speed)

        def ended(_: simpy.Event) -> None:
            if own.turn == turn and not own.done.triggered:
                self._end(operation, own)

        callbacks: list[Callable[[simpy.Event], None]] | None = timeout.callbacks
        if callbacks is not None:
            callbacks.append(ended)

    def _end(self, operation: int, own: _Running) -> None:
        own.done.succeed()
        for link in own.parts:
            del self._users[link][operation]
        del self._running[operation]
        if own.parts:
            self._share_out(own.parts)


def fair_speeds(parts: dict[int, dict[Hashable, float]], full: set[Hashable]) -> dict[int, float]:
    """Return the speed of each operation, 1 for as fast as alone.

    The part of its busiest full link that an operation gets is raised alike for all, until it runs as fast as alone or
    one of its links has nothing left.

    Parameters
    ----------
    parts
        Per operation, the part of each link's time that it takes at speed 1.
    full
        Links whose parts add up to more than 1; the others hold nobody back.
    """
    wants = {op: {link: part for link, part in own.items() if link in full} for op, own in parts.items()}
    most = {op: max(own.values(), default=0.0) for op, own in wants.items()}
    left = {link: 1.0 for own in wants.values() for link in own}
    speeds = {op: 1.0 for op, part in most.items() if part == 0}
    open_ops = {op: None for op, part in most.items() if part > 0}
    level = 0.0
    while open_ops:
        demand = dict.fromkeys(left, 0.0)
        for op in open_ops:
            for link, part in wants[op].items():
                demand[link] += part / most[op]
        step = min(most[op] - level for op in open_ops)
        step = min([step, *(left[link] / need for link, need in demand.items() if need > 0)])
        level += step
        for link, need in demand.items():
            left[link] -= step * need
        gone = {link for link, need in demand.items() if need > 0 and left[link] <= ROUNDING}
        ready = [op for op in open_ops if level >= most[op] * (1 - ROUNDING) or gone & wants[op].keys()]
        for op in ready:
            speeds[op] = min(level / most[op], 1.0)
            del open_ops[op]
    return speeds
