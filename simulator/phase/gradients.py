"""Gradients reduced and weights gathered over DP: after the step's last backward, or bucket by bucket beside compute.

Source: Rajbhandari et al., arXiv:1910.02054 section 7 (volumes); buckets beside the backward pass: Li et al.,
arXiv:2006.15704 section 3.2.3; gathers beside the next forward: NVIDIA/Megatron-LM, `--overlap-param-gather`.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Kind
from simulator.cost.memory import GRADIENT_BYTES, WEIGHT_BYTES, held_parts, part_parameters
from simulator.phase.collectives import group_cost
from simulator.phase.setup import Setup
from simulator.program import part
from simulator.result import PARTS

Floats = NDArray[np.float64]
_BYTES: dict[Kind, float] = {  # in the order in which they follow each other
    "reduce_scatter": GRADIENT_BYTES,
    "all_gather": WEIGHT_BYTES,
}


def gradient_parts(resolved: Setup, chunks: dict[str, Floats]) -> Floats:
    """Return ``[stages, len(PARTS)]`` what reducing gradients and gathering weights adds to a step [s].

    ZeRO-2 has scattered the gradients by then, and ZeRO-3 gathers weights where it needs them. With
    `plan.overlap_gradients` a bucket per layer is reduced once its backward of the last micro-batch has ended, and
    gathered before its first forward of the next step; one stream carries the buckets in order.

    Parameters
    ----------
    chunks
        `F` and `B`, ``[model parts, draws, len(PARTS)]`` time of a micro-batch on each part [s].
    """
    placed, plan = resolved.layout, resolved.scenario.plan
    kinds = tuple(_BYTES)[max(plan.zero - 1, 0) :]

    @cache
    def time_s(kind: Kind, own: float, experts: float) -> float:
        return sum(
            group_cost(resolved.machine, groups, kind, size * _BYTES[kind]).time_s
            for groups, size in ((placed.data_groups(), own), (placed.expert_data_groups(), experts))
        )

    rows = np.zeros((placed.pipeline, len(PARTS)))
    for stage in range(placed.pipeline):
        held = held_parts(placed, plan.schedule, stage)
        sizes = [part_parameters(resolved.model, resolved.counts, placed, index) for index in held]
        shares = [(own, experts / placed.expert_shards) for own, experts in sizes]
        if plan.overlap_gradients and plan.zero < 2:
            left_s = _beside(resolved, chunks, held, shares, time_s)
        else:
            own, experts = (sum(column) for column in zip(*shares, strict=True))
            left_s = sum(time_s(kind, own, experts) for kind in kinds)
        rows[stage] = part("data_parallel", left_s)
    return rows


def _beside(
    resolved: Setup,
    chunks: dict[str, Floats],
    held: Sequence[int],
    shares: Sequence[tuple[float, float]],
    time_s: Callable[[Kind, float, float], float],
) -> float:
    """Return what buckets add that are sent beside the compute of a rank's parts [s].

    A part's layers are taken to be alike, and the last backwards of a rank's parts to follow each other.
    """
    many = np.array([max(resolved.layout.stage_layers[index], 1) for index in held])

    def of_layers(parts_s: Sequence[float] | Floats) -> Floats:
        return np.repeat(np.asarray(parts_s), many)

    def compute_s(kind: str) -> Floats:
        return of_layers([float(chunks[kind][index].sum(axis=-1).mean()) for index in held] / many)

    def sent_s(kind: Kind) -> Floats:
        return of_layers(
            [time_s(kind, own / each, experts / each) for (own, experts), each in zip(shares, many, strict=True)]
        )

    after = _after(compute_s("B")[::-1], sent_s("reduce_scatter")[::-1])
    return after + _before(compute_s("F"), sent_s("all_gather"))


def _after(compute_s: Floats, sent_s: Floats) -> float:
    """Return how much later than the compute the buckets end, each sent after its compute and the one before it."""
    ready = np.cumsum(compute_s)
    waiting = np.cumsum(sent_s[::-1])[::-1]  # a bucket that the stream waits for is followed by the rest without gaps
    return float((ready + waiting).max() - ready[-1])


def _before(compute_s: Floats, sent_s: Floats) -> float:
    """Return how much longer compute takes whose buckets must have arrived, each after the one before it."""
    return _after(sent_s, compute_s) + float(sent_s.sum() - compute_s.sum())
