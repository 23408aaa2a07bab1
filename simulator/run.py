"""One scenario in, one result out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.longest_path import longest_path
from simulator.cost.memory import training_memory
from simulator.economics import Money, money
from simulator.engine.execute import execute
from simulator.errors import UserError
from simulator.phase.machine import WhatIf, machine_sources
from simulator.phase.repeats import repeat_warnings
from simulator.phase.routed import Routed, routing_notes, routing_source
from simulator.phase.serving import ITERATIONS, ServingIteration, asked_load, kept_memory, serving_iteration
from simulator.phase.setup import Setup, setup
from simulator.phase.training import MAX_REPLICAS, TrainingStep, training_step
from simulator.program import PART_INDEX, Program, attribute, without
from simulator.result import PARTS, MemoryUse, Result, Source
from simulator.scenario import Scenario
from simulator.scenario_file import digest
from workloads.operators import OperatorClass, model_flop_per_token

Floats = NDArray[np.float64]
MFU_CONVENTION = (
    "MFU is over the dense BF16 peak whatever the GEMM format, causal attention counted, recomputation not; "
    "eight- and four-bit GEMMs may pass 100 %"
)
Evaluator = Callable[[Program], tuple[Floats, Floats]]
Ran = tuple[Program, Floats, Floats]


@dataclass(frozen=True, slots=True)
class Simulation:
    """A result, and the operations that it came from with their times.

    Parameters
    ----------
    program, start_s, end_s
        What ran, and when each operation started and ended ``[operations]`` [s]; in serving, one iteration.
    resolved, routed
        What the scenario names, and the routing that was drawn.
    streams, skewed
        Compute streams of the program, and how its length is counted, see `simulator.program.attribute`.
    replicas
        Pipelines side by side in the program (EP groups that are simulated one by one).
    """

    result: Result
    program: Program
    start_s: Floats
    end_s: Floats
    resolved: Setup
    routed: Routed | None
    streams: Sequence[int]
    skewed: bool = False
    replicas: int = 1


def run(scenario: Scenario, allow_oom: bool = False) -> Result:
    """Simulate one scenario.

    Parameters
    ----------
    scenario
        What to simulate; `scenario.fidelity` chooses the analytic estimate or the event simulation.
    allow_oom
        Answer even if the plan does not fit device memory (with a warning).

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario can't be run, every problem on a line of its own.
    """
    return simulate(scenario, allow_oom).result


def simulate(scenario: Scenario, allow_oom: bool = False, change: WhatIf | None = None) -> Simulation:
    """Simulate one scenario and keep its operations; parameters and errors as `run`.

    Parameters
    ----------
    change
        Replaces the chip or fabrics of the machine before it is built; None leaves them as they are.
    """
    resolved = setup(scenario, change)
    evaluate: Evaluator = execute if scenario.fidelity == "des" else longest_path
    if scenario.workload.phase == "training":
        step = training_step(resolved, draw_all=scenario.fidelity == "des")
        memory = step_memory(resolved, step.routed)
        warnings = _refuse_oom(memory, allow_oom)
        parts, ran = _train(step, evaluate)
        result = _result(resolved, parts, step.routed, memory, warnings, 1.0, _training_notes(step))
        streams, skewed = step.compute_streams, step.schedule.skewed
        return Simulation(result, *ran, resolved, step.routed, streams, skewed, step.replicas)
    iteration = serving_iteration(resolved)
    routed = iteration.routed
    slots, imbalance = (routed.slot_tokens.shape[-1], routed.imbalance) if routed else (0, 1.0)
    memory = kept_memory(resolved, asked_load(resolved), slots, imbalance)
    warnings = _refuse_oom(memory, allow_oom)
    parts, ran = _serve(iteration, evaluate)
    notes = _serving_notes(iteration)
    gained = iteration.tokens_per_sequence
    result = _result(resolved, parts, iteration.routed, memory, warnings, gained, notes)
    return Simulation(result, *ran, resolved, iteration.routed, [0])


def _train(step: TrainingStep, evaluate: Evaluator) -> tuple[Floats, Ran]:
    """Seconds by part of the mean rank; what transfers between stages add to the idle time is `pipeline`."""

    def mean_rank(program: Program, times: tuple[Floats, Floats]) -> Floats:
        return _mean([*attribute(program, *times, step.compute_streams, skewed=step.schedule.skewed)])

    program = step.program()
    times = evaluate(program)
    parts = mean_rank(program, times)
    if step.hop_s > 0:
        instant = without(program, "pipeline")
        free = mean_rank(instant, longest_path(instant))
        bubble = PART_INDEX["bubble"]
        exposed = min(max(parts[bubble] - free[bubble], 0.0), parts[bubble])
        parts[bubble] -= exposed
        parts[PART_INDEX["pipeline"]] += exposed
    return parts, (program, *times)


def _serve(iteration: ServingIteration, evaluate: Evaluator) -> tuple[Floats, Ran]:
    """Seconds by part of the mean iteration, on the compute stream; what ran is the first that was drawn."""
    drawn = [None] if evaluate is longest_path else list(range(ITERATIONS))
    programs = [iteration.program(index) for index in drawn]
    ran = [(program, *evaluate(program)) for program in programs]
    return _mean([attribute(*each, [0])[0] for each in ran]), ran[0]


def _mean(rows: list[Floats]) -> Floats:
    mean: Floats = np.mean(rows, axis=0)
    return mean


def _result(
    resolved: Setup,
    parts: Floats,
    routed: Routed | None,
    memory: tuple[MemoryUse, ...],
    warnings: tuple[str, ...],
    gained: float,
    notes: list[str],
) -> Result:
    scenario, target, workload = resolved.scenario, resolved.machine, resolved.scenario.workload
    step_s = float(parts.sum())
    tokens = _tokens_per_step(resolved, gained)
    rate = tokens / step_s
    spent: Money = money(scenario.economics, target.chip, target.chips)
    training = workload.phase == "training"
    flop = model_flop_per_token(resolved.model, workload.sequence_tokens, training, causal=workload.phase != "decode")
    return Result(
        scenario=scenario.name,
        digest=digest(scenario),
        fidelity=scenario.fidelity,
        seed=scenario.seed,
        phase=workload.phase,
        model=resolved.model.name,
        cluster=target.spec.name,
        chip=target.chip.name,
        chips=target.chips,
        ranks=target.ranks,
        plan=_plan(resolved),
        step_s=step_s,
        tokens_per_step=tokens,
        tokens_per_s=rate,
        tokens_per_s_per_chip=rate / target.chips,
        ttft_s=step_s if workload.phase == "prefill" else None,
        tpot_s=step_s / gained if workload.phase == "decode" else None,
        mfu=flop * rate / (target.chips * target.chip.peak.bf16_flop_per_s),
        breakdown_s=dict(zip(PARTS, parts.tolist(), strict=True)),
        imbalance=routed.imbalance if routed else None,
        memory=memory,
        power_w=spent.power_w,
        energy_j_per_token=spent.power_w / rate if spent.power_w else None,
        usd_per_hour=spent.usd_per_hour,
        usd_per_million_tokens=spent.usd_per_hour / 3600 / rate * 1e6 if spent.usd_per_hour else None,
        sources=_sources(resolved),
        assumptions=(*notes, MFU_CONVENTION, *spent.assumptions),
        warnings=(*_warnings(resolved), *_repeats(resolved, routed), *warnings),
    )


def _tokens_per_step(resolved: Setup, gained: float) -> float:
    workload, placed = resolved.scenario.workload, resolved.layout
    if workload.phase == "training":
        return float((workload.global_batch_sequences or 0) * workload.sequence_tokens)
    if workload.phase == "prefill":
        return float((workload.tokens_per_rank or 0) * placed.data)
    return (workload.batch_per_rank or 0) * placed.data * gained


def _plan(resolved: Setup) -> dict[str, int | str]:
    placed, plan = resolved.layout, resolved.scenario.plan
    sizes: dict[str, int | str] = {"TP": placed.tensor, "PP": placed.pipeline, "DP": placed.data, "EP": placed.expert}
    if placed.expert_tensor > 1:
        sizes["ETP"] = placed.expert_tensor
    if placed.context > 1:
        sizes |= {"CP": placed.context, "CP exchange": placed.context_exchange}
    if resolved.scenario.workload.phase == "training":
        sizes |= {
            "micro-batches": placed.micro_batches,
            "schedule": plan.schedule,
            "ZeRO": plan.zero,
            "recompute": plan.recompute,
        }
        if placed.virtual_stages > 1:
            sizes["virtual stages"] = placed.virtual_stages
    else:
        sizes |= {"overlap": plan.overlap, "mode": resolved.mode}
    return sizes


def step_memory(resolved: Setup, routed: Routed | None) -> tuple[MemoryUse, ...]:
    """Return the memory of a training step's ranks by stage; without routing, as if it were balanced."""
    scenario = resolved.scenario
    return training_memory(
        resolved.model,
        resolved.counts,
        resolved.layout,
        scenario.plan.schedule,
        scenario.plan.zero,
        scenario.plan.recompute,
        scenario.precision.gemm,
        scenario.workload.sequence_tokens * scenario.plan.micro_batch_sequences / resolved.layout.context,
        routed.imbalance if routed else 1.0,
        resolved.machine.memory_bytes,
        0.0 if scenario.plan.fused_attention else resolved.model.attention.heads * scenario.workload.sequence_tokens,
    )


