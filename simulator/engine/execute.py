"""The event simulation of a program: one simpy process per stream."""

from collections.abc import Generator

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.program import Program

Events = Generator[simpy.Event, object, None]


def execute(program: Program) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run a program and return the start and end of each operation ``[operations]`` [s]."""
    env = simpy.Environment()
    count = len(program.duration_s)
    start, end = np.zeros(count), np.zeros(count)
    done = [env.event() for _ in range(count)]

    def run_stream(operations: list[int]) -> Events:
        for op in operations:
            for other in program.waits_for[op]:
                if not done[other].processed:
                    yield done[other]
            start[op] = env.now
            yield env.timeout(float(program.duration_s[op]))
            end[op] = env.now
            done[op].succeed()

    queues: dict[int, list[int]] = {}
    for op, stream in enumerate(program.stream.tolist()):
        queues.setdefault(stream, []).append(op)
    for operations in queues.values():
        env.process(run_stream(operations))
    env.run()
    if not all(event.processed for event in done):
        raise RuntimeError("program waits for itself")
    return start, end
