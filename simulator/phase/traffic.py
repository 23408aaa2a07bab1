"""The flows of one operation of a step: who sends how much to whom, on the ranks of the cluster."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.expert_parallel import ExpertPaths, Op, over_nics, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.cost.memory import GRADIENT_BYTES, WEIGHT_BYTES
from simulator.errors import UserError, did_you_mean
from simulator.phase.layers import ACTIVATION_BYTES
from simulator.phase.routed import Routed
from simulator.phase.serving import serving_iteration
from simulator.phase.setup import Setup
from simulator.phase.training import stage_parameters, training_step
from simulator.result import PARTS
from topologies.network import Network

Floats = NDArray[np.float64]
Ranks = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Flows that start together.

    Parameters
    ----------
    network
        The network they take: without its scale-up planes where the library keeps to NICs.
    source, target, size_bytes
        ``[flows]`` ranks and bytes.
    time_s
        Predicted time of the operation [s].
    note
        What the flows stand for.
    """

    network: Network
    source: Ranks
    target: Ranks
    size_bytes: Floats
    time_s: float
    note: str


def traffic(resolved: Setup, operation: str, drawn: bool = False) -> Traffic:
    """Return the flows of one operation of a scenario, of all groups that run it at once.

    Parameters
    ----------
    operation
        A name of `OPERATIONS`.
    drawn
        Whether each EP group dispatches a drawn micro-batch and layer of its own, from the least to the most uneven,
        not the mean of all that were drawn.

    Raises
    ------
    UserError
        If there is no such operation, or the scenario has none.
    """
    if operation not in OPERATIONS:
        raise UserError(
            f"--phase: '{operation}': no such operation{did_you_mean(operation, OPERATIONS)}; use one of "
            f"{', '.join(OPERATIONS)}"
        )
    return OPERATIONS[operation](resolved, drawn)


def _exchange(resolved: Setup, op: Op, drawn: bool) -> Traffic:
    """Dispatch or combine of one MoE layer: the mean of what was drawn, or a draw per EP group."""
    model, paths = resolved.model, resolved.paths
    routed = _routed(resolved)
    if paths is None or routed is None:
        raise UserError(f"--phase: '{op}': nothing is exchanged at plan.expert = 1 or without experts; use another")
    if resolved.exchange != "copies":
        raise UserError(f"--phase: '{op}': a collective of all tokens here, not copies to experts; use another")
    if routed.shared_ranks:
        raise UserError(f"--phase: '{op}': not with routing.shared_expert_ranks yet; set it to 0")
    counted = routed.rank_tokens if paths.counts_expert_copies else routed.copies.to_rank
    groups = resolved.layout.expert_rank_groups()
    draws = [each.reshape(-1, each.shape[-1]) for each in (counted, routed.copies.to_node)]
    if drawn:
        chosen = _spread(draws[0].max(axis=1), len(groups))
        to_rank, to_node = (each[chosen] for each in draws)
    else:
        to_rank, to_node = (np.tile(each.mean(axis=0), (len(groups), 1)) for each in draws)
    formats = resolved.scenario.precision
    size = token_bytes(model.hidden, formats.dispatch if op == "dispatch" else formats.combine)
    cost = dispatch_cost(paths, op, to_rank, to_node, size)
    source, target, copies = _copies(groups, paths, to_rank, to_node)
    if op == "combine":
        source, target = target, source
    net = resolved.machine.network
    net = over_nics(net) if resolved.scenario.transport.path == "nic" else net
    what = "drawn for each EP group" if drawn else "mean of the drawn routing, all EP groups"
    note = f"one MoE layer of one micro-batch, {size:,.0f} bytes per copy, {what}"
    return Traffic(net, source, target, copies * size, float(cost.time_s.max()), note)


def _spread(busiest: Floats, groups: int) -> NDArray[np.int64]:
    """Return a draw for each group, ``[groups]``, evenly from the least to the most uneven: of one group, the median.

    Parameters
    ----------
    busiest
        ``[draws]`` copies that the busiest rank of each takes in.
    """
    order: NDArray[np.int64] = np.argsort(busiest, kind="stable")
    return order[((np.arange(groups) + 0.5) * busiest.size / groups).astype(np.int64)]


def _routed(resolved: Setup) -> Routed | None:
    if resolved.scenario.workload.phase == "training":
        return training_step(resolved, draw_all=False).routed
    return serving_iteration(resolved).routed


