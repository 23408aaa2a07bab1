"""Pipeline schedules as data: for each stage's rank, the order in which it runs its chunks.

A chunk is one micro-batch on one part of the model: forward `F`, backward `B` (input and weight gradients), or its
halves `I` (input gradient) and `W` (weight gradient). `FB` is a forward and a backward of different micro-batches whose
communication hides behind each other's compute. A part is a virtual stage: rank r of p holds part r and, interleaved,
parts r + p, r + 2 p and so on.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.program import Program, ProgramBuilder, part

Floats = NDArray[np.float64]


# Streams of one stage in `pipeline_program`: compute, and sending in either direction.
STREAMS_PER_STAGE = 3


class Chunk(NamedTuple):
    """One entry of a schedule: what runs, of which direction and micro-batch (of the direction's own count).

    `turn` counts the model parts of the rank; a pair is on its first.
    """

    kind: str
    direction: int
    micro_batch: int
    paired_direction: int = -1
    paired_micro_batch: int = -1
    turn: int = 0


def gpipe(stages: int, micro_batches: int) -> list[list[Chunk]]:
    """Return all forwards, then all backwards, on every stage (Huang et al., arXiv:1811.06965)."""
    order = [Chunk("F", 0, m) for m in range(micro_batches)] + [Chunk("B", 0, m) for m in range(micro_batches)]
    return [list(order) for _ in range(stages)]


def one_f_one_b(stages: int, micro_batches: int) -> list[list[Chunk]]:
    """Return warm-up forwards, then one forward and one backward in turn, then the rest (arXiv:2104.04473, Fig. 4)."""
    orders = []
    for stage in range(stages):
        warm = min(stages - 1 - stage, micro_batches)
        order = [Chunk("F", 0, m) for m in range(warm)]
        for m in range(micro_batches - warm):
            order += [Chunk("F", 0, warm + m), Chunk("B", 0, m)]
        order += [Chunk("B", 0, m) for m in range(micro_batches - warm, micro_batches)]
        orders.append(order)
    return orders


def interleaved(stages: int, micro_batches: int, virtual_stages: int) -> list[list[Chunk]]:
    """Return 1F1B over `virtual_stages` model parts per rank (Megatron-LM, arXiv:2104.04473 section 2.2, Fig. 4).

    Groups of as many micro-batches as there are stages pass a rank's parts one after the other, backwards in reverse.

    Raises
    ------
    UserError
        Unless micro-batches are a multiple of stages.
    """
    if micro_batches % stages:
        near = max(stages, round(micro_batches / stages) * stages)
        raise UserError(
            f"plan.schedule = interleaved: {micro_batches} micro-batches are not a multiple of {stages} stages; use "
            f"1f1b with plan.virtual_stages = 1, or for example {near} micro-batches (workload.global_batch_sequences)"
        )
    places = [
        (turn, group + index)
        for group in range(0, micro_batches, stages)
        for turn in range(virtual_stages)
        for index in range(stages)
    ]
    forwards = [Chunk("F", 0, m, turn=turn) for turn, m in places]
    backwards = [Chunk("B", 0, m, turn=virtual_stages - 1 - turn) for turn, m in places]
    orders = []
    for stage in range(stages):
        warm = min((stages - stage - 1) * 2 + (virtual_stages - 1) * stages, len(places))
        steady = len(places) - warm
        pairs = zip(forwards[warm:], backwards[:steady], strict=True)
        orders.append([*forwards[:warm], *(chunk for pair in pairs for chunk in pair), *backwards[steady:]])
    return orders


def dualpipe(stages: int, micro_batches: int) -> list[list[Chunk]]:
    """Return the bidirectional schedule of DeepSeek-V3 (arXiv:2412.19437 section 3.2.1, Fig. 5).

    Rank r holds stage r for direction 0 and stage `stages - 1 - r` for direction 1; half of the micro-batches run
    in each direction. The eight phases are those of deepseek-ai/DualPipe:dualpipe/dualpipe.py.

    Raises
    ------
    UserError
        Unless stages and micro-batches are even and micro_batches >= 2 x stages.
    """
    if stages % 2 or micro_batches % 2 or micro_batches < 2 * stages:
        raise UserError(
            f"plan.schedule = dualpipe: {stages} stages, {micro_batches} micro-batches: both must be even and there "
            f"must be at least {2 * stages} micro-batches; use 1f1b, or more micro-batches"
        )
    return [_dualpipe_rank(rank, stages, micro_batches // 2) for rank in range(stages)]


class _Rank:
    """Counts forwards, backwards and put-off weight gradients of one DualPipe rank while its order is written."""

    def __init__(self, flipped: bool) -> None:
        self.flip = int(flipped)
        self.order: list[Chunk] = []
        self.forwards, self.backwards = [0, 0], [0, 0]
        self.put_off: deque[tuple[int, int]] = deque()

    def _next(self, counts: list[int], phase: int) -> tuple[int, int]:
        direction = phase ^ self.flip
        counts[direction] += 1
        return direction, counts[direction] - 1

    def forward(self, phase: int) -> None:
        self.order.append(Chunk("F", *self._next(self.forwards, phase)))

    def backward(self, phase: int, put_off: bool = False) -> None:
        chunk = self._next(self.backwards, phase)
        self.order.append(Chunk("I" if put_off else "B", *chunk))
        if put_off:
            self.put_off.append(chunk)

    def weight(self) -> None:
        self.order.append(Chunk("W", *self.put_off.popleft()))

    def both(self, forward_phase: int, backward_phase: int) -> None:
        forward = self._next(self.forwards, forward_phase)
        self.order.append(Chunk("FB", *forward, *self._next(self.backwards, backward_phase)))


def _dualpipe_rank(rank: int, stages: int, half_batches: int) -> list[Chunk]:
    half = stages // 2
    depth = min(rank, stages - 1 - rank)
    todo = _Rank(rank >= half)
    inner = half - depth - 1
    for _ in range(2 * inner):
        todo.forward(0)
    for _ in range(depth + 1):
        todo.forward(0)
        todo.forward(1)
    for _ in range(inner):
        todo.backward(1, put_off=True)
        todo.weight()
        todo.forward(1)
    for step in range(half_batches - stages + depth + 1):
        if step == 0 and inner == 0:
            todo.forward(0)
            todo.backward(1)
        else:
            todo.both(0, 1)
        todo.both(1, 0)
    for _ in range(inner):
        todo.backward(1)
        todo.both(1, 0)
    for step in range(depth + 1):
        todo.backward(1, put_off=2 * step > depth + 1 or (step == (depth + 1) // 2 and depth % 2 == 1))
        todo.backward(0, put_off=step >= (depth + 1) // 2)
    for _ in range(inner):
        todo.weight()
        todo.backward(0, put_off=True)
    while todo.put_off:
        todo.weight()
    return todo.order


SCHEDULES = {"gpipe": gpipe, "1f1b": one_f_one_b, "dualpipe": dualpipe}


def rank_orders(schedule: str, stages: int, micro_batches: int, virtual_stages: int = 1) -> list[list[Chunk]]:
    """Return what each rank runs, in order, under a schedule of `SCHEDULES` or `interleaved`.

    Raises
    ------
    UserError
        If the schedule cannot take so many stages and micro-batches.
    """
    if schedule == "interleaved":
        return interleaved(stages, micro_batches, virtual_stages)
    return SCHEDULES[schedule](stages, micro_batches)


def pipeline_program(orders: Sequence[Sequence[Chunk]], times: dict[str, Floats], hop_s: float) -> Program:
    """Return the program of a pipeline: compute streams 0..stages-1, then one stream per direction of each boundary.

    Parameters
    ----------
    orders
        Per rank, its chunks in order.
    times
        Per kind (`F`, `B`, `I`, `W`, `FB`), what a chunk's time is spent on, ``[virtual stages, micro_batches,
        len(PARTS)]`` [s]; micro-batches of direction 1 follow those of direction 0. `FB` is looked up by its forward.
    hop_s
        Time of one activation or gradient transfer between neighbouring virtual stages [s].
    """
    return _PipelineWriter(orders, times, hop_s).write()


class _PipelineWriter:
    """Walks all ranks' orders at once, appending each chunk when what it needs has been appended."""

    def __init__(self, orders: Sequence[Sequence[Chunk]], times: dict[str, Floats], hop_s: float) -> None:
        self.orders, self.times, self.hop = orders, times, part("pipeline", hop_s)
        self.ranks, self.stages = len(orders), next(iter(times.values())).shape[0]
        self.builder = ProgramBuilder()
        self.arrived: dict[tuple[str, int, int, int], int] = {}
        both = any(chunk.direction for order in orders for chunk in order)
        self.half = next(iter(times.values())).shape[1] // 2 if both else 0

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

    def _stage(self, rank: int, direction: int, turn: int) -> int:
        return self.stages - 1 - rank if direction else turn * self.ranks + rank

    def _append(self, rank: int, chunk: Chunk) -> bool:
        stage = self._stage(rank, chunk.direction, chunk.turn)
        halves = [(chunk.kind[0], chunk.direction, stage, chunk.micro_batch)]
        if chunk.kind == "FB":
            paired = self._stage(rank, chunk.paired_direction, 0)
            halves.append(("B", chunk.paired_direction, paired, chunk.paired_micro_batch))
        needs = [self._need(*half) for half in halves]
        if any(need is None for need in needs):
            return False
        row = self.times[chunk.kind][stage, chunk.micro_batch + chunk.direction * self.half]
        waits = [op for need in needs if need for op in need]
        op = self.builder.add(rank, row, waits, idle="bubble")
        for half in halves:
            self._send(rank, op, *half)
        return True

    def _need(self, kind: str, direction: int, stage: int, micro_batch: int) -> tuple[int, ...] | None:
        """Return the operations this half waits for, or None while they have not been appended."""
        if kind == "W" or (kind == "F" and stage == 0):
            return ()
        found = self.arrived.get(("F" if kind == "F" else "B", direction, stage, micro_batch))
        return None if found is None else (found,)

    def _send(self, rank: int, op: int, kind: str, direction: int, stage: int, micro_batch: int) -> None:
        """Pass the result on: to the next stage, or from a last stage's forward to its own backward."""
        if kind == "W":
            return
        onward = stage + 1 if kind == "F" else stage - 1
        if onward == self.stages:
            self.arrived["B", direction, stage, micro_batch] = op
        elif onward >= 0:
            outward = int((kind == "F") == (direction == 0))
            hop = self.builder.add(self.ranks * (1 + outward) + rank, self.hop, (op,))
            self.arrived["F" if kind == "F" else "B", direction, onward, micro_batch] = hop
