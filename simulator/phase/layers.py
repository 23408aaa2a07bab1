"""Time of one transformer layer on one rank, part by part, for every batch and MoE layer at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.expert_parallel import ExpertPaths, Op
from simulator.cost.roofline import operator_time
from simulator.phase.collectives import group_cost
from simulator.phase.context_parallel import context_parallel_s
from simulator.phase.exchange import ROUNDING, Exchange, exchange_parts
from simulator.phase.machine import Machine
from simulator.phase.routed import Routed
from simulator.phase.tensor_parallel import tensor_parallel_parts
from simulator.plan import Layout
from simulator.program import PART_INDEX, part
from simulator.result import PARTS
from workloads.models.specs import ModelSpec
from workloads.operators import (
    Operators,
    Phase,
    Precision,
    attention_core,
    attention_operators,
    dense_ffn_operators,
    expert_operators,
    router_operators,
    shared_expert_operators,
    stack,
    unfused_core,
)

Floats = NDArray[np.float64]
ACTIVATION_BYTES = 2.0
PIECE_VALUES = 50_000


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank has of a batch, and how: everything the operators of a layer depend on.

    Parameters
    ----------
    tokens
        Query tokens of the attention-DP group in one micro-batch or iteration.
    context
        Tokens of a sequence once the step is done.
    sequences
        Sequences of the attention-DP group.
    phase, precision
        Which operators, in which formats.
    dispatch, combine
        Payload formats on the wire.
    core_share
        Share of the cores that communication kernels leave to compute while they run beside it.
    exchange
        See `simulator.phase.exchange`.
    overlap_tensor
        Whether TP collectives run in chunks beside the GEMMs around them.
    fused_attention
        Whether scores stay on the chip; training only.
    """

    tokens: float
    context: float
    sequences: float
    phase: Phase
    precision: Precision
    dispatch: str
    combine: str
    core_share: float = 1.0
    exchange: Exchange = "copies"
    overlap_tensor: bool = False
    fused_attention: bool = True


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Seconds by part (last axis, see `simulator.result.PARTS`).

    Parameters
    ----------
    attention, dense, before_experts
        ``[len(PARTS)]`` attention block; dense feed-forward block; router and local shared experts.
    dispatch, experts, combine
        ``[batches, MoE layers, len(PARTS)]``.
    """

    attention: Floats
    dense: Floats
    before_experts: Floats
    dispatch: Floats
    experts: Floats
    combine: Floats

    @property
    def dense_layer(self) -> Floats:
        """``[len(PARTS)]`` one dense layer."""
        return self.attention + self.dense

    @property
    def moe_layers(self) -> Floats:
        """``[batches, MoE layers, len(PARTS)]`` whole MoE layers, nothing hidden."""
        return self.attention + self.before_experts + self.dispatch + self.experts + self.combine


def layer_times(
    model: ModelSpec, machine: Machine, layout: Layout, share: Share, routed: Routed | None, paths: ExpertPaths | None
) -> LayerTimes:
    """Return the time of each block of a layer.

    Parameters
    ----------
    routed
        Tokens of one EP group; None for a dense model.
    paths
        How the EP group loads the network; None where EP is 1.
    """
    blocks, dense, before = local_parts(model, machine, layout, share, bool(routed and routed.shared_ranks))
    nothing = np.zeros((1, 0, len(PARTS)))
    if routed is None or model.experts is None:
        return LayerTimes(blocks, dense, np.zeros(len(PARTS)), nothing, nothing, nothing)

    def moved(op: Op, dtype: str) -> Floats:
        return exchange_parts(op, share.exchange, model.hidden, dtype, routed, paths, machine, layout)

    experts = _experts(model, machine, share, routed, layout.expert_tensor)
    experts = experts + expert_tensor_parts(model, machine, layout, share.tokens / layout.tensor, routed)
    return LayerTimes(
        blocks, dense, before, moved("dispatch", share.dispatch), experts, moved("combine", share.combine)
    )


def local_parts(
    model: ModelSpec, machine: Machine, layout: Layout, share: Share, shared_elsewhere: bool
) -> tuple[Floats, Floats, Floats]:
    """Return what does not depend on the routing, ``[len(PARTS)]`` each: `LayerTimes.attention` to `before_experts`.

    Parameters
    ----------
    shared_elsewhere
        Whether ranks of their own hold the shared experts.
    """
    tp = layout.tensor
    attention = attention_operators(
        model,
        share.tokens,
        share.context,
        share.sequences,
        share.phase,
        share.precision,
        tp,
        layout.context,
        share.fused_attention,
    )
    buffer_bytes = share.tokens * model.hidden * ACTIVATION_BYTES
    dense, before = np.zeros(len(PARTS)), np.zeros(len(PARTS))
    if model.dense_layers:
        ops = dense_ffn_operators(model, share.tokens, share.phase, share.precision, tp)
        dense = operator_parts(ops, machine, share.core_share)
        dense += tensor_parallel_parts(machine, layout, buffer_bytes, ops if share.overlap_tensor else None)
    blocks = operator_parts(attention, machine, share.core_share)
    blocks += tensor_parallel_parts(machine, layout, buffer_bytes, attention if share.overlap_tensor else None)
    if layout.context > 1:
        blocks = blocks + context_parallel_parts(model, machine, layout, share)
    if model.experts is None:
        return blocks, dense, before
    # Under TP the router and the shared expert run on the rank's slice of the tokens, which is also what it dispatches;
    # where every rank has all tokens of the EP group, on all of them.
    summed = share.exchange == "summed"
    local, split = (share.tokens, tp) if summed else (share.tokens / tp, 1)
    before = operator_parts(router_operators(model, local, share.phase), machine, share.core_share)
    shared = shared_expert_operators(model, local, share.phase, share.precision, split)
    if shared is not None and not shared_elsewhere:
        before = before + operator_parts(shared, machine, share.core_share)
    return blocks, dense, before


def operator_parts(ops: Operators, machine: Machine, core_share: float = 1.0) -> Floats:
    """Return the time of operators one after the other, by part, ``[..., len(PARTS)]`` [s]."""
    time = operator_time(ops, machine.chip, machine.calibration, core_share).summed()
    return _parts(time.compute_s, time.memory_s, time.overhead_s)


def _parts(compute_s: Floats, memory_s: Floats, overhead_s: Floats) -> Floats:
    parts = np.zeros((*np.shape(compute_s), len(PARTS)))
    for name, time_s in (("compute", compute_s), ("memory", memory_s), ("overhead", overhead_s)):
        parts[..., PART_INDEX[name]] = time_s
    return parts


def attention_core_parts(model: ModelSpec, machine: Machine, layout: Layout, share: Share) -> Floats:
    """Return the time of the attention core of one layer, by part, ``[len(PARTS)]`` [s]."""
    if not share.fused_attention:
        shards = float(layout.tensor * layout.context)
        unfused = unfused_core(model, share.tokens, share.context, share.phase, shards, layout.context)
        return operator_parts(stack(unfused), machine, share.core_share)
    core = attention_core(
        model,
        share.tokens,
        share.context,
        share.sequences,
        share.phase,
        share.precision,
        layout.tensor,
        layout.context,
    )
    return operator_parts(stack([core]), machine, share.core_share)


def context_parallel_parts(model: ModelSpec, machine: Machine, layout: Layout, share: Share) -> Floats:
    """Return the CP exchange of one attention block, as far as the attention core does not hide it."""
    core_s = float(attention_core_parts(model, machine, layout, share).sum())
    backward = share.phase == "training_backward"
    return part("context_parallel", context_parallel_s(model, machine, layout, share.tokens, backward, core_s))


def expert_tensor_parts(
    model: ModelSpec, machine: Machine, layout: Layout, local_tokens: float, routed: Routed
) -> Floats:
    """Return the collectives of ETP ranks: they gather each other's tokens before the experts and scatter sums after.

    Without EP tokens are gathered before they are copied for each of their experts, else the copies that arrived.
    """
    if layout.expert_tensor == 1:
        return np.zeros(len(PARTS))
    rows = float(routed.rank_tokens.mean()) if layout.expert > 1 else local_tokens * layout.expert_tensor
    size = rows * model.hidden * ACTIVATION_BYTES
    return part("tensor_parallel", group_cost(machine, layout.expert_tensor_groups(), "all_reduce", size).time_s)


def _experts(model: ModelSpec, machine: Machine, share: Share, routed: Routed, split: int) -> Floats:
    """Mean over ranks by part, and the wait of the mean rank for the slowest as `imbalance_wait`."""
    blocks = [_expert_ranks(model, machine, share, slots, split) for slots in _pieces(routed.slot_tokens)]
    slowest = np.concatenate([block[0] for block in blocks])
    mean = np.concatenate([block[1] for block in blocks])
    if routed.shared_ranks:
        tokens = routed.tokens / routed.shared_ranks
        ops_shared = shared_expert_operators(model, tokens, share.phase, share.precision)
        if ops_shared is not None:
            shared = operator_parts(ops_shared, machine, share.core_share)
            weight = routed.shared_ranks / (routed.shared_ranks + routed.slot_tokens.shape[-2])
            slowest = np.maximum(slowest, shared.sum())
            mean = mean * (1 - weight) + shared * weight
    mean[..., PART_INDEX["imbalance_wait"]] += np.where(
        slowest > mean.sum(axis=-1) * (1 + ROUNDING), slowest - mean.sum(axis=-1), 0.0
    )
    rows: Floats = mean
    return rows


def _expert_ranks(
    model: ModelSpec, machine: Machine, share: Share, slot_tokens: Floats, split: int
) -> tuple[Floats, Floats]:
    """Time of the slowest rank, ``[batches, layers]``, and of the mean rank by part."""
    ops = expert_operators(model, slot_tokens, share.phase, share.precision, split)
    by_rank = operator_time(ops, machine.chip, machine.calibration, share.core_share).summed()
    means = (time.mean(axis=-1) for time in (by_rank.compute_s, by_rank.memory_s, by_rank.overhead_s))
    return by_rank.total_s.max(axis=-1), _parts(*means)


def _pieces(slot_tokens: Floats) -> list[Floats]:
    """Split along the batches into pieces whose operators stay in the processor's cache."""
    pieces = -(-slot_tokens.size // PIECE_VALUES)
    return np.array_split(slot_tokens, min(max(pieces, 1), len(slot_tokens)))
