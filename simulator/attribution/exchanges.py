"""The communication of a run, one operation of each kind: the link and network that bind it, and how near line rate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import CommCost, send_recv
from simulator.cost.expert_parallel import ExpertPaths, Op, token_bytes
from simulator.cost.expert_parallel_time import core_copy_s, dispatch_cost, joined
from simulator.cost.memory import GRADIENT_BYTES
from simulator.phase.collectives import group_cost
from simulator.phase.exchange import COLLECTIVES
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.phase.training import stage_parameters

Floats = NDArray[np.float64]
ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One operation of a kind, the costliest where they differ.

    Parameters
    ----------
    part
        Name of the part of the time, see `simulator.result.PARTS`.
    light
        Bytes of the busiest link at line rate over the operation's time.
    limited_by
        The link that binds, and its network.
    constants
        Where the constants of that network come from.
    """

    part: str
    light: float
    limited_by: str
    constants: str


def exchanges(resolved: Setup, routed: Routed | None) -> dict[str, Exchange]:
    """Return the run's kinds of communication by the name of their part.

    Parameters
    ----------
    routed
        The routing that was drawn; None for a dense model.
    """
    placed = resolved.layout
    makers: list[tuple[bool, str, Callable[[Setup], CommCost]]] = [
        (placed.tensor > 1, "tensor_parallel", _tensor),
        (placed.context > 1, "context_parallel", _context),
        (placed.pipeline > 1, "pipeline", _hop),
        (_training(resolved), "data_parallel", _gradients),
    ]
    found = [_of_collective(resolved, name, make(resolved)) for has, name, make in makers if has]
    return {each.part: each for each in (*found, *_expert(resolved, routed))}


def _training(resolved: Setup) -> bool:
    return resolved.scenario.workload.phase == "training"


def tokens_at_once(resolved: Setup) -> float:
    """Return the tokens of one micro-batch or half iteration on a rank, before TP."""
    workload, plan = resolved.scenario.workload, resolved.scenario.plan
    if _training(resolved):
        return float(workload.sequence_tokens * plan.micro_batch_sequences / resolved.layout.context)
    halves = 2 if plan.overlap == "two-microbatch" else 1
    return float(workload.tokens_per_rank or workload.batch_per_rank or 0) / halves


def _tensor(resolved: Setup) -> CommCost:
    size = tokens_at_once(resolved) * resolved.model.hidden * ACTIVATION_BYTES
    return group_cost(resolved.machine, resolved.layout.tensor_groups(), "all_reduce", size)


def _context(resolved: Setup) -> CommCost:
    groups, a = resolved.layout.context_groups(), resolved.model.attention
    heads = a.heads if a.kind == "mla" else max(a.kv_heads, resolved.layout.tensor)
    size = ACTIVATION_BYTES * tokens_at_once(resolved) / resolved.layout.tensor * heads * (a.head_dim + a.v_dim)
    if resolved.layout.context_exchange == "all-to-all":
        return group_cost(resolved.machine, groups, "all_to_all", size)
    return _sent(resolved, groups.ravel(), np.roll(groups, -1, axis=1).ravel(), size)


def _hop(resolved: Setup) -> CommCost:
    size = tokens_at_once(resolved) * resolved.model.hidden * ACTIVATION_BYTES / resolved.layout.tensor
    return _sent(resolved, *resolved.layout.stage_pairs(), size)


def _sent(resolved: Setup, source: NDArray[np.int32], target: NDArray[np.int32], size_bytes: float) -> CommCost:
    machine = resolved.machine
    return send_recv(machine.network, source, target, np.full(source.shape, size_bytes), machine.calibrations.fabric)


def _gradients(resolved: Setup) -> CommCost:
    """Return the longer of the gradient collectives: outside the routed experts, or theirs."""
    placed = resolved.layout
    own, experts = max(stage_parameters(resolved, stage) for stage in range(placed.pipeline))
    both = ((placed.data_groups(), own), (placed.expert_data_groups(), experts))
    costs = [group_cost(resolved.machine, groups, "reduce_scatter", size * GRADIENT_BYTES) for groups, size in both]
    return max(costs, key=lambda cost: cost.time_s)


def _of_collective(resolved: Setup, name: str, cost: CommCost) -> Exchange:
    planes = resolved.machine.network.planes
    plane = planes[cost.plane]
    constants = resolved.machine.calibrations.fabric(plane.fabric).collective
    light = cost.bound_s / cost.time_s if cost.time_s > 0 else 1.0
    named = any(each.name in cost.bottleneck for each in planes)
    return Exchange(name, light, cost.bottleneck + f", {plane.name}" * (not named), constants.kind)


def _expert(resolved: Setup, routed: Routed | None) -> Iterator[Exchange]:
    if routed is None or resolved.paths is None:
        return
    formats, hidden = resolved.scenario.precision, resolved.model.hidden
    for name, dtype in (("dispatch", formats.dispatch), ("combine", formats.combine)):
        op = cast(Op, name)
        if resolved.exchange == "copies":
            yield _copied(resolved, op, routed, resolved.paths, token_bytes(hidden, dtype))
            continue
        groups, kind = resolved.layout.expert_rank_groups(), COLLECTIVES[op]
        size = routed.tokens * token_bytes(hidden, dtype)
        if resolved.exchange == "summed":
            kind, size = "all_reduce", routed.tokens * hidden * ACTIVATION_BYTES
        yield _of_collective(resolved, op, group_cost(resolved.machine, groups, kind, size))


def _copied(resolved: Setup, op: Op, routed: Routed, paths: ExpertPaths, copy_bytes: float) -> Exchange:
    to_rank = routed.rank_tokens if paths.counts_expert_copies else routed.copies.to_rank
    to_node = routed.copies.to_node
    if routed.shared_ranks:  # these take no routed copies; the rest of the group has the loads that were drawn
        spare = paths.nodes - to_node.shape[-1]
        to_rank = np.pad(to_rank, ((0, 0), (0, 0), (routed.shared_ranks, 0)))
        to_node = np.pad(to_node, ((0, 0), (0, 0), (spare, 0)))
    cost = dispatch_cost(paths, op, to_rank, to_node, copy_bytes)
    light = float(cost.bound_s.mean() / cost.time_s.mean()) if cost.time_s.any() else 1.0
    stages = {
        f"{load.target} links, {resolved.machine.network.planes[load.plane].name}": float(
            ((to_rank if load.target == "rank" else to_node) @ load.line_s_per_byte.T).max(axis=-1).mean()
        )
        * copy_bytes
        / paths.constants[load.plane].fraction
        for load in paths.loads
    }
    copy_s = core_copy_s(paths.outer, op, paths.cores, copy_bytes)
    if copy_s:
        stages["cores that copy"] = float(to_rank.max(axis=-1).mean()) * copy_s
    joint_s = float(joined([np.array(each) for each in stages.values()], paths.outer.overlap_exponent)) if stages else 0
    latency = cost.latency_s > joint_s
    limit = "latency" if latency or not stages else max(stages, key=lambda name: stages[name])
    return Exchange(op, light, limit, paths.outer.kind)
