"""Which rank holds which expert, with replicas of the busiest."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError


@dataclass(frozen=True)
class Placement:
    """Experts in the slots of an expert-parallel group.

    Parameters
    ----------
    slot_expert
        ``[layers, ranks, slots]`` routed expert held by each slot.
    experts
        Routed experts of the model; each must be held somewhere in every layer.

    Raises
    ------
    WorkloadError
        If a slot names no expert, or an expert has no slot.
    """

    slot_expert: NDArray[np.int64]
    experts: int

    def __post_init__(self) -> None:
        held = self.slot_expert
        if held.ndim != 3 or not held.size or held.dtype.kind not in "iu":
            raise WorkloadError(f"placement: shape {held.shape} {held.dtype}: must be integers [layers, ranks, slots]")
        if held.min() < 0 or held.max() >= self.experts:
            raise WorkloadError(f"placement: expert {held.min()} to {held.max()}: must be 0 to {self.experts - 1}")
        if not self.replicas.all():
            layer, expert = np.argwhere(self.replicas == 0)[0]
            raise WorkloadError(f"placement: layer {layer}: expert {expert} has no slot; give each expert at least one")

    @property
    def ranks(self) -> int:
        """Ranks of the expert-parallel group."""
        return int(self.slot_expert.shape[1])

    @property
    def slots(self) -> int:
        """Expert slots per rank."""
        return int(self.slot_expert.shape[2])

    @cached_property
    def replicas(self) -> NDArray[np.int64]:
        """``[layers, experts]`` slots that hold each expert."""
        return _bincount(self.slot_expert.reshape(len(self.slot_expert), -1), self.experts)


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


def balanced(load: NDArray[np.float64], ranks: int, redundant: int = 0) -> Placement:
    """Replicate the busiest experts, then give each replica, busiest first, to the least loaded rank with a free slot.

    Parameters
    ----------
    load
        ``[layers, experts]`` expected load. Never the counts that the placement is judged on.
    ranks
        Ranks of the expert-parallel group.
    redundant
        Slots beyond one per expert.

    Raises
    ------
    WorkloadError
        If the slots do not fill the ranks evenly.

    Source: the idea of deepseek-ai/EPLB:README.md (replicate, then pack); packing by longest processing time first,
    Graham 1969 (SIAM J. Appl. Math. 17, 416).
    """
    layers, experts = load.shape
    slots = check_slots(experts, ranks, redundant)
    layer = np.arange(layers)
    replicas = np.ones_like(load)
    physical = np.tile(np.arange(experts + redundant), (layers, 1))
    for column in range(experts, experts + redundant):
        busiest = (load / replicas).argmax(axis=1)
        physical[:, column] = busiest
        replicas[layer, busiest] += 1
    per_slot = np.take_along_axis(load / replicas, physical, axis=1)
    order = np.argsort(-per_slot, axis=1, kind="stable")
    physical = np.take_along_axis(physical, order, axis=1)
    per_slot = np.take_along_axis(per_slot, order, axis=1)
    rank_load = np.zeros((layers, ranks))
    filled = np.zeros((layers, ranks), dtype=np.int64)
    slot_expert = np.empty((layers, ranks, slots), dtype=np.int64)
    for column in range(experts + redundant):
        rank = np.where(filled < slots, rank_load, np.inf).argmin(axis=1)
        slot_expert[layer, rank, filled[layer, rank]] = physical[:, column]
        rank_load[layer, rank] += per_slot[:, column]
        filled[layer, rank] += 1
    return Placement(slot_expert, experts)


def check_slots(experts: int, ranks: int, redundant: int) -> int:
    """Return the slots per rank, or refuse numbers that do not give each rank the same, naming the nearest that do.

    Raises
    ------
    WorkloadError
        If experts + redundant is not a multiple of ranks.
    """
    if min(experts, ranks) < 1 or redundant < 0:
        raise WorkloadError(f"placement: experts {experts}, ranks {ranks}, redundant {redundant}: must be positive")
    total = experts + redundant
    if total % ranks == 0:
        return total // ranks
    up = -total % ranks + redundant
    down = redundant - total % ranks
    remedies = [f"redundant_experts = {value}" for value in (down, up) if value >= 0]
    divisors = [value for value in range(1, min(total, 1_000_000) + 1) if total % value == 0]
    near = sorted({max(d for d in divisors if d <= ranks), min([d for d in divisors if d >= ranks] or [total])})
    remedies.append("EP = " + " or ".join(map(str, near)))
    what = "more ranks than expert slots" if ranks > total else "does not fill the ranks evenly"
    raise WorkloadError(
        f"placement: {experts} experts + {redundant} redundant on {ranks} ranks: {what}; try {', '.join(remedies)}"
    )


def _bincount(index: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Count values per row of ``[rows, n]``."""
    rows = len(index)
    flat = index + bins * np.arange(rows)[:, None]
    return np.bincount(flat.ravel(), minlength=rows * bins).reshape(rows, bins)
