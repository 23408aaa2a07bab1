"""How tokens get to their experts and results back: one copy to each destination, or collectives of all tokens."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Kind
from simulator.cost.expert_parallel import ExpertPaths, Mode, Op, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.phase.collectives import group_cost
from simulator.phase.machine import Machine
from simulator.phase.routed import Routed
from simulator.plan import Layout
from simulator.program import PART_INDEX, part
from simulator.result import PARTS
from simulator.scenario import Scenario

Floats = NDArray[np.float64]
ACTIVATION_BYTES = 2.0
ROUNDING = 1e-12
# copies: dispatch and combine. gathered: every rank gets all tokens of the group, and partial results are added up and
# scattered. summed: every rank has all tokens already, and partial results are added up on all.
Exchange = Literal["copies", "gathered", "summed"]
ALL_GATHER = "all-gather"
COLLECTIVES: dict[Op, Kind] = {"dispatch": "all_gather", "combine": "reduce_scatter"}


def exchange_of(scenario: Scenario, layout: Layout) -> Exchange:
    """Return how the ranks of an EP group exchange tokens.

    Results are summed in serving where one TP group is the EP group: its all-reduce after attention leaves all tokens
    on every rank, so each computes its own experts' part of the output (vllm-project/vllm, sgl-project/sglang and
    NVIDIA/TensorRT-LLM without DP attention). Training splits the tokens over TP ranks (sequence parallel).
    Gathering is what vllm-project/vllm:vllm/distributed/device_communicators/all2all.py (AgRsAll2AllManager) does.
    """
    if scenario.workload.phase != "training" and layout.tensor == layout.expert > 1:
        return "summed"
    return "gathered" if scenario.transport.library == ALL_GATHER else "copies"


def issued_s(paths: ExpertPaths | None, mode: Mode, machine: Machine) -> tuple[float, float]:
    """Return how long kernels of dispatch and combine hold the compute stream of a GPU [s]; the wire time does not.

    In low-latency mode both are a sending and a receiving kernel on the stream of the layers, the wire works between
    them (receive hook, deepseek-ai/DeepEP:README.md). An empty operation is those two kernels and a round trip, so its
    time bounds theirs from above. On Ascend vector cores carry the exchange beside the cube cores
    (arXiv:2506.12708 section 4.2.2); in normal mode cores are taken away instead.
    """
    if (
        paths is None
        or mode != "low-latency"
        or machine.calibrations.fabric(machine.network.planes[0].fabric).collective.library == "HCCL"
    ):
        return 0.0, 0.0
    outer = paths.constants[max(load.plane for load in paths.loads)]
    return outer.dispatch_fixed_s, outer.combine_fixed_s


def exchange_parts(
    op: Op,
    exchange: Exchange,
    hidden: int,
    dtype: str,
    routed: Routed,
    paths: ExpertPaths | None,
    machine: Machine,
    layout: Layout,
) -> Floats:
    """Return the time of dispatch or combine by part, ``[batches, MoE layers, len(PARTS)]`` [s].

    Copies: the balanced time under the operation's name, what the busiest link adds as `imbalance_wait`. Collectives
    move the same bytes whatever the routing; those of all EP groups run at once.

    Parameters
    ----------
    dtype
        Payload format on the wire; sums travel in BF16.
    """
    if exchange == "copies":
        return _copied(op, hidden, dtype, routed, paths)
    shape = (*routed.rank_tokens.shape[:2], len(PARTS))
    if exchange == "summed":
        size = routed.tokens * hidden * ACTIVATION_BYTES * (op == "combine")
        cost = group_cost(machine, layout.tensor_groups(), "all_reduce", size)
    else:
        size = routed.tokens / layout.expert_tensor * token_bytes(hidden, dtype)
        cost = group_cost(machine, layout.expert_rank_groups(), COLLECTIVES[op], size)
    return np.broadcast_to(part(op, cost.time_s), shape).copy()


def _copied(op: Op, hidden: int, dtype: str, routed: Routed, paths: ExpertPaths | None) -> Floats:
    to_rank = routed.rank_tokens if paths and paths.counts_expert_copies else routed.copies.to_rank
    to_node = routed.copies.to_node
    parts = np.zeros((*to_rank.shape[:2], len(PARTS)))
    if paths is None:
        return parts
    if routed.shared_ranks:  # each token goes to one of the shared-expert ranks too; they come first
        to_rank = _after_shared(to_rank, routed.shared_ranks, routed.tokens)
        to_node = _after_shared(to_node, paths.nodes - to_node.shape[-1], routed.tokens)
    cost = dispatch_cost(paths, op, to_rank, to_node, token_bytes(hidden, dtype))
    wait = cost.bandwidth_s - cost.balanced_s
    wait = np.where(wait > cost.bandwidth_s * ROUNDING, wait, 0.0)
    parts[..., PART_INDEX[op]] = cost.time_s - wait
    parts[..., PART_INDEX["imbalance_wait"]] = wait
    return parts


def _after_shared(copies: Floats, places: int, tokens: int) -> Floats:
    if places < 1:
        return copies
    shared = np.full((*copies.shape[:-1], places), tokens / places)
    return np.concatenate([shared, copies], axis=-1)
