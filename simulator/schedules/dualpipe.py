"""DualPipe and DualPipe-V: forwards beside backwards, each hiding the other's dispatch and combine."""

from collections import deque

from simulator.errors import UserError
from simulator.schedules.chunk import Chunk, Orders


def dualpipe(stages: int, micro_batches: int) -> Orders:
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
    half = stages // 2
    depths = [min(rank, stages - 1 - rank) for rank in range(stages)]
    return [_order(_Rank(flipped=rank >= half), depth, half, micro_batches // 2) for rank, depth in enumerate(depths)]


def dualpipe_v(stages: int, micro_batches: int) -> Orders:
    """Return DualPipe cut in half: rank r of p holds parts r and 2 p - 1 - r, which all micro-batches pass.

    Each rank runs the phases of DualPipe's rank in a pipeline twice as long, its second part standing in for the other
    direction (deepseek-ai/DualPipe:dualpipe/dualpipev.py).

    Raises
    ------
    UserError
        Unless micro_batches >= 2 x stages.
    """
    if micro_batches < 2 * stages:
        raise UserError(
            f"plan.schedule = dualpipe-v: {stages} stages, {micro_batches} micro-batches: there must be at least "
            f"{2 * stages}; use 1f1b, or more micro-batches"
        )
    both_ways = [_order(_Rank(flipped=False), rank, stages, micro_batches) for rank in range(stages)]
    return [
        [
            Chunk(chunk.kind, 0, chunk.micro_batch, 0, chunk.paired_micro_batch, chunk.direction, 1 - chunk.direction)
            for chunk in order
        ]
        for order in both_ways
    ]


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


def _order(todo: _Rank, depth: int, half: int, micro_batches: int) -> list[Chunk]:
    """Write the eight phases of a rank that is `depth` from the entrance, in a pipeline of `half` such ranks."""
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
    for step in range(micro_batches - 2 * half + depth + 1):
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
