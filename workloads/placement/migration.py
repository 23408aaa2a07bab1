"""What it takes to change from one placement to another while serving."""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement.affinity import matched
from workloads.placement.table import EMPTY, Placement

Index = NDArray[np.int64]


def fetched(old: Placement, new: Placement) -> Index:
    """Return ``[layers, ranks]`` experts that each rank must be sent: those it is to hold and does not hold yet.

    Raises
    ------
    WorkloadError
        If the placements are not of one model and one group.
    """
    if old.experts != new.experts or old.slot_expert.shape[:2] != new.slot_expert.shape[:2]:
        shapes = " and ".join(f"{p.slot_expert.shape[:2]} of {p.experts} experts" for p in (old, new))
        raise WorkloadError(f"placement: layers and ranks {shapes}: must be of one model and one EP group")
    return np.asarray((_held(new) & ~_held(old)).sum(axis=-1))


def aligned(old: Placement, new: Placement, nodes: int = 1) -> Placement:
    """Renumber the ranks of a new placement so that they keep much of what they hold.

    Equal ranks of a node, and equal nodes, are interchangeable: the load of the busiest and the copies per node stay.
    Nodes are matched first, then the ranks within each; highest overlap first.

    Parameters
    ----------
    nodes
        Nodes of equal size that the ranks form; 1 if any rank may take any other's place.
    """
    layers, ranks, _ = new.slot_expert.shape
    size = ranks // nodes
    before, after = _held(old).astype(np.float32), _held(new).astype(np.float32)
    table = np.empty_like(new.slot_expert)
    for layer in range(layers):
        overlap = (before[layer] @ after[layer].T).reshape(nodes, size, nodes, size)
        taken = matched(overlap.sum(axis=(1, 3))) if nodes > 1 else np.zeros(1, dtype=np.int64)
        for node, source in enumerate(taken):
            rank = source * size + matched(overlap[node, :, source])
            table[layer, node * size : (node + 1) * size] = new.slot_expert[layer, rank]
    return Placement(table, new.experts)


def _held(placement: Placement) -> NDArray[np.bool_]:
    """``[layers, ranks, experts]`` what each rank holds."""
    layers, ranks, _ = placement.slot_expert.shape
    held = np.zeros((layers, ranks, placement.experts + 1), dtype=bool)
    np.put_along_axis(held, placement.slot_expert, True, axis=2)  # EMPTY is the last column
    return held[..., :EMPTY]
