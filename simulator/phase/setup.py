"""What every phase starts from: the model as run, its layout, its formats, and how experts exchange tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simulator.cost.expert_parallel import ExpertPaths, Mode
from simulator.errors import USER_ERRORS, UserError
from simulator.phase.exchange import ALL_GATHER, Exchange, exchange_of, issued_s
from simulator.phase.group import routing_problems
from simulator.phase.machine import Machine, WhatIf, machine
from simulator.phase.routed import Routed, route
from simulator.phase.statistics import of_family
from simulator.phase.transport import compute_share, transport_mode, transport_paths
from simulator.plan import Layout, layout
from simulator.scenario import Plan, Routing, Scenario
from simulator.schedules.table import SCHEDULES
from workloads.models import load_model, parameters
from workloads.models.counts import Parameters
from workloads.models.specs import ModelSpec
from workloads.operators import Precision
from workloads.routing.destinations import Copies


@dataclass(frozen=True, slots=True)
class Setup:
    """A scenario resolved against the catalogue."""

    scenario: Scenario
    model: ModelSpec
    counts: Parameters
    machine: Machine
    layout: Layout
    precision: Precision
    mode: Mode
    paths: ExpertPaths | None

    @property
    def routing(self) -> Routing:
        """The scenario's routing, with the statistics that it uses named."""
        return of_family(self.scenario.routing, self.model.id)

    @property
    def exchange(self) -> Exchange:
        """How the ranks of an EP group exchange tokens."""
        return exchange_of(self.scenario, self.layout)

    @property
    def issued_s(self) -> tuple[float, float]:
        """How long dispatch and combine hold the compute stream where two micro-batches overlap [s]."""
        overlapped = self.scenario.plan.overlap == "two-microbatch" and self.exchange == "copies"
        return issued_s(self.paths, self.mode, self.machine) if overlapped else (0.0, 0.0)

    @property
    def core_share(self) -> float:
        """Share of the cores left to compute while dispatch and combine run beside it."""
        return compute_share(self.machine.chip, self.paths if self.exchange == "copies" else None)

    def routed(self, tokens_per_rank: float, sequences: float, batches: int) -> Routed | None:
        """Return the routed tokens of one EP group, or None for a dense model.

        Parameters
        ----------
        tokens_per_rank
            Tokens that each rank of the EP group dispatches per micro-batch or iteration.
        sequences
            Sequences that the whole group's tokens come from.
        batches
            Micro-batches or iterations to draw.
        """
        if self.model.experts is None:
            return None
        group = self.layout.expert
        split = self.layout.expert_tensor
        tokens = max(1, round(tokens_per_rank * group * split))
        routed = route(
            self.routing,
            self.model.experts,
            self.model.moe_layers,
            group,
            max(self.machine.network.ranks_per_node // split, 1),
            tokens,
            max(1, min(tokens, round(sequences))),
            batches,
            self.scenario.seed,
        )
        # Each rank of an ETP group sends its own tokens; they are gathered where they arrive.
        arriving = Copies(routed.copies.to_rank / split, routed.copies.to_node / split)
        return replace(routed, copies=arriving) if split > 1 else routed


def setup(scenario: Scenario, change: WhatIf | None = None) -> Setup:
    """Resolve a scenario.

    Parameters
    ----------
    change
        See `simulator.phase.machine.machine`.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If names are unknown, the plan does not tile, or the workload lacks what its phase needs.
    """
    model, target = _model_and_machine(scenario, change)
    placed = plan_layout(scenario, model, target.ranks)
    mode = transport_mode(scenario, target)
    several = model.experts is not None and placed.expert > 1
    paths = transport_paths(scenario, target, placed, mode) if several else None
    shared, node = scenario.routing.shared_expert_ranks, target.network.ranks_per_node
    if paths and shared % node and any(load.target == "node" for load in paths.loads):
        raise UserError(
            f"routing.shared_expert_ranks = {shared}: normal mode sends one copy per node, so these ranks must fill "
            f"whole nodes of {node}; use a multiple of {node}, or transport.mode = 'low-latency'"
        )
    formats = scenario.precision
    precision = Precision(gemm=formats.gemm, weights=formats.gemm, kv=formats.kv)
    return Setup(scenario, model, parameters(model), target, placed, precision, mode, paths)


def plan_layout(scenario: Scenario, model: ModelSpec, ranks: int) -> Layout:
    """Return the scenario's plan laid over `ranks`.

    Raises
    ------
    UserError
        With every check of workload and plan that fails, at once.
    """
    plan, training = scenario.plan, scenario.workload.phase == "training"
    problems = list(_workload_problems(scenario, model))
    try:
        placed = layout(
            ranks,
            plan.tensor,
            plan.pipeline,
            plan.expert,
            plan.data,
            *_work(model),
            model.attention.heads,
            scenario.workload.global_batch_sequences if training else None,
            plan.micro_batch_sequences,
            plan.layers_per_stage,
            _parts_per_rank(plan),
            SCHEDULES[plan.schedule].folded,
            plan.context,
            plan.context_exchange,
            plan.expert_tensor,
        )
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(*dict.fromkeys(problems))
    return placed


def _work(model: ModelSpec) -> tuple[list[float], float]:
    """Return the parameters one token passes in each layer, and in LM head, loss and MTP modules together."""
    counts, experts = parameters(model), model.experts
    head = float(model.vocab * model.hidden)
    moe = counts.attention_per_layer + counts.router_per_layer + counts.shared_experts_per_layer
    moe += counts.expert * experts.top_k if experts else 0
    dense = float(counts.attention_per_layer + counts.dense_ffn_per_layer)
    module = (moe if model.moe_layers else dense) + 2.0 * model.hidden**2 + head
    costs = [dense] * (model.layers - model.moe_layers) + [float(moe)] * model.moe_layers
    return costs, head + model.mtp_layers * module


def _model_and_machine(scenario: Scenario, change: WhatIf | None) -> tuple[ModelSpec, Machine]:
    """Look both up, and say all that is wrong with either at once, with the workload too where the machine is."""
    problems: list[str] = []
    model, target = None, None
    try:
        model = model_as_run(scenario)
    except USER_ERRORS as error:
        problems += error.problems
    try:
        target = machine(scenario, change)
    except USER_ERRORS as error:
        problems += error.problems
    if model is None or target is None:
        raise UserError(*(_workload_problems(scenario, model) if model else ()), *problems)
    return model, target


def model_as_run(scenario: Scenario) -> ModelSpec:
    """Return the model with the scenario's changes to its depth."""
    model, asked = load_model(scenario.model.name), scenario.model
    layers = asked.layers or model.layers
    dense = min(model.dense_layers, layers) if asked.dense_layers is None else asked.dense_layers
    if not model.experts:
        dense = layers
    if model.experts and dense == layers:
        raise UserError(f"model.dense_layers = {dense}: leaves no MoE layer of the {layers}; use at most {layers - 1}")
    if dense > layers:
        raise UserError(f"model.dense_layers = {dense}: more than the {layers} layers; use at most {layers}")
    mtp = model.mtp_layers if asked.mtp_layers is None else asked.mtp_layers
    if scenario.workload.phase != "training" and scenario.workload.mtp_acceptance is None:
        mtp = 0  # serving loads the modules only to draft with them
    return model.model_copy(update={"layers": layers, "dense_layers": dense, "mtp_layers": mtp})


def _parts_per_rank(plan: Plan) -> int:
    return SCHEDULES[plan.schedule].parts or plan.virtual_stages


def _schedule_problems(plan: Plan) -> Iterator[str]:
    fixed = SCHEDULES[plan.schedule].parts
    if plan.schedule == "interleaved":
        if plan.virtual_stages == 1:
            yield (
                "plan.virtual_stages = 1: schedule 'interleaved' needs several parts of the model on each rank; use 2 "
                "or more, or schedule '1f1b'"
            )
        if plan.pipeline == 1:
            yield "plan.pipeline = 1: schedule 'interleaved' needs several stages; use 2 or more, or schedule '1f1b'"
    elif fixed is None and plan.virtual_stages > 1 == plan.pipeline:
        yield f"plan.virtual_stages = {plan.virtual_stages}: one stage has one part; use 1, or more stages"
    elif fixed is not None and plan.virtual_stages not in {1, fixed}:
        has = "1 part" if fixed == 1 else f"{fixed} parts"
        yield (
            f"plan.virtual_stages = {plan.virtual_stages}: schedule '{plan.schedule}' has {has} per rank; use {fixed}, "
            "or schedule 'interleaved'"
        )
    if plan.schedule == "dualpipe-v" and plan.pipeline == 1:
        yield "plan.pipeline = 1: schedule 'dualpipe-v' folds several stages; use 2 or more, or schedule '1f1b-overlap'"


def _context_problems(scenario: Scenario, model: ModelSpec) -> Iterator[str]:
    plan, tokens = scenario.plan, scenario.workload.sequence_tokens
    if plan.context == 1:
        return
    if scenario.workload.phase != "training":
        yield f"plan.context = {plan.context}: {scenario.workload.phase} runs without context parallelism; use 1"
    elif tokens % (2 * plan.context):
        yield (
            f"plan.context = {plan.context}: {tokens} tokens do not split into 2 x {plan.context} equal shares, which "
            "balance causal attention; use a multiple"
        )
    heads = model.attention.heads
    if plan.context_exchange == "all-to-all" and heads % (plan.tensor * plan.context):
        yield (
            f"plan.context = {plan.context}: {heads} attention heads do not divide by TP {plan.tensor} x CP "
            f"{plan.context}, as all-to-all needs; use plan.context_exchange = 'ring'"
        )


def _workload_problems(scenario: Scenario, model: ModelSpec) -> Sequence[str]:
    needs = {"training": "global_batch_sequences", "prefill": "tokens_per_rank", "decode": "batch_per_rank"}
    workload, plan, problems = scenario.workload, scenario.plan, []
    for phase, key in needs.items():
        given = getattr(workload, key) is not None
        if phase == workload.phase and not given:
            problems.append(f"workload.{key}: missing; phase '{phase}' needs it")
        if phase != workload.phase and given and workload.phase != "training":
            problems.append(f"workload.{key}: only phase '{phase}' has it; remove it, or change the phase")
    if workload.phase != "training" and plan.pipeline > 1:
        problems.append(f"plan.pipeline = {plan.pipeline}: {workload.phase} runs without pipeline stages; use 1")
    if plan.zero >= 2 and plan.pipeline > 1:
        problems.append(
            f"plan.zero = {plan.zero}: would scatter gradients of every micro-batch on every stage; with PP "
            f"{plan.pipeline} use plan.zero = 1, or plan.pipeline = 1"
        )
    if plan.expert_tensor > 1 and (not model.experts or workload.phase != "training"):
        what = f"{workload.phase} does not split experts" if model.experts else f"{model.name} has no routed experts"
        problems.append(f"plan.expert_tensor = {plan.expert_tensor}: {what}; use 1")
    if not plan.fused_attention and (model.attention.kind == "mla" or workload.phase != "training"):
        what = "MLA" if model.attention.kind == "mla" else workload.phase
        problems.append(f"plan.fused_attention = false: {what} runs with fused kernels only; leave it out")
    problems += [*_schedule_problems(plan), *_context_problems(scenario, model)]
    if workload.phase == "prefill" and workload.tokens_per_rank and workload.tokens_per_rank < workload.sequence_tokens:
        problems.append(
            f"workload.tokens_per_rank = {workload.tokens_per_rank}: below one prompt of "
            f"{workload.sequence_tokens} tokens; use at least workload.sequence_tokens"
        )
    if workload.phase == "training" and scenario.transport.library == ALL_GATHER:
        problems.append(f"transport.library = '{ALL_GATHER}': serving only; leave it out")
    problems += routing_problems(scenario.routing)
    if plan.expert > 1 and not model.experts:
        problems.append(f"plan.expert = {plan.expert}: {model.name} has no routed experts; use 1")
    return problems
