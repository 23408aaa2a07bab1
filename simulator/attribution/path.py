"""The critical path of a program: the chain of operations that sets its length."""

import numpy as np
from numpy.typing import NDArray

from simulator.program import PART_INDEX, Program
from simulator.result import PARTS
from simulator.why import CriticalPath, PathStep

Floats = NDArray[np.float64]


def critical_path(program: Program, start_s: Floats, end_s: Floats) -> CriticalPath:
    """Return the operations, from the one that ends last back to the first, that each start when the one before ends.

    Where operations end together, the one on the same stream is taken. What an operation ran longer than it would have
    alone, because others shared its links, counts as `pipeline`.

    Parameters
    ----------
    start_s, end_s
        ``[operations]`` times from an evaluator [s].
    """
    before = _previous_on_stream(program)
    chain = [int(np.argmax(end_s))]
    while True:
        op = chain[-1]
        others = [*([before[op]] if before[op] >= 0 else []), *program.waits_for[op]]
        if not others:
            break
        chain.append(max(others, key=lambda other: end_s[other]))
    chain.reverse()
    parts = program.parts[chain].sum(axis=0)
    parts[PART_INDEX["pipeline"]] += float((end_s - start_s)[chain].sum() - program.duration_s[chain].sum())
    steps = tuple(
        PathStep(
            what=program.labels[op],
            stream=int(program.stream[op]),
            start_s=float(start_s[op]),
            end_s=float(end_s[op]),
        )
        for op in chain
    )
    return CriticalPath(parts_s=dict(zip(PARTS, parts.tolist(), strict=True)), steps=steps)


def _previous_on_stream(program: Program) -> list[int]:
    """Return the operation before each on its stream, -1 for the first."""
    latest: dict[int, int] = {}
    previous = []
    for op, stream in enumerate(program.stream.tolist()):
        previous.append(latest.get(stream, -1))
        latest[stream] = op
    return previous
