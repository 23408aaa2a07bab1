"""The closed answer of a program: its longest path."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.program import Program


def longest_path(program: Program) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the earliest start and end of each operation ``[operations]`` [s].

    One pass over the operations in listed order: start = max(end of the stream's previous operation, ends of all that
    it waits for), which is the longest path through the graph of dependences.
    """
    count = len(program.duration_s)
    start = [0.0] * count
    end = [0.0] * count
    free: dict[int, float] = {}
    streams = program.stream.tolist()
    for op, (duration, stream, waits) in enumerate(
        zip(program.duration_s.tolist(), streams, program.waits_for, strict=True)
    ):
        begin = free.get(stream, 0.0)
        for other in waits:
            begin = max(begin, end[other])
        start[op] = begin
        end[op] = free[stream] = begin + duration
    return np.array(start), np.array(end)


def longest_paths(
    duration_s: NDArray[np.float64], stream: Sequence[int], waits_for: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return the makespans of many programs of one structure, ``[programs]`` [s].

    Parameters
    ----------
    duration_s
        ``[operations, programs]`` [s].
    stream, waits_for
        As in `Program`.
    """
    nothing = np.zeros(duration_s.shape[1])
    end: list[NDArray[np.float64]] = []
    free: dict[int, NDArray[np.float64]] = {}
    for duration, queue, waits in zip(duration_s, stream, waits_for, strict=True):
        begin = free.get(queue, nothing)
        for other in waits:
            begin = np.maximum(begin, end[other])
        free[queue] = begin + duration
        end.append(free[queue])
    makespan: NDArray[np.float64] = np.max(np.array(end), axis=0, initial=0.0)
    return makespan
