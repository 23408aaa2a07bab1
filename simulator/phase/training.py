"""One training step: forward and backward of every micro-batch through the pipeline, gradients, optimizer."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import FREE, CommCost, send_recv
from simulator.cost.memory import GRADIENT_BYTES, OPTIMIZER_BYTES, WEIGHT_BYTES, copies, held_parts, part_parameters
from simulator.phase.fold import layer_blocks, stage_pairs, stage_sums
from simulator.phase.gradients import gradient_parts
from simulator.phase.layers import (
    ACTIVATION_BYTES,
    LayerTimes,
    Share,
    attention_core_parts,
    layer_times,
    operator_parts,
)
from simulator.phase.migration import rebalancing_parts
from simulator.phase.pipeline import STREAMS_PER_STAGE, partners, pipeline_program
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.phase.sharded import sharded_parts
from simulator.phase.wire import wire_of, wire_use
from simulator.program import PART_INDEX, Program, merged, part
from simulator.result import PARTS
from simulator.schedules.table import SCHEDULES, Schedule, rank_orders
from workloads.operators import (
    Phase,
    elementwise,
    embedding_operators,
    head_operators,
    mtp_projection_operators,
    stack,
)

Floats = NDArray[np.float64]
# The analytic estimate averages the stages over this many drawn micro-batches; the event simulation draws each one.
ANALYTIC_DRAWS = 4
# EP groups of one stage see different tokens and meet again at the gradients; more than so many are folded into these.
MAX_REPLICAS = 16
# Adam reads gradient, master weight and two moments and writes the last three and the BF16 weight (arXiv:1910.02054).
OPTIMIZER_TRAFFIC_BYTES = GRADIENT_BYTES + 2 * OPTIMIZER_BYTES + WEIGHT_BYTES


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A training step, ready to be evaluated.

    Parameters
    ----------
    times
        Per kind of chunk, ``[replicas, model parts, micro_batches, len(PARTS)]`` [s]; pairs have one axis more, see
        `simulator.phase.pipeline.pipeline_program`.
    gradients, optimizer
        ``[stages, len(PARTS)]`` gradient reduction and weight gather, and optimizer, after the last backward [s].
    hop_s
        One transfer between neighbouring stages [s].
    routed
        The drawn routing, None for a dense model.
    wire, wire_hop_s
        How long chunks (shaped as `times` but for a last axis of 1) and transfers keep a rank's ports busy [s].
    """

    setup: Setup
    times: dict[str, Floats]
    gradients: Floats
    optimizer: Floats
    hop_s: float
    routed: Routed | None
    wire: dict[str, Floats]
    wire_hop_s: float

    @property
    def replicas(self) -> int:
        """EP groups per stage that are simulated one by one."""
        return int(self.times["F"].shape[0])

    @property
    def schedule(self) -> Schedule:
        """The pipeline schedule."""
        return SCHEDULES[self.setup.scenario.plan.schedule]

    def program(self) -> Program:
        """Return all replicas' pipelines, their stages meeting at the gradients.

        Streams are numbered replica by replica, see `pipeline_program`.
        """
        scenario, placed = self.setup.scenario, self.setup.layout
        orders = rank_orders(scenario.plan.schedule, placed.pipeline, placed.micro_batches, placed.virtual_stages)
        pipelines = [
            pipeline_program(
                self.schedule,
                orders,
                {kind: rows[i] for kind, rows in self.times.items()},
                self.hop_s,
                wire_of({kind: rows[i] for kind, rows in self.wire.items()}, self.wire_hop_s),
            )
            for i in range(self.replicas)
        ]
        builder = merged(pipelines, STREAMS_PER_STAGE * placed.pipeline)
        last = [self._last_chunks(pipeline) for pipeline in pipelines]
        offsets = np.cumsum([0, *(len(pipeline.duration_s) for pipeline in pipelines)])
        for stage in range(placed.pipeline):
            waits = [int(ops[stage] + offset) for ops, offset in zip(last, offsets, strict=False)]
            for replica in range(self.replicas):
                stream = replica * STREAMS_PER_STAGE * placed.pipeline + stage
                done = builder.add(stream, self.gradients[stage], waits, idle="imbalance_wait", label="gradients")
                builder.add(stream, self.optimizer[stage], (done,), label="optimizer")
        return builder.build()

    def _last_chunks(self, pipeline: Program) -> list[int]:
        stages = range(self.setup.layout.pipeline)
        return [int(np.flatnonzero(pipeline.stream == stage)[-1]) for stage in stages]

    @property
    def compute_streams(self) -> list[int]:
        """Compute streams of all replicas in `program`."""
        stages = self.setup.layout.pipeline
        width = STREAMS_PER_STAGE * stages
        return [replica * width + stage for replica in range(self.replicas) for stage in range(stages)]


