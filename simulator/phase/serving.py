"""One iteration of prefill or decode in steady state, all ranks of the EP group in lock step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.phase.fold import iteration_program, layer_blocks
from simulator.phase.layers import Share, layer_times, operator_parts
from simulator.phase.migration import rebalancing_parts
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.program import Program
from simulator.result import PARTS
from workloads.operators import Phase, embedding_operators, head_operators, mtp_projection_operators

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


def serving_iteration(resolved: Setup) -> ServingIteration:
    """Return the iteration of a resolved prefill or decode scenario."""
    scenario, placed, model = resolved.scenario, resolved.layout, resolved.model
    workload = scenario.workload
    context = float(workload.sequence_tokens)
    decode = workload.phase == "decode"
    drafts = model.mtp_layers if decode and workload.mtp_acceptance is not None else 0
    batch = float(workload.batch_per_rank or 0) if decode else (workload.tokens_per_rank or 0) / context
    tokens = batch * (1 + drafts) if decode else float(workload.tokens_per_rank or 0)
    halves = 2 if scenario.plan.overlap == "two-microbatch" else 1
    share = Share(
        tokens / halves,
        context,
        batch / halves,
        "decode" if decode else "prefill",
        resolved.precision,
        scenario.precision.dispatch,
        scenario.precision.combine,
        resolved.core_share if halves == 2 else 1.0,
        resolved.exchange,
    )
    routed = resolved.routed(
        share.tokens / placed.tensor, share.sequences * placed.expert / placed.tensor, ITERATIONS * halves
    )
    times = layer_times(model, resolved.machine, placed, share, routed, resolved.paths)
    blocks = layer_blocks(model, times)
    blocks = np.broadcast_to(blocks, (4, ITERATIONS * halves, *blocks.shape[2:]))
    blocks = blocks.reshape(4, ITERATIONS, halves, model.layers, len(PARTS))
    module = times.moe_layers.mean(axis=(0, 1)) if model.moe_layers else times.dense_layer
    ends = _ends(resolved, tokens, batch, drafts, halves * module) + rebalancing_parts(resolved, routed)
    gained = 1.0 + sum((workload.mtp_acceptance or 0.0) ** (depth + 1) for depth in range(drafts))
    return ServingIteration(resolved, blocks, ends, gained, routed)


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
