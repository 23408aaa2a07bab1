"""ZeRO-2 and ZeRO-3: weights that are gathered and gradients that are scattered layer by layer, beside the compute.

Source: Rajbhandari et al., arXiv:1910.02054 sections 5 and 7 (what is sharded, and the volumes); prefetch of the next
layer while one computes: Zhao et al., arXiv:2304.11277 section 3.3.2.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Kind
from simulator.cost.memory import WEIGHT_BYTES, stage_parameters
from simulator.phase.collectives import group_cost
from simulator.phase.setup import Setup
from simulator.program import PART_INDEX
from simulator.result import PARTS

Floats = NDArray[np.float64]


def sharded_parts(resolved: Setup, blocks: dict[str, Floats], ends: dict[str, Floats]) -> dict[str, Floats]:
    """Return what the collectives of ZeRO-2 and 3 add to forward and backward, ``[1, draws, len(PARTS)]`` by kind.

    One communication stream gathers the next layer's weights (ZeRO-3) and scatters the last one's gradients while a
    layer computes; the longer of both sets the pace. The first gather and the last scatter have nothing to hide behind.
    Forward and backward gather once each; gradients travel in BF16.

    Parameters
    ----------
    blocks
        By kind, ``[4, draws, layers, len(PARTS)]`` times of all layers [s], see `simulator.phase.fold.layer_blocks`.
    ends
        By kind, ``[1, 1, len(PARTS)]`` times of embedding and LM head, the last to compute forwards.
    """
    gather_s, scatter_s = _unit_times(resolved, "all_gather"), _unit_times(resolved, "reduce_scatter")
    if resolved.scenario.plan.zero < 3:
        gather_s = np.zeros_like(gather_s)
    nothing = np.zeros_like(gather_s)
    exposed = {
        "F": _exposed(_compute(blocks["F"], ends["F"]), gather_s, nothing),
        "B": _exposed(_compute(blocks["B"], ends["B"])[:, ::-1], gather_s[::-1], scatter_s[::-1]),
    }
    found = {}
    for kind, time_s in exposed.items():
        found[kind] = np.zeros((1, len(time_s), len(PARTS)))
        found[kind][0, :, PART_INDEX["data_parallel"]] = time_s
    return found


def _compute(blocks: Floats, ends: Floats) -> Floats:
    """Return ``[draws, layers + 1]`` times of all layers and of what stands outside them [s]."""
    layers = blocks.sum(axis=(0, -1))
    outside = np.broadcast_to(ends.sum(axis=-1)[0], (len(layers), 1))
    return np.concatenate([layers, outside], axis=1)


def _exposed(compute_s: Floats, gather_s: Floats, scatter_s: Floats) -> Floats:
    """Return ``[draws]`` the time by which communication of units in this order outlasts their compute [s]."""
    beside = np.append(gather_s[1:], 0.0) + np.concatenate([[0.0], scatter_s[:-1]])
    waits: Floats = gather_s[0] + scatter_s[-1] + np.maximum(beside - compute_s, 0.0).sum(axis=1)
    return waits


def _unit_times(resolved: Setup, kind: Kind) -> Floats:
    """Return ``[layers + 1]`` the collective over each layer's weights, and over embedding and LM head [s]."""
    model, counts, placed = resolved.model, resolved.counts, resolved.layout

    @cache
    def time_s(own: float, experts: float) -> float:
        dense = group_cost(resolved.machine, placed.data_groups(), kind, own * WEIGHT_BYTES)
        routed = group_cost(resolved.machine, placed.expert_data_groups(), kind, experts * WEIGHT_BYTES)
        return dense.time_s + routed.time_s

    def unit(layers: range, outside: bool) -> float:
        own, experts = stage_parameters(model, counts, layers, outside, outside, placed.tensor)
        return time_s(own, experts / placed.expert_shards)

    return np.array([*(unit(range(layer, layer + 1), False) for layer in range(model.layers)), unit(range(0), True)])