def training_step(resolved: Setup, draw_all: bool) -> TrainingStep:
    """Return the step of a resolved training scenario.

    Parameters
    ----------
    draw_all
        Draw the routing of every micro-batch and EP group (event simulation) instead of a few to average.
    """
    scenario, placed, model = resolved.scenario, resolved.layout, resolved.model
    context = float(scenario.workload.sequence_tokens)
    tokens = context * scenario.plan.micro_batch_sequences / placed.context
    replicas = min(placed.expert_groups, MAX_REPLICAS) if draw_all and model.experts else 1
    draws = replicas * placed.micro_batches if draw_all else ANALYTIC_DRAWS
    sequences = scenario.plan.micro_batch_sequences * placed.expert_shards / (placed.tensor * placed.context)
    routed = resolved.routed(tokens / placed.tensor, sequences, draws)
    share = Share(
        tokens,
        context,
        scenario.plan.micro_batch_sequences,
        "training_forward",
        resolved.precision,
        scenario.precision.dispatch,
        scenario.precision.combine,
        overlap_tensor=scenario.plan.overlap_tensor,
        fused_attention=scenario.plan.fused_attention,
    )
    chunks = _chunks(resolved, share, routed)
    gradients = gradient_parts(resolved, chunks)
    shape = (replicas, placed.micro_batches) if draw_all and routed is not None else None
    times = {kind: _per_micro_batch(rows, replicas, placed.micro_batches, shape) for kind, rows in chunks.items()}
    optimizer = _optimizer(resolved) + rebalancing_parts(resolved, routed)
    hop = _hop(resolved, tokens)
    schedule = SCHEDULES[scenario.plan.schedule]
    busy, busy_hop_s = wire_use(resolved, chunks, partners(schedule, placed.pipeline, len(chunks["F"])), hop, routed)
    wire = {kind: _per_micro_batch(rows, replicas, placed.micro_batches, shape) for kind, rows in busy.items()}
    return TrainingStep(resolved, times, gradients, optimizer, hop.time_s, routed, wire, busy_hop_s)


def _per_micro_batch(rows: Floats, replicas: int, micro_batches: int, drawn: tuple[int, int] | None) -> Floats:
    """Turn ``[..., draws, values]`` into ``[replicas, ..., micro_batches, values]``."""
    outer, values = rows.shape[:-2], rows.shape[-1]
    if drawn is None:
        return np.broadcast_to(rows.mean(axis=-2)[..., None, :], (replicas, *outer, micro_batches, values))
    return np.moveaxis(rows.reshape(*outer, replicas, micro_batches, values), -3, 0)