def _refuse_oom(memory: tuple[MemoryUse, ...], allow_oom: bool) -> tuple[str, ...]:
    short = [use for use in memory if use.short_bytes > 0]
    if not short:
        return ()
    worst = max(short, key=lambda use: use.short_bytes)
    largest = sorted(worst.items.items(), key=lambda item: -item[1])[:3]
    items = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in largest)
    line = (
        f"memory: does not fit, short by {worst.short_bytes / 2**30:.1f} GiB on rank class '{worst.rank_class}' "
        f"(needs {worst.total_bytes / 2**30:.1f} of {worst.capacity_bytes / 2**30:.1f} GiB: {items}; "
        f"{len(short)} of {len(memory)} classes do not fit)"
    )
    if not allow_oom:
        raise UserError(f"{line}; use more ranks, a smaller batch, recompute, or --allow-oom to see the times anyway")
    return (line,)


def _repeats(resolved: Setup, routed: Routed | None) -> tuple[str, ...]:
    experts = resolved.model.experts
    if routed is None or experts is None:
        return ()
    return repeat_warnings(resolved.scenario.routing, experts.top_k, routed.tokens, len(routed.slot_tokens))


def _warnings(resolved: Setup) -> tuple[str, ...]:
    found = []
    if resolved.model.estimate:
        found.append(f"{resolved.model.name} is an estimate, not a released configuration")
    if resolved.model.lacks:
        found.append(f"{resolved.model.name}: {resolved.model.lacks}")
    if resolved.scenario.cluster.faults:
        found.append(f"{resolved.machine.spec.name} runs with faults: {', '.join(resolved.scenario.cluster.faults)}")
    if resolved.machine.spec.status == "announced" or resolved.machine.chip.status == "announced":
        found.append(
            f"{resolved.machine.spec.name} with {resolved.machine.chip.name} is announced; figures are the vendor's"
        )
    if resolved.layout.tensor > resolved.machine.network.ranks_per_node:
        found.append(f"TP {resolved.layout.tensor} spans nodes of {resolved.machine.network.ranks_per_node} ranks")
    planes = [plane.fabric for plane in resolved.machine.network.planes]
    found += resolved.machine.calibrations.unused([resolved.machine.chip.id, *planes])
    return tuple(found)


