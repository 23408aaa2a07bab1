"""One iteration of prefill or decode in steady state, all ranks of the EP group in lock step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.memory import serving_memory
from simulator.phase.fold import issued_on_compute, iteration_program, layer_blocks
from simulator.phase.layers import LayerTimes, Share, layer_times, operator_parts
from simulator.phase.migration import rebalancing_parts
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.program import Program
from simulator.result import PARTS, MemoryUse
from workloads.operators import (
    BYTES,
    Phase,
    embedding_operators,
    head_operators,
    kv_bytes_per_sequence,
    mtp_projection_operators,
)

Floats = NDArray[np.float64]
# Iterations that are drawn: the analytic estimate averages their blocks, the event simulation runs each.
ITERATIONS = 8


@dataclass(frozen=True, slots=True)
class ServingIteration:
    """Drawn iterations, ready to be evaluated.

    Parameters
    ----------
    blocks
        ``[4, ITERATIONS, micro_batches, layers, len(PARTS)]`` [s], see `simulator.phase.fold.layer_blocks`.
    ends
        ``[len(PARTS)]`` embedding, LM head, sampling and MTP draft [s].
    tokens_per_sequence
        Tokens that each sequence gains per iteration (decode), with accepted drafts.
    routed
        The drawn routing, None for a dense model.
    """

    setup: Setup
    blocks: Floats
    ends: Floats
    tokens_per_sequence: float
    routed: Routed | None

    def program(self, iteration: int | None) -> Program:
        """Return one drawn iteration's program, or the mean iteration's for None."""
        blocks = self.blocks.mean(axis=1) if iteration is None else self.blocks[:, iteration]
        return iteration_program(blocks, self.ends, blocks.shape[1])


@dataclass(frozen=True, slots=True)
class Load:
    """What each attention-DP rank has in one iteration.

    Parameters
    ----------
    batch, context
        Sequences, and tokens of each: KV length in decode, prompt in prefill.
    tokens
        Query tokens, drafted ones included.
    drafts
        Tokens drafted per sequence.
    halves
        Micro-batches that hide each other's communication: 1 or 2.
    """

    batch: float
    context: float
    tokens: float
    drafts: int
    halves: int


def load_of(resolved: Setup, amount: float, context: float) -> Load:
    """Return the load of a prefill or decode iteration.

    Parameters
    ----------
    amount
        Per attention-DP rank: sequences in decode, prompt tokens in prefill.
    context
        KV length in decode, prompt in prefill [tokens].
    """
    workload = resolved.scenario.workload
    decode = workload.phase == "decode"
    drafts = resolved.model.mtp_layers if decode and workload.mtp_acceptance is not None else 0
    batch = amount if decode else amount / context
    halves = 2 if resolved.scenario.plan.overlap == "two-microbatch" else 1
    return Load(batch, context, batch * (1 + drafts) if decode else amount, drafts, halves)


def share_of(resolved: Setup, load: Load) -> Share:
    """Return one micro-batch of a load."""
    formats = resolved.scenario.precision
    return Share(
        load.tokens / load.halves,
        load.context,
        load.batch / load.halves,
        "decode" if resolved.scenario.workload.phase == "decode" else "prefill",
        resolved.precision,
        formats.dispatch,
        formats.combine,
        resolved.core_share if load.halves == 2 else 1.0,
        resolved.exchange,
    )


def asked_load(resolved: Setup) -> Load:
    """Return the load that the scenario asks for."""
    workload = resolved.scenario.workload
    amount = workload.batch_per_rank if workload.phase == "decode" else workload.tokens_per_rank
    return load_of(resolved, float(amount or 0), float(workload.sequence_tokens))


def drawn_layers(resolved: Setup, load: Load) -> tuple[LayerTimes, Routed | None]:
    """Return the blocks of a layer for every drawn micro-batch, and the routing that was drawn."""
    share, placed = share_of(resolved, load), resolved.layout
    routed = resolved.routed(
        share.tokens / placed.tensor, share.sequences * placed.expert / placed.tensor, ITERATIONS * load.halves
    )
    return layer_times(resolved.model, resolved.machine, placed, share, routed, resolved.paths), routed


def serving_iteration(resolved: Setup) -> ServingIteration:
    """Return the iteration of a resolved prefill or decode scenario."""
    model, load = resolved.model, asked_load(resolved)
    times, routed = drawn_layers(resolved, load)
    blocks = issued_on_compute(layer_blocks(model, times), *resolved.issued_s)
    blocks = np.broadcast_to(blocks, (4, ITERATIONS * load.halves, *blocks.shape[2:]))
    blocks = blocks.reshape(4, ITERATIONS, load.halves, model.layers, len(PARTS))
    ends = end_parts(resolved, load, times) + rebalancing_parts(resolved, routed)
    return ServingIteration(resolved, blocks, ends, tokens_gained(resolved, load), routed)


def tokens_gained(resolved: Setup, load: Load) -> float:
    """Return the tokens that each sequence gains per iteration, with the drafts that are accepted."""
    acceptance = resolved.scenario.workload.mtp_acceptance or 0.0
    return 1.0 + sum(acceptance ** (depth + 1) for depth in range(load.drafts))


def end_parts(resolved: Setup, load: Load, times: LayerTimes) -> Floats:
    """Return what runs outside the layers, ``[len(PARTS)]`` [s]: embedding, logits, sampling, draft modules."""
    module = times.moe_layers.mean(axis=(0, 1)) if resolved.model.moe_layers else times.dense_layer
    return _ends(resolved, load.tokens, load.batch, load.drafts, load.halves * module)


def kept_memory(resolved: Setup, load: Load, slots: int, imbalance: float) -> tuple[MemoryUse, ...]:
    """Return the memory of the ranks of an instance under a load.

    Parameters
    ----------
    slots
        Routed-expert slots per rank and layer.
    imbalance
        Tokens on the busiest EP rank over the mean.
    """
    scenario, model = resolved.scenario, resolved.model
    per_sequence = float(kv_bytes_per_sequence(model, round(load.context), BYTES[scenario.precision.kv]))
    split = 1 if model.attention.kind == "mla" else min(resolved.layout.tensor, model.attention.kv_heads)
    return serving_memory(
        model,
        resolved.counts,
        resolved.layout,
        scenario.precision.gemm,
        load.batch * per_sequence / split,
        slots,
        load.tokens if scenario.workload.phase == "prefill" else load.batch * 2.0,
        imbalance,
        resolved.machine.memory_bytes,
        scenario.routing.shared_expert_ranks,
    )


def _ends(resolved: Setup, tokens: float, batch: float, drafts: int, module: Floats) -> Floats:
    """Embedding of all tokens, logits of those that are sampled, and one pass of each draft module."""
    model, target, tp = resolved.model, resolved.machine, resolved.layout.tensor
    operators: Phase = "decode" if resolved.scenario.workload.phase == "decode" else "prefill"
    logits = tokens if operators == "decode" else batch
    rows = operator_parts(embedding_operators(model, tokens, operators), target)
    rows = rows + operator_parts(head_operators(model, logits, operators, tp), target)
    if drafts:
        projection = mtp_projection_operators(model, batch, operators, resolved.precision)
        draft = module + operator_parts(head_operators(model, batch, operators, tp), target)
        rows = rows + drafts * (draft + operator_parts(projection, target))
    return rows
