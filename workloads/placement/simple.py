"""Placements that know nothing of the load: in order, and at random."""

import numpy as np

from workloads.placement.table import Placement, check_slots


def contiguous(layers: int, experts: int, ranks: int, redundant: int = 0) -> Placement:
    """Place the experts in order; redundant slots go to experts at even distances.

    Parameters
    ----------
    layers, experts
        MoE layers and routed experts of the model.
    ranks
        Ranks of the expert-parallel group.
    redundant
        Slots beyond one per expert.

    Raises
    ------
    WorkloadError
        If the slots do not fill the ranks evenly.
    """
    slots = check_slots(experts, ranks, redundant) * ranks
    order = np.arange(slots) * experts // slots
    return Placement(np.tile(order.reshape(1, ranks, -1), (layers, 1, 1)), experts)


def random(layers: int, experts: int, ranks: int, rng: np.random.Generator, redundant: int = 0) -> Placement:
    """Place the experts in an order drawn afresh for each layer; redundant slots go to experts drawn at random.

    Parameters and errors as `contiguous`, with `rng` the source of randomness.
    """
    slots = check_slots(experts, ranks, redundant) * ranks
    physical = rng.permuted(np.tile(np.arange(experts), (layers, 1)), axis=1)[:, np.arange(slots) % experts]
    return Placement(rng.permuted(physical, axis=1).reshape(layers, ranks, -1), experts)
