"""The nearest plan that runs: what to change where one does not tile or does not fit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from simulator.errors import USER_ERRORS, UserError
from simulator.phase.machine import Machine, machine
from simulator.phase.setup import Setup, model_as_run, plan_layout
from simulator.run import Simulation, simulate, step_memory
from simulator.scenario import Plan, Scenario
from workloads.models import parameters
from workloads.models.specs import ModelSpec
from workloads.operators import Precision

RECOMPUTE = ("none", "light", "selective", "full")
# What a change counts as, in doublings of a parallel size.
RECOMPUTE_STEP, SCHEDULE_CHANGE, ZERO_CHANGE = 0.3, 0.5, 0.5
MAX_TRIED, MAX_RUN = 1_500, 5
SIZES = ("tensor", "pipeline", "expert", "micro_batch_sequences")


@dataclass(frozen=True, slots=True)
class Nearest:
    """A plan that runs: the keys of `[plan]` that differ (None: left out), and its result's step [s]."""

    changes: dict[str, object]
    step_s: float

    @property
    def line(self) -> str:
        """What to type to get it."""
        settings = [f"--set plan.{key}={value}" for key, value in self.changes.items() if value is not None]
        settings += [f"no plan.{key}" for key, value in self.changes.items() if value is None]
        return f"the nearest plan that tiles and fits: {' '.join(settings)} (step {self.step_s:.3g} s)"


def simulate_or_suggest(scenario: Scenario, allow_oom: bool = False) -> Simulation:
    """Simulate a scenario; where its plan fails in training, name the nearest plan that runs beside what is wrong.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        As `simulate`, with a hint where another plan helps.
    """
    try:
        return simulate(scenario, allow_oom)
    except UserError as error:
        near = nearest(scenario) if any(text.startswith(("plan", "memory")) for text in error.problems) else None
        if near is None:
            raise
        raise UserError(*error.problems, hint=near.line) from None


def nearest(scenario: Scenario) -> Nearest | None:
    """Return the plan closest to the scenario's that tiles its ranks, passes every check and fits memory.

    Distance is the sum of doublings of TP, PP, EP and micro-batch; recomputation, another schedule and another ZeRO
    stage count less than one. None where no plan within the search does, or model and machine are themselves at fault.
    """
    if scenario.workload.phase != "training":
        return None
    try:
        model, target = model_as_run(scenario), machine(scenario)
    except USER_ERRORS:
        return None
    runs = 0
    for plan in _candidates(scenario.plan, model, target.network.ranks_per_node, target.ranks)[:MAX_TRIED]:
        changed = scenario.model_copy(update={"plan": plan})
        if not _fits(changed, model, target):
            continue
        try:
            step_s = simulate(changed).result.step_s
        except USER_ERRORS:
            runs += 1
            if runs == MAX_RUN:
                return None
            continue
        before = scenario.plan
        return Nearest({key: value for key, value in plan if value != getattr(before, key)}, step_s)
    return None


def _fits(scenario: Scenario, model: ModelSpec, target: Machine) -> bool:
    try:
        placed = plan_layout(scenario, model, target.ranks)
    except USER_ERRORS:
        return False
    resolved = Setup(scenario, model, parameters(model), target, placed, Precision(), "normal", None)
    return all(use.short_bytes == 0.0 for use in step_memory(resolved, None))


def _candidates(plan: Plan, model: ModelSpec, node: int, ranks: int) -> list[Plan]:
    """Return the plans of the search, nearest first."""
    experts = model.experts.routed_experts if model.experts else 1
    sizes = (
        _near(plan.tensor, [size for size in _powers(node) if model.attention.heads % size == 0]),
        _near(plan.pipeline, [size for size in _powers(min(ranks, model.layers)) if ranks % size == 0]),
        _near(plan.expert, [size for size in _powers(min(ranks, experts)) if experts % size == 0]),
        _near(plan.micro_batch_sequences, _powers(plan.micro_batch_sequences)),
    )
    found = [
        (sum(abs(math.log2(size / getattr(plan, name))) for name, size in zip(SIZES, chosen, strict=True)) + more, rest)
        for chosen in product(*sizes)
        for more, rest in ((cost, {**dict(zip(SIZES, chosen, strict=True)), **other}) for cost, other in _others(plan))
    ]
    found.sort(key=lambda item: item[0])
    return [_changed(plan, changes) for _, changes in found[:MAX_TRIED]]


def _changed(plan: Plan, changes: dict[str, object]) -> Plan:
    moved = changes["pipeline"] != plan.pipeline or "schedule" in changes
    free: dict[str, object] = {"data": None, **({"layers_per_stage": None} if moved else {})}
    return plan.model_copy(update={**free, **changes})


def _others(plan: Plan) -> Iterator[tuple[float, dict[str, object]]]:
    """Yield changes other than sizes, and what each counts: more recomputation, plain 1F1B, ZeRO-1."""
    schedules: Sequence[tuple[float, dict[str, object]]] = [(0.0, {})]
    if plan.layers_per_stage is not None:
        schedules = [*schedules, (SCHEDULE_CHANGE, {"layers_per_stage": None})]
    if plan.schedule != "1f1b" or plan.virtual_stages > 1:
        schedules = [*schedules, (SCHEDULE_CHANGE, {"schedule": "1f1b", "virtual_stages": 1})]
    shards: Sequence[tuple[float, dict[str, object]]] = [(0.0, {})]
    if plan.zero != 1:
        shards = [*shards, (ZERO_CHANGE, {"zero": 1})]
    level = RECOMPUTE.index(plan.recompute)
    stronger = [
        (RECOMPUTE_STEP * (i - level), {"recompute": RECOMPUTE[i]} if i > level else {}) for i in range(level, 4)
    ]
    for (a, one), (b, two), (c, three) in product(schedules, shards, stronger):
        yield a + b + c, {**one, **two, **three}


def _powers(most: int) -> list[int]:
    return [2**i for i in range(int(math.log2(max(most, 1))) + 1)]


def _near(size: int, others: list[int]) -> list[int]:
    return sorted({size, *others})