def _chunks(resolved: Setup, share: Share, routed: Routed | None) -> dict[str, Floats]:
    """Forward, backward, and the halves and pairs that the schedule uses, ``[model parts, ..., draws, len(PARTS)]``."""
    model, placed, plan = resolved.model, resolved.layout, resolved.scenario.plan

    def priced(core_share: float) -> dict[str, tuple[Share, LayerTimes]]:
        shares = {kind: replace(share, phase=phase, core_share=core_share) for kind, phase in _PHASES.items()}
        return {
            kind: (own, layer_times(model, resolved.machine, placed, own, routed, resolved.paths))
            for kind, own in shares.items()
        }

    def blocks(times: dict[str, tuple[Share, LayerTimes]]) -> dict[str, Floats]:
        rows = {kind: layer_blocks(model, own) for kind, (_, own) in times.items()}
        if plan.recompute == "full":
            rows["B"] = rows["B"] + rows["F"]
        elif plan.recompute == "selective":
            rows["B"][0] += attention_core_parts(model, resolved.machine, placed, times["F"][0])
        return rows

    alone = priced(1.0)
    ends = {kind: _ends(resolved, own, times) for kind, (own, times) in alone.items()}
    chunks = {kind: stage_sums(rows, placed.stage_layers) + ends[kind] for kind, rows in blocks(alone).items()}
    if plan.zero >= 2:
        more = sharded_parts(resolved, blocks(alone), ends)
        chunks = {kind: rows + more[kind] for kind, rows in chunks.items()}
    schedule = SCHEDULES[plan.schedule]
    if schedule.splits_backward:
        # The weight gradient is half of a GEMM's backward; communication and attention belong to the input gradient.
        chunks["W"] = _weight_half(chunks["B"])
        chunks["I"] = chunks["B"] - chunks["W"]
    if schedule.pairs:
        beside, paired = blocks(priced(resolved.core_share)), partners(schedule, placed.pipeline, len(ends["F"]))
        together = stage_pairs(beside["F"], beside["B"], placed.stage_layers, paired)
        chunks["FB"] = together + ends["F"][:, None] + ends["B"][paired]
    return chunks


_PHASES: dict[str, Phase] = {"F": "training_forward", "B": "training_backward"}


def _weight_half(backward: Floats) -> Floats:
    half = np.zeros_like(backward)
    index = PART_INDEX["compute"]
    half[..., index] = backward[..., index] / 2
    return half


def _ends(resolved: Setup, share: Share, times: LayerTimes) -> Floats:
    """Embedding on the first part, LM head, loss and MTP modules on the last, ``[virtual stages, 1, len(PARTS)]``."""
    model, placed, target = resolved.model, resolved.layout, resolved.machine
    rows = np.zeros((len(placed.stage_layers), 1, len(PARTS)))
    local = share.tokens / placed.tensor
    rows[0, 0] += operator_parts(embedding_operators(model, local, share.phase), target)
    head = operator_parts(head_operators(model, share.tokens, share.phase, placed.tensor), target)
    rows[-1, 0] += head
    if model.mtp_layers:
        module = times.moe_layers.mean(axis=(0, 1)) if model.moe_layers else times.dense_layer
        projection = mtp_projection_operators(model, local, share.phase, share.precision)
        rows[-1, 0] += model.mtp_layers * (head + module + operator_parts(projection, target))
    return rows


def _hop(resolved: Setup, tokens: float) -> CommCost:
    placed = resolved.layout
    if placed.pipeline == 1:
        return FREE
    source, target = placed.stage_pairs()
    size = tokens * resolved.model.hidden * ACTIVATION_BYTES / placed.tensor
    machine, sizes = resolved.machine, np.full(source.shape, size)
    return send_recv(machine.network, source, target, sizes, machine.calibrations.fabric)


def stage_parameters(resolved: Setup, stage: int) -> tuple[float, float]:
    """Return the parameters of one rank of a stage: outside the routed experts, and of its routed experts."""
    placed = resolved.layout
    parts = held_parts(placed, resolved.scenario.plan.schedule, stage)
    held = [part_parameters(resolved.model, resolved.counts, placed, index) for index in parts]
    own, experts = (sum(column) for column in zip(*held, strict=True))
    return own, experts / placed.expert_shards


def _optimizer(resolved: Setup) -> Floats:
    placed, plan = resolved.layout, resolved.scenario.plan
    holders = copies(placed, plan.schedule)
    shard, expert_shard = (each * holders if plan.zero else 1 for each in (placed.dense_copies, placed.expert_groups))
    rows = np.zeros((placed.pipeline, len(PARTS)))
    for stage in range(placed.pipeline):
        own, experts = stage_parameters(resolved, stage)
        held = own / shard + experts / expert_shard
        traffic = elementwise("optimizer", held * OPTIMIZER_TRAFFIC_BYTES, held, "training_forward")
        rows[stage] = part("optimizer", float(operator_parts(stack([traffic]), resolved.machine).sum()))
    return rows
