"""A simulation as a trace for Perfetto and chrome://tracing: a process per pipeline stage, a lane per stream."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from simulator.phase.pipeline import STREAMS_PER_STAGE
from simulator.program import Program
from simulator.result import PARTS
from simulator.run import Simulation

MICRO = 1e6  # the format counts microseconds
IDLE = "idle"
TRAINING_LANES = ("compute", "send towards the first stage", "send towards the last stage", IDLE)
SERVING_LANES = ("compute", "communication", IDLE)


def timeline(simulation: Simulation) -> bytes:
    """Return the operations of a simulation as Chrome trace JSON.

    Gaps between the operations of a compute stream stand in a lane of their own, named after what is waited for. Each
    slice lists what its time is spent on.

    Source: the trace event format of the Chromium project (ph "X": start `ts` and duration `dur` in microseconds; ph
    "M": names).
    """
    training = simulation.result.phase == "training"
    lanes = TRAINING_LANES if training else SERVING_LANES
    width = STREAMS_PER_STAGE if training else len(SERVING_LANES) - 1
    events = list(_names(simulation, lanes))
    for stream, mine in _by_stream(simulation.program):
        place, lane = _place(stream, simulation, width)
        events += _slices(simulation, mine, place, lane)
        if lane == 0:
            events += _gaps(simulation, mine, place, len(lanes) - 1)
    about = {"scenario": simulation.result.scenario, "digest": simulation.result.digest}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}).encode()


def _by_stream(program: Program) -> Iterator[tuple[int, list[int]]]:
    order = np.argsort(program.stream, kind="stable")
    streams, first = np.unique(program.stream[order], return_index=True)
    for stream, mine in zip(streams.tolist(), np.split(order, first[1:]), strict=True):
        yield stream, mine.tolist()


def _stages(simulation: Simulation) -> int:
    """Pipeline stages of the plan; serving has one."""
    return int(simulation.result.plan["PP"]) if simulation.result.phase == "training" else 1


def _place(stream: int, simulation: Simulation, width: int) -> tuple[int, int]:
    """Return the process and the lane of a stream: streams count replicas, in them lanes, in them stages."""
    stages = _stages(simulation)
    replica, inner = divmod(stream, width * stages)
    lane, stage = divmod(inner, stages)
    return replica * stages + stage, lane


def _names(simulation: Simulation, lanes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    stages = _stages(simulation)
    for place in range(stages * simulation.replicas):
        replica, stage = divmod(place, stages)
        of_group = f", EP group {replica}" if simulation.replicas > 1 else ""
        name = f"stage {stage}{of_group}" if simulation.result.phase == "training" else "every rank"
        yield _name("process_name", place, 0, {"name": name})
        yield _name("process_sort_index", place, 0, {"sort_index": place})
        for index, lane in enumerate(lanes):
            yield _name("thread_name", place, index, {"name": lane})
            yield _name("thread_sort_index", place, index, {"sort_index": index})


def _name(what: str, place: int, lane: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": place, "tid": lane, "args": arguments}


def _slice(place: int, lane: int, name: str, start_s: float, end_s: float, spent: dict[str, str]) -> dict[str, Any]:
    times = {"ts": round(start_s * MICRO, 3), "dur": round((end_s - start_s) * MICRO, 3)}
    return {"ph": "X", "name": name, "pid": place, "tid": lane, **times, "args": spent}


def _slices(simulation: Simulation, mine: list[int], place: int, lane: int) -> Iterator[dict[str, Any]]:
    program = simulation.program
    for op in mine:
        start_s, end_s = float(simulation.start_s[op]), float(simulation.end_s[op])
        if end_s > start_s:
            parts = zip(PARTS, program.parts[op].tolist(), strict=True)
            spent = {name: f"{time_s * 1e3:.6g} ms" for name, time_s in parts if time_s > 0}
            yield _slice(place, lane, program.labels[op], start_s, end_s, spent)


def _gaps(simulation: Simulation, mine: list[int], place: int, lane: int) -> Iterator[dict[str, Any]]:
    program, start_s, end_s = simulation.program, simulation.start_s, simulation.end_s
    before_s = 0.0
    for op in mine:
        if start_s[op] > before_s:
            named = int(program.idle[op])
            awaited = max(program.waits_for[op], key=lambda other: end_s[other], default=-1)
            name = PARTS[named] if named >= 0 else f"wait for {program.labels[awaited]}"
            yield _slice(place, lane, name.replace("_", " "), before_s, float(start_s[op]), {})
        before_s = float(end_s[op])
    if end_s.max() > before_s:
        yield _slice(place, lane, "end of step", before_s, float(end_s.max()), {})
