"""A pipeline schedule with times: the program of all ranks of one pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program import Busy, Program, ProgramBuilder, part
from simulator.schedules.chunk import Chunk
from simulator.schedules.table import Schedule

Floats = NDArray[np.float64]
# Streams of one stage in `pipeline_program`: compute, and sending in either direction.
STREAMS_PER_STAGE = 3
_KINDS = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}


def partners(schedule: Schedule, ranks: int, parts: int) -> NDArray[np.int64]:
    """Return ``[parts, n]`` the parts whose backward a pair may run beside each part's forward.

    Where parts are counted from both ends there is one, else any of the same rank, by its turn.
    """
    forward = np.arange(parts)
    if schedule.copies > 1 or schedule.folded:
        return parts - 1 - forward[:, None]
    return forward[:, None] % ranks + np.arange(0, parts, ranks)


def pipeline_program(
    schedule: Schedule,
    orders: Sequence[Sequence[Chunk]],
    times: dict[str, Floats],
    hop_s: float,
    wire: "Wire | None" = None,
) -> Program:
    """Return the program of a pipeline: compute streams 0..stages-1, then one stream per direction of each boundary.

    Parameters
    ----------
    orders
        Per rank, its chunks in order.
    times
        Per kind (`F`, `B`, `I`, `W`), what a chunk's time is spent on, ``[parts, micro_batches, len(PARTS)]`` [s];
        micro-batches of direction 1 follow those of direction 0. `FB` is ``[parts, n, micro_batches, len(PARTS)]``, by
        the forward's part and micro-batch and, along n, its backward's part as `partners` numbers them.
    hop_s
        Time of one activation or gradient transfer between neighbouring parts on different ranks [s].
    wire
        How long chunks and transfers keep the ports busy that they share; None where they share none.
    """
    return _PipelineWriter(schedule, orders, times, hop_s, wire).write()


@dataclass(frozen=True, slots=True)
class Wire:
    """Use of the ports that dispatch and combine share with transfers between stages.

    Parameters
    ----------
    chunks_s
        Per kind of chunk, shaped as its times but for the last axis: how long each port of a rank is busy [s].
    hop_s
        How long a transfer keeps the sender's and the receiver's port busy [s].
    """

    chunks_s: dict[str, Floats]
    hop_s: float


class _PipelineWriter:
    """Walks all ranks' orders at once, appending each chunk when what it needs has been appended."""

    def __init__(
        self,
        schedule: Schedule,
        orders: Sequence[Sequence[Chunk]],
        times: dict[str, Floats],
        hop_s: float,
        wire: Wire | None,
    ) -> None:
        self.wire = wire
        self.schedule, self.orders, self.times, self.hop = schedule, orders, times, part("pipeline", hop_s)
        self.ranks = len(orders)
        self.parts, micro_batches = (int(size) for size in times["F"].shape[:2])
        self.builder = ProgramBuilder()
        self.arrived: dict[tuple[str, int, int, int], int] = {}
        self.per_direction = micro_batches // schedule.copies

    def write(self) -> Program:
        place = [0] * self.ranks
        left = sum(len(order) for order in self.orders)
        while left:
            before = left
            for rank, order in enumerate(self.orders):
                while place[rank] < len(order) and self._append(rank, order[place[rank]]):
                    place[rank] += 1
                    left -= 1
            if left == before:
                raise RuntimeError("pipeline schedule waits for itself")
        return self.builder.build()

    def _part(self, rank: int, direction: int, turn: int) -> int:
        if direction or (self.schedule.folded and turn):
            return self.parts - 1 - rank
        return turn * self.ranks + rank

    def _append(self, rank: int, chunk: Chunk) -> bool:
        stage = self._part(rank, chunk.direction, chunk.turn)
        halves = [(chunk.kind[0], chunk.direction, stage, chunk.micro_batch)]
        rows = self.times[chunk.kind][stage]
        if chunk.kind == "FB":
            paired = self._part(rank, chunk.paired_direction, chunk.paired_turn)
            halves.append(("B", chunk.paired_direction, paired, chunk.paired_micro_batch))
            rows = rows[chunk.paired_turn if len(rows) > 1 else 0]
        needs = [self._need(*half) for half in halves]
        if any(need is None for need in needs):
            return False
        row = rows[chunk.micro_batch + chunk.direction * self.per_direction]
        waits = [op for need in needs if need for op in need]
        label = " + ".join(f"{self._name(*half)}" for half in halves)
        busy = self._busy(rank, chunk, stage)
        op = self.builder.add(rank, row, waits, idle="bubble", label=label, busy_s=busy)
        for half in halves:
            self._send(rank, op, *half)
        return True

    def _busy(self, rank: int, chunk: Chunk, stage: int) -> Busy:
        if self.wire is None:
            return ()
        rows = self.wire.chunks_s[chunk.kind][stage]
        if chunk.kind == "FB":
            rows = rows[chunk.paired_turn if len(rows) > 1 else 0]
        busy_s = float(rows[chunk.micro_batch + chunk.direction * self.per_direction])
        return tuple(((rank, side), busy_s) for side in ("out", "in")) if busy_s > 0 else ()

    def _need(self, kind: str, direction: int, stage: int, micro_batch: int) -> tuple[int, ...] | None:
        """Return the operations this half waits for, or None while they have not been appended."""
        if kind == "W" or (kind == "F" and stage == 0):
            return ()
        found = self.arrived.get(("F" if kind == "F" else "B", direction, stage, micro_batch))
        return None if found is None else (found,)

    def _send(self, rank: int, op: int, kind: str, direction: int, stage: int, micro_batch: int) -> None:
        """Pass the result on: to the next part, or from the last part's forward to its own backward."""
        if kind == "W":
            return
        onward = stage + 1 if kind == "F" else stage - 1
        if onward == self.parts:
            self.arrived["B", direction, stage, micro_batch] = op
        elif onward >= 0:
            arrival = op if self._same_rank(stage, onward) else self._hop(rank, op, kind, direction, stage, micro_batch)
            self.arrived["F" if kind == "F" else "B", direction, onward, micro_batch] = arrival

    def _same_rank(self, part_a: int, part_b: int) -> bool:
        """Return whether neighbouring parts lie on one rank, as at the turn of a folded pipeline."""
        return self.schedule.folded and part_a + part_b == self.parts - 1

    def _hop(self, rank: int, op: int, kind: str, direction: int, stage: int, micro_batch: int) -> int:
        backwards = direction == 1 or (self.schedule.folded and stage >= self.ranks)
        outward = int((kind == "F") != backwards)
        label = f"send {self._name(kind, direction, stage, micro_batch)}"
        busy: Busy = ()
        if self.wire is not None:
            other = (rank + (1 if outward else -1)) % self.ranks
            busy = ((rank, "out"), self.wire.hop_s), ((other, "in"), self.wire.hop_s)
        return self.builder.add(self.ranks * (1 + outward) + rank, self.hop, (op,), label=label, busy_s=busy)

    def _name(self, kind: str, direction: int, stage: int, micro_batch: int) -> str:
        of_part = f", part {stage}" if self.parts > self.ranks else ""
        return f"{_KINDS[kind]} {micro_batch + direction * self.per_direction}{of_part}"