def _sources(resolved: Setup) -> tuple[Source, ...]:
    found = [Source(what=f"{resolved.model.name}: dimensions", kind="datasheet", source=resolved.model.source)]
    found += machine_sources(resolved.machine, _fabric_constants(resolved))
    calibration = resolved.machine.calibration.sources_of(operator_constants(resolved))
    found += [Source(what=what, kind=kind, source=text) for what, kind, text in calibration]
    if resolved.model.experts:
        found.append(routing_source(resolved.routing))
    return tuple(found)


def operator_constants(resolved: Setup) -> set[tuple[OperatorClass, str]]:
    """Operator classes and formats whose constants the run read."""
    own: dict[str, tuple[OperatorClass, ...]] = {
        "training": ("attention_prefill", "attention_backward", "elementwise_bulk"),
        "prefill": ("attention_prefill", "elementwise_bulk"),
        "decode": ("attention_decode", "elementwise"),
    }
    found: set[tuple[OperatorClass, str]] = {(kind, "bf16") for kind in own[resolved.scenario.workload.phase]}
    found |= {("gemm", "bf16"), ("gemm", resolved.precision.gemm)}  # router and LM head stay in BF16
    return found | ({("grouped_gemm", resolved.precision.gemm)} if resolved.model.experts else set())


def _fabric_constants(resolved: Setup) -> list[str]:
    """Parts of a fabric's calibration that the run read."""
    copies = resolved.exchange == "copies"
    collectives = resolved.scenario.workload.phase == "training" or resolved.layout.tensor > 1 or not copies
    exchange = resolved.scenario.transport.library or resolved.mode.replace("-", "_")
    return ["collective"] * collectives + [exchange] * (resolved.paths is not None and copies)


def _training_notes(step: TrainingStep) -> list[str]:
    placed, scenario = step.setup.layout, step.setup.scenario
    hidden = "hides" if step.schedule.pairs else "does not hide"
    notes = [
        f"TP and DP collectives are exposed; schedule {step.setup.scenario.plan.schedule} {hidden} dispatch and combine"
    ]
    if step.schedule.skewed:
        notes.append(
            "stages start the next step as soon as they end, gradient norms checked afterwards (arXiv:2401.10241)"
        )
    if step.replicas == MAX_REPLICAS < placed.expert_groups:
        notes.append(f"{MAX_REPLICAS} of {placed.expert_groups} EP groups per stage are simulated one by one")
    experts = step.setup.model.experts
    return notes + routing_notes(step.setup.routing, experts, placed.expert, scenario.seed, step.routed)


def _serving_notes(iteration: ServingIteration) -> list[str]:
    scenario, experts, routing = iteration.setup.scenario, iteration.setup.model.experts, iteration.setup.routing
    phase = scenario.workload.phase
    queueing = "TTFT is one prefill iteration" if phase == "prefill" else "TPOT is one iteration over tokens gained"
    return [
        f"steady state, no queueing: {queueing}; every sequence has the mean length",
        *routing_notes(routing, experts, iteration.setup.layout.expert, scenario.seed, iteration.routed),
    ]
