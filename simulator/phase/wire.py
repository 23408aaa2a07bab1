"""How long the operations of a training step keep the ports busy that dispatch and combine share with transfers."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import CommCost
from simulator.cost.expert_parallel import ExpertPaths, Op, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.phase.pipeline import Wire
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.program import PART_INDEX

Floats = NDArray[np.float64]


def wire_use(
    resolved: Setup, chunks: dict[str, Floats], partners: NDArray[np.int64], hop: CommCost, routed: Routed | None
) -> tuple[dict[str, Floats], float]:
    """Return how long chunks ``[..., draws, 1]`` and a transfer between stages keep the ports of a rank busy [s].

    Ports are those of the network that transfers between stages take. A chunk's use is spread evenly over its time;
    what imbalance adds to dispatch and combine is left out.

    Parameters
    ----------
    chunks
        Per kind, ``[..., draws, len(PARTS)]`` what a chunk's time is spent on [s].
    partners
        See `simulator.phase.pipeline.partners`.
    hop
        Cost of a transfer between stages.
    """
    busy = {kind: np.zeros((*rows.shape[:-1], 1)) for kind, rows in chunks.items()}
    paths = resolved.paths
    if paths is None or routed is None or hop.bandwidth_s <= 0 or not resolved.scenario.network.contention:
        return busy, 0.0
    shares: dict[Op, float] = {
        op: _port_share(resolved, paths, routed, op, hop.plane) for op in ("dispatch", "combine")
    }
    for kind, rows in chunks.items():
        for op, share in shares.items():
            busy[kind] += rows[..., [PART_INDEX[op]]] * share
    if "FB" in chunks:  # what is hidden inside a pair uses the ports as well
        busy["FB"] = busy["F"][:, None] + busy["B"][partners]
    return busy, hop.bandwidth_s


def _port_share(resolved: Setup, paths: ExpertPaths, routed: Routed, op: Op, plane: int) -> float:
    """Return the part of an exchange's time for which its busiest link of a plane is busy, at the achieved rate."""
    counted = routed.rank_tokens if paths.counts_expert_copies else routed.copies.to_rank
    to_rank, to_node = (each.mean(axis=(0, 1)) for each in (counted, routed.copies.to_node))
    if routed.shared_ranks:
        return 0.0  # serving only
    formats = resolved.scenario.precision
    size = token_bytes(resolved.model.hidden, formats.dispatch if op == "dispatch" else formats.combine)
    busy_s = 0.0
    for load in paths.loads:
        if load.plane == plane:
            copies = to_rank if load.target == "rank" else to_node
            line_s = float((load.line_s_per_byte @ copies).max()) * size
            busy_s = max(busy_s, line_s / paths.constants[load.plane].fraction)
    time_s = float(dispatch_cost(paths, op, to_rank, to_node, size).time_s)
    return min(busy_s / time_s, 1.0) if time_s > 0 else 0.0


def wire_of(busy: dict[str, Floats], hop_s: float) -> Wire | None:
    """Return the use of one replica's ports for `pipeline_program`, or None where nothing is shared."""
    return Wire({kind: rows[..., 0] for kind, rows in busy.items()}, hop_s) if hop_s > 0 else None
