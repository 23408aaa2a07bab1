"""Which rank holds which expert, with replicas of the busiest."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

EMPTY = -1


@dataclass(frozen=True)
class Placement:
    """Experts in the slots of an expert-parallel group.

    Parameters
    ----------
    slot_expert
        ``[layers, ranks, slots]`` routed expert held by each slot; `EMPTY` where a rank has fewer than others.
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
        if held.min() < EMPTY or held.max() >= self.experts:
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
        layers = len(self.slot_expert)
        row = (self.experts + 1) * np.arange(layers)[:, None]
        counts = np.bincount(
            (self.slot_expert.reshape(layers, -1) + 1 + row).ravel(), minlength=layers * (self.experts + 1)
        )
        return counts.reshape(layers, self.experts + 1)[:, 1:]


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