def _copies(groups: Ranks, paths: ExpertPaths, to_rank: Floats, to_node: Floats) -> tuple[Ranks, Ranks, Floats]:
    """Return the copies between ranks: straight there, or to the node's rank of equal rail and onwards.

    Parameters
    ----------
    to_rank, to_node
        ``[groups, ranks]`` and ``[groups, nodes]`` copies that arrive.
    """
    members = paths.ranks
    if not paths.forwarded:
        source, target = np.repeat(groups, members, axis=1), np.tile(groups, (1, members))
        return source.ravel(), target.ravel(), np.tile(to_rank / members, members).ravel()
    sizes, node_of = paths.node_ranks, paths.node_of
    starts = np.cumsum(sizes) - sizes
    local = np.arange(members) - starts[node_of]
    peer = (starts[None, :] + local[:, None] % sizes[None, :]).ravel()
    there = np.repeat(groups, paths.nodes, axis=1).ravel(), groups[:, peer].ravel()
    inside = np.nonzero(node_of[:, None] == node_of[None, :])
    onwards = groups[:, inside[0]].ravel(), groups[:, inside[1]].ravel()
    share = to_rank[:, inside[1]] / sizes[node_of[inside[1]]]
    copies = np.concatenate([np.tile(to_node / members, members).ravel(), share.ravel()])
    return np.concatenate([there[0], onwards[0]]), np.concatenate([there[1], onwards[1]]), copies


def _pipeline(resolved: Setup, _drawn: bool) -> Traffic:
    """Activations of one micro-batch from every stage to the next."""
    placed, scenario = resolved.layout, resolved.scenario
    if scenario.workload.phase != "training" or placed.pipeline == 1:
        raise UserError("--phase: 'pipeline': there are no stages to send between; use another")
    source, target = placed.stage_pairs()
    tokens = scenario.workload.sequence_tokens * scenario.plan.micro_batch_sequences / placed.context
    size = tokens * resolved.model.hidden * ACTIVATION_BYTES / placed.tensor
    hop_s = training_step(resolved, draw_all=False).hop_s
    note = "activations of one micro-batch from every stage to the next, all at once"
    return Traffic(resolved.machine.network, source, target, np.full(source.size, size), hop_s, note)


def _gradients(resolved: Setup, _drawn: bool) -> Traffic:
    """Reduce-scatter of gradients and all-gather of weights around rings, a ring per rank of a node."""
    if resolved.scenario.workload.phase != "training":
        raise UserError("--phase: 'gradients': only training has them; use another")
    placed, net = resolved.layout, resolved.machine.network
    step = training_step(resolved, draw_all=False)
    held = np.array([stage_parameters(resolved, stage) for stage in range(placed.pipeline)])
    flows = []
    for groups, parameters in ((placed.data_groups(), held[:, 0]), (placed.expert_data_groups(), held[:, 1])):
        members = groups.shape[1]
        if members > 1:
            size = parameters * (GRADIENT_BYTES + WEIGHT_BYTES) * (members - 1) / members
            flows.append(_rings(net, groups, np.repeat(size, len(groups) // placed.pipeline)))
    if not flows:
        raise UserError("--phase: 'gradients': one replica has nothing to reduce; use another")
    source, target, size = (np.concatenate(column) for column in zip(*flows, strict=True))
    time_s = float(step.gradients[:, PARTS.index("data_parallel")].max())
    note = "gradients scattered and weights gathered around rings, dense and expert ones as if at once"
    return Traffic(net, source, target, size, time_s, note)


def _rings(net: Network, groups: Ranks, size_bytes: Floats) -> tuple[Ranks, Ranks, Floats]:
    """Return flows around rings; with several ranks per node there is one ring per rank, each leaving by another."""
    members = groups.shape[1]
    node = net.node[groups]
    local = int((node[0] == node[0, 0]).sum())
    blocks = node.reshape(len(groups), -1, local) if members % local == 0 else node[:, :, None]
    if not (blocks == blocks[..., :1]).all():
        local = 1
    turn = (np.arange(local)[:, None] + np.arange(local)[None, :]) % local
    order = groups.reshape(len(groups), -1, local)[:, :, turn].transpose(0, 2, 1, 3).reshape(-1, members)
    size = np.repeat(size_bytes / local, local * members)
    return order.ravel(), np.roll(order, -1, axis=1).ravel(), size


OPERATIONS: dict[str, Callable[[Setup, bool], Traffic]] = {
    "dispatch": lambda resolved, drawn: _exchange(resolved, "dispatch", drawn),
    "combine": lambda resolved, drawn: _exchange(resolved, "combine", drawn),
    "pipeline": _pipeline,
    "gradients": _gradients,
}
