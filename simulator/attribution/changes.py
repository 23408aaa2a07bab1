"""What would help: the same run again with one cause removed."""

from collections.abc import Iterator
from dataclasses import replace

from simulator.analytic.longest_path import longest_path
from simulator.phase.machine import WhatIf
from simulator.program import Program, attribute, without
from simulator.result import Result
from simulator.run import Simulation, simulate
from simulator.scenario import Routing, Scenario
from simulator.why import Change
from topologies.catalogue.machine_file import Parts
from topologies.specs import Fabric

FREED = {
    "dispatch and combine hidden completely": ("dispatch", "combine"),
    "TP collectives hidden completely": ("tensor_parallel",),
    "CP exchange hidden completely": ("context_parallel",),
    "transfers between stages instant": ("pipeline",),
    "gradient collectives hidden completely": ("data_parallel",),
    "no wait for the most loaded rank": ("imbalance_wait",),
    "no launch and host overhead": ("overhead",),
    "optimizer step free": ("optimizer",),
}


def changes(scenario: Scenario, simulation: Simulation, allow_oom: bool) -> tuple[Change, ...]:
    """Return every single change with its gain, best first; those that gain nothing are left out.

    Parts are freed in the operations that ran; faster hardware and balanced routing are runs of their own.
    """
    found = [*_freed(simulation), *_rerun(scenario, simulation.result, allow_oom)]
    return tuple(sorted((each for each in found if each.gain > 1e-6), key=lambda each: -each.gain))


def _change(what: str, result: Result, step_s: float) -> Change:
    faster = result.step_s / step_s - 1.0 if step_s > 0 else 0.0
    return Change(what=what, step_s=step_s, gain_tokens_per_s=result.tokens_per_s * faster, gain=faster)


def _freed(simulation: Simulation) -> Iterator[Change]:
    result = simulation.result
    before_s = _length(simulation, simulation.program)
    for what, names in FREED.items():
        program = simulation.program
        for name in names:
            program = without(program, name)
        yield _change(what, result, result.step_s * _length(simulation, program) / before_s)
    if result.breakdown_s["bubble"] > 0:
        program = _unordered(simulation.program)
        yield _change(
            "stages never wait for each other", result, result.step_s * _length(simulation, program) / before_s
        )


def _length(simulation: Simulation, program: Program) -> float:
    """Return how long a program takes, as the run counts it [s]; links that operations share are not contended."""
    rows = attribute(program, *longest_path(program), simulation.streams, skewed=simulation.skewed)
    return float(rows[0].sum())


def _unordered(program: Program) -> Program:
    """Return the program whose chunks wait for no other stage; what ends the step still waits for all."""
    last = {int(stream): op for op, stream in enumerate(program.stream.tolist())}
    ends = set(last.values()) | {op for op, label in enumerate(program.labels) if label == "gradients"}
    waits = tuple(others if op in ends else () for op, others in enumerate(program.waits_for))
    return replace(program, waits_for=waits)


def _rerun(scenario: Scenario, result: Result, allow_oom: bool) -> Iterator[Change]:
    if result.imbalance is not None and scenario.routing.kind != "balanced":
        reset = {
            name: Routing.model_fields[name].default
            for name in ("trace", "holdout", "drift", "balancing", "placement", "placement_file", "rebalance_interval")
        } | {"kind": "balanced"}
        even = scenario.routing.model_copy(update=reset)
        yield _with("balanced routing", scenario.model_copy(update={"routing": even}), result, allow_oom, None)
    for what, change in _HARDWARE.items():
        yield _with(what, scenario, result, allow_oom, change)


def _with(what: str, scenario: Scenario, result: Result, allow_oom: bool, change: WhatIf | None) -> Change:
    return _change(what, result, simulate(scenario, allow_oom, change).result.step_s)


def _memory(parts: Parts) -> Parts:
    memory = parts.chip.memory
    faster = memory.model_copy(update={"bandwidth_bytes_per_s": 2.0 * memory.bandwidth_bytes_per_s})
    return parts._replace(chip=parts.chip.model_copy(update={"memory": faster}))


def _arithmetic(parts: Parts) -> Parts:
    rates = {name: 2.0 * rate for name, rate in parts.chip.peak if isinstance(rate, float)}
    return parts._replace(chip=parts.chip.model_copy(update={"peak": parts.chip.peak.model_copy(update=rates)}))


def _links(kind: str) -> WhatIf:
    def faster(fabric: Fabric) -> Fabric:
        if fabric.kind != kind:
            return fabric
        return fabric.model_copy(update={"port_bytes_per_s": 2.0 * fabric.port_bytes_per_s})

    return lambda parts: parts._replace(fabrics={name: faster(fabric) for name, fabric in parts.fabrics.items()})


_HARDWARE: dict[str, WhatIf] = {
    "arithmetic twice as fast": _arithmetic,
    "device memory twice as fast": _memory,
    "scale-up links twice as fast": _links("scale-up"),
    "scale-out links twice as fast": _links("scale-out"),
}
