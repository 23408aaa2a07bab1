"""The event simulation of a program: one simpy process per stream."""

from collections.abc import Generator

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.engine.shared_links import SharedLinks
from simulator.program import Program

Events = Generator[simpy.Event, object, None]


def execute(program: Program) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run a program and return the start and end of each operation ``[operations]`` [s].

    Operations that keep the same links busy at the same time slow each other down, see `simulator.engine.shared_links`.
    """
    env = simpy.Environment()
    links = SharedLinks(env)
    count = len(program.duration_s)
    start, end = np.zeros(count), np.zeros(count)
    done = [env.event() for _ in range(count)]

    def run_stream(operations: list[int]) -> Events:
        for op in operations:
            for other in program.waits_for[op]:
                if not done[other].processed:
                    yield done[other]
            start[op] = env.now
            duration_s, busy_s = float(program.duration_s[op]), program.busy_s[op]
            yield links.run(op, duration_s, busy_s) if busy_s and duration_s > 0 else env.timeout(duration_s)
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
