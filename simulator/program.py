"""A program: operations on streams, with dependences. Pipelines and overlapped micro-batches are programs.

A stream (a stage's compute queue, its communication queue, one direction of a link) runs its operations one at a time
in the order in which they are listed. An operation starts when its stream is free and everything it waits for has
ended. Two evaluators share this record: the longest path (`simulator.analytic`) and the event simulation
(`simulator.engine`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.result import PARTS

Floats = NDArray[np.float64]
Busy = tuple[tuple[Hashable, float], ...]
ROUNDING = 1e-12
PART_INDEX = {name: index for index, name in enumerate(PARTS)}


@dataclass(frozen=True, slots=True)
class Program:
    """Operations in an order in which each comes after everything it waits for.

    Parameters
    ----------
    duration_s
        ``[operations]`` time of each operation [s].
    stream
        ``[operations]`` stream that runs it.
    waits_for
        Per operation, the operations that must end before it starts.
    parts
        ``[operations, len(PARTS)]`` what its time is spent on [s]; rows sum to `duration_s`.
    idle
        ``[operations]`` index of the part that a stream's gap before the operation goes to; -1 for the parts of the
        operation that ended last among those it waited for.
    labels
        ``[operations]`` what each is, for timelines.
    busy_s
        Per operation, the links that it shares with others and how long it keeps each busy when alone [s]; what runs
        at the same time on one link is slowed down in the event simulation only.
    """

    duration_s: Floats
    stream: NDArray[np.int32]
    waits_for: tuple[tuple[int, ...], ...]
    parts: Floats
    idle: NDArray[np.int32]
    labels: tuple[str, ...]
    busy_s: tuple[Busy, ...]


@dataclass(slots=True)
class ProgramBuilder:
    """Collects operations; `build` freezes them."""

    duration_s: list[float] = field(default_factory=list)
    stream: list[int] = field(default_factory=list)
    waits_for: list[tuple[int, ...]] = field(default_factory=list)
    parts: list[Floats] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    busy_s: list[Busy] = field(default_factory=list)

    def add(
        self,
        stream: int,
        parts: Floats,
        waits_for: Sequence[int] = (),
        *,
        idle: str = "",
        label: str = "",
        busy_s: Busy = (),
    ) -> int:
        """Append an operation that takes the sum of `parts` ``[len(PARTS)]`` [s]; return its index."""
        self.idle.append(PART_INDEX[idle] if idle else -1)
        self.duration_s.append(float(parts.sum()))
        self.stream.append(stream)
        self.waits_for.append(tuple(waits_for))
        self.parts.append(parts)
        self.labels.append(label)
        self.busy_s.append(busy_s)
        return len(self.duration_s) - 1

    def build(self) -> Program:
        """Return the frozen program."""
        return Program(
            np.array(self.duration_s),
            np.array(self.stream, dtype=np.int32),
            tuple(self.waits_for),
            np.array(self.parts).reshape(-1, len(PARTS)),
            np.array(self.idle, dtype=np.int32),
            tuple(self.labels),
            tuple(self.busy_s),
        )


def part(name: str, time_s: float) -> Floats:
    """Return a parts row with all of `time_s` [s] under one name."""
    row = np.zeros(len(PARTS))
    row[PART_INDEX[name]] = time_s
    return row


def attribute(
    program: Program, start_s: Floats, end_s: Floats, streams: Sequence[int], *, skewed: bool = False
) -> Floats:
    """Return what streams spent the whole program on, ``[streams, len(PARTS)]`` [s]; each row sums to its length.

    Parameters
    ----------
    start_s, end_s
        ``[operations]`` times from an evaluator [s].
    streams
        The streams whose time is attributed; gaps go where `Program.idle` says, and the time after a stream's last
        operation to the bubble.
    skewed
        A program that is repeated lasts as long as the longest of these streams, from its own first operation to its
        last: each starts again without waiting for the others. Otherwise it lasts until the last operation ends.
    """
    mine = [np.flatnonzero(program.stream == stream) for stream in streams]
    begin = [float(start_s[operations[0]]) if skewed else 0.0 for operations in mine]
    spans = [float(end_s[operations[-1]]) - first for operations, first in zip(mine, begin, strict=True)]
    length = max(spans) if skewed else float(end_s.max())
    rows = []
    for operations, first, span in zip(mine, begin, spans, strict=True):
        row = _spent(program, start_s, end_s, operations, first)
        row[PART_INDEX["bubble"]] += length - span
        rows.append(row)
    return np.array(rows)


def _spent(program: Program, start_s: Floats, end_s: Floats, mine: NDArray[np.int64], begin_s: float) -> Floats:
    """Return what the operations of one stream, and the gaps between them, are spent on, ``[len(PARTS)]`` [s]."""
    total = program.parts[mine].sum(axis=0)
    total[PART_INDEX["pipeline"]] += _slowed(program, start_s, end_s, mine)
    gaps = start_s[mine] - np.concatenate([[begin_s], end_s[mine][:-1]])
    labels = program.idle[mine]
    named = labels >= 0
    total += np.bincount(labels[named], gaps[named], len(PARTS))
    for op, gap in zip(mine[~named], gaps[~named], strict=True):
        if gap > 0:
            latest = max(program.waits_for[op], key=lambda other: end_s[other])
            total += program.parts[latest] * (gap / program.duration_s[latest])
    spent: Floats = total
    return spent


def _slowed(program: Program, start_s: Floats, end_s: Floats, mine: NDArray[np.int64]) -> float:
    """Return how much longer operations ran than they would have alone [s]: by transfers between stages."""
    more: Floats = (end_s - start_s)[mine] - program.duration_s[mine]
    shares = np.array([bool(program.busy_s[op]) for op in mine])
    return float(more[shares & (more > ROUNDING * end_s.max())].sum())


def without(program: Program, name: str) -> Program:
    """Return the program with one part taking no time: what the same order would do if that were free."""
    parts = program.parts.copy()
    parts[:, PART_INDEX[name]] = 0.0
    return replace(program, duration_s=parts.sum(axis=1), parts=parts)


def merged(programs: Sequence[Program], streams: int) -> ProgramBuilder:
    """Return a builder that holds several programs side by side, each with `streams` streams of its own."""
    builder = ProgramBuilder()
    for index, program in enumerate(programs):
        offset, first = len(builder.duration_s), index * streams
        builder.duration_s += program.duration_s.tolist()
        builder.stream += (program.stream + first).tolist()
        builder.waits_for += [tuple(other + offset for other in waits) for waits in program.waits_for]
        builder.parts += list(program.parts)
        builder.idle += program.idle.tolist()
        builder.labels += program.labels
        builder.busy_s += [tuple(((index, link), time_s) for link, time_s in busy) for busy in program.busy_s]
    return builder
