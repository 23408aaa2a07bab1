"""The time of dispatch and combine: what cores copy, inner links forward and outer links carry, side by side."""

from dataclasses import dataclass

import numpy as np

from simulator.calibration.fabrics import ExpertParallelConstants
from simulator.cost.expert_parallel import ExpertPaths, Floats, Op


@dataclass(frozen=True, slots=True)
class DispatchCost:
    """Time of dispatch or combine, arrays over the leading axes of the copies.

    Parameters
    ----------
    latency_s
        Part that does not depend on bytes [s].
    bandwidth_s, balanced_s
        The slowest of cores and links at the achieved rate: as routed, and with the same copies spread evenly [s].
    bound_s
        Bytes on the busiest link at line rate [s].
    """

    latency_s: float
    bandwidth_s: Floats
    balanced_s: Floats
    bound_s: Floats

    @property
    def time_s(self) -> Floats:
        """Latency and bandwidth parts together [s]."""
        return self.latency_s + self.bandwidth_s


def dispatch_cost(
    paths: ExpertPaths, op: Op, copies_to_rank: Floats, copies_to_node: Floats, bytes_per_copy: float, host: bool = True
) -> DispatchCost:
    """Return the time of one dispatch (or of the combine that undoes it).

    Parameters
    ----------
    copies_to_rank
        ``[..., ranks]`` token copies that arrive at each rank of the group, its own included (one per expert or one
        per rank, see `ExpertPaths.counts_expert_copies`).
    copies_to_node
        ``[..., nodes]`` copies that arrive at each node after de-duplication.
    bytes_per_copy
        See `token_bytes`.
    host
        Whether launches and host code around the kernels count.
    """
    nothing = np.zeros(copies_to_rank.shape[:-1])
    line, achieved, even = [nothing], [nothing], [nothing]
    for load in paths.loads:
        fraction = paths.constants[load.plane].fraction
        copies = copies_to_rank if load.target == "rank" else copies_to_node
        routed_s = (copies @ load.line_s_per_byte.T).max(axis=-1) * bytes_per_copy
        flat_s = copies.mean(axis=-1) * (load.line_s_per_byte.sum(axis=1).max() * bytes_per_copy)
        line.append(routed_s)
        achieved.append(routed_s / fraction)
        even.append(flat_s / fraction)
    copy_s = core_copy_s(paths.outer, op, paths.cores, bytes_per_copy)
    if copy_s:
        handled = copies_to_rank
        if paths.forwarded:
            handled = handled + (copies_to_node / paths.node_ranks)[..., paths.node_of]
        achieved.append(handled.max(axis=-1) * copy_s)
        even.append(handled.mean(axis=-1) * copy_s)
    bandwidth_s = joined(achieved, paths.outer.overlap_exponent)
    balanced_s = np.minimum(joined(even, paths.outer.overlap_exponent), bandwidth_s)
    return DispatchCost(fixed_time_s(paths.outer, op, paths.ranks, host), bandwidth_s, balanced_s, np.max(line, axis=0))


def fixed_time_s(outer: ExpertParallelConstants, op: Op, ranks: int, host: bool = True) -> float:
    """Return the time of an operation without bytes [s]."""
    if ranks == 1:
        return 0.0
    fixed_s = outer.dispatch_fixed_s if op == "dispatch" else outer.combine_fixed_s
    return fixed_s + outer.doubling_s * float(np.log2(ranks)) + (outer.host_s if host else 0.0)


def core_copy_s(outer: ExpertParallelConstants, op: Op, cores: int, bytes_per_copy: float) -> float:
    """Return the time that the cores of one rank need per copy [s], 0 where they are not what limits."""
    rate = outer.core_bytes_per_s
    if op == "combine":
        rate = outer.combine_core_bytes_per_s or rate
    return (outer.core_copy_s + bytes_per_copy / rate) / cores if rate and cores else 0.0


def joined(stages_s: list[Floats], exponent: float | None) -> Floats:
    """Join the times of stages side by side: the longest hides the others, or only in part."""
    stages = np.stack(stages_s)
    longest: Floats = stages.max(axis=0)
    if exponent is None:
        return longest
    share = np.divide(stages, longest, out=np.zeros_like(stages), where=longest > 0)
    return np.asarray(longest * (share**exponent).sum(axis=0) ** (1.0 / exponent))
