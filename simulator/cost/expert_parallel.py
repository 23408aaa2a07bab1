"""Dispatch and combine: token copies on links, from the routing's expected destinations.

Every rank of an EP group sends an equal share of the copies that each destination receives, so the load of every link
is linear in the copies per destination. `expert_paths` folds the network into that matrix once; `dispatch_cost` then
prices any number of layers and micro-batches with one matrix product.

*normal* mode (DeepEP normal kernels): one copy of a token per destination node over the NIC, to the rank of equal rail,
which forwards one copy per destination rank inside the node. Inside one scale-up plane: one copy per destination rank.
*low-latency* mode (DeepEP low-latency kernels, CANN fused dispatch over UB): one copy per routed expert, straight to
its rank over whatever plane joins the two. Combine runs the same paths backwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import ExpertParallelConstants, FabricCalibration, fabric_calibration
from simulator.cost.links import link_loads
from topologies.network import Network

Mode = Literal["normal", "low-latency"]
Floats = NDArray[np.float64]
Calibration = Callable[[str], FabricCalibration]

# DeepEP's wire format: FP8 payload with one FP32 scale per 128 values and a 16-byte token header
# (hidden 7168 -> 7,408 bytes; deepseek-ai/DeepEP:csrc/kernels/internode_ll.cu). INT8 carries one FP32 scale per token
# in a 512-byte aligned message (arXiv:2506.12708 section 4.2.1: 7 KB + 0.5 KB).
HEADER_BYTES = 16
SCALE_BYTES = 4
FP8_BLOCK = 128
INT8_TAIL_BYTES = 512
ELEMENT_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}


def token_bytes(hidden: int, dtype: str) -> float:
    """Return the bytes of one token copy on the wire, scales included."""
    payload = hidden * ELEMENT_BYTES[dtype]
    if dtype in {"fp8", "fp4"}:
        return payload + hidden / FP8_BLOCK * SCALE_BYTES + HEADER_BYTES
    return payload + (INT8_TAIL_BYTES if dtype == "int8" else 0)


@dataclass(frozen=True, slots=True)
class PathLoad:
    """Seconds per byte and copy on each link, for copies counted per destination rank or per destination node.

    Parameters
    ----------
    target
        What a column stands for: a rank of the group, or a node of the group.
    plane
        Plane of the links.
    line_s_per_byte
        ``[links, targets]`` time at line rate per byte of the copies to a target [s/byte].
    """

    target: Literal["rank", "node"]
    plane: int
    line_s_per_byte: Floats


@dataclass(frozen=True, slots=True)
class ExpertPaths:
    """How the copies of one EP group load the network, and the constants of the library in use."""

    mode: Mode
    ranks: int
    nodes: int
    node_of: NDArray[np.int32]
    loads: tuple[PathLoad, ...]
    constants: tuple[ExpertParallelConstants, ...]
    outer: ExpertParallelConstants

    @property
    def counts_expert_copies(self) -> bool:
        """True where a token is sent once per expert, not once per rank."""
        return self.mode == "low-latency" and not self.outer.once_per_rank


def expert_paths(
    network: Network, groups: NDArray[np.int32], mode: Mode, calibration: Calibration = fabric_calibration
) -> ExpertPaths:
    """Fold the network as one EP group sees it, the uplink traffic of all groups included.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` EP groups, laid out alike but for domains that they straddle; ports are read off the one
        that goes farthest, uplinks carry all of them.
    mode
        How copies travel, see the module's docstring.
    calibration
        Constants by fabric id.
    """
    members = groups.shape[1]
    groups = _farthest_first(network, groups)
    node = network.node[groups[0]]
    node_of = np.unique(node, return_inverse=True)[1].astype(np.int32)
    nodes = int(node_of.max()) + 1
    source = np.repeat(groups, members, axis=1)
    target = np.tile(groups, (1, members))
    column = np.tile(np.arange(members, dtype=np.int64), groups.shape[0] * members)
    flat_source, flat_target = source.ravel(), target.ravel()
    tiers = network.meeting_tier(flat_source, flat_target)
    crosses = bool((np.array([network.tiers[t].plane for t in np.unique(tiers) if t >= 0]) > 0).any())
    if mode == "normal" and crosses:
        loads = _forwarded(network, groups, node_of, nodes)
    else:
        loads = _loads(network, groups[0], flat_source, flat_target, column, members, "rank", 1.0 / members)
    by_plane = [calibration(plane.fabric) for plane in network.planes]
    library = [found.normal if mode == "normal" else found.low_latency for found in by_plane]
    outer = max((load.plane for load in loads), default=0)
    constants = tuple(library[load.plane] for load in loads)
    return ExpertPaths(mode, members, nodes, node_of, tuple(loads), constants, library[outer])


def _farthest_first(network: Network, groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """Put the group whose first rank is farthest from the others in front, where groups differ in that."""
    spread = network.meeting_tier(groups[:, :1], groups).sum(axis=1)
    return groups if (spread == spread[0]).all() else groups[np.argsort(-spread, kind="stable")]


def _forwarded(network: Network, groups: NDArray[np.int32], node_of: NDArray[np.int32], nodes: int) -> list[PathLoad]:
    """NIC copies per node to the rank of equal rail, then copies per rank inside each node."""
    members = groups.shape[1]
    local = np.arange(members) - np.searchsorted(node_of, node_of)
    starts = np.searchsorted(node_of, np.arange(nodes))
    sizes = np.diff(np.append(starts, members))
    peer = starts[None, :] + local[:, None] % sizes[None, :]
    source = np.repeat(groups, nodes, axis=1)
    target = groups[:, peer.ravel()]
    column = np.tile(np.arange(nodes, dtype=np.int64), groups.shape[0] * members)
    nic = _loads(network, groups[0], source.ravel(), target.ravel(), column, nodes, "node", 1.0 / members)
    same = node_of[:, None] == node_of[None, :]
    inside_source, inside_target = np.nonzero(same)
    share = 1.0 / sizes[node_of[inside_target]]
    first = groups[0]
    inner = _loads(
        network,
        first,
        first[inside_source],
        first[inside_target],
        inside_target.astype(np.int64),
        members,
        "rank",
        share,
    )
    return nic + inner


def _loads(
    network: Network,
    group: NDArray[np.int32],
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    column: NDArray[np.int64],
    columns: int,
    kind: Literal["rank", "node"],
    share: float | Floats,
) -> list[PathLoad]:
    """Accumulate flows into one matrix per plane: a row per port of `group`, per uplink and per direct link."""
    weight = np.broadcast_to(np.asarray(share, dtype=np.float64), source.shape)
    rows: dict[int, list[Floats]] = {}
    for load in link_loads(network, source, target, weight, column, columns, group):
        rows.setdefault(load.plane, []).append(load.time_s)
    by_plane = {plane: np.concatenate(found) for plane, found in rows.items()}
    return [PathLoad(kind, plane, found[found.any(axis=1)]) for plane, found in by_plane.items() if found.any()]


@dataclass(frozen=True, slots=True)
class DispatchCost:
    """Time of dispatch or combine, arrays over the leading axes of the copies.

    Parameters
    ----------
    latency_s
        Part that does not depend on bytes [s].
    bandwidth_s, balanced_s
        Bytes on the busiest link at the achieved rate: as routed, and with the same copies spread evenly [s].
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
    paths: ExpertPaths,
    op: Literal["dispatch", "combine"],
    copies_to_rank: Floats,
    copies_to_node: Floats,
    bytes_per_copy: float,
) -> DispatchCost:
    """Return the time of one dispatch (or of the combine that undoes it).

    Parameters
    ----------
    copies_to_rank
        ``[..., ranks]`` token copies that arrive at each rank of the group (one per expert in low-latency mode, one
        per rank otherwise).
    copies_to_node
        ``[..., nodes]`` copies that arrive at each node after de-duplication.
    bytes_per_copy
        See `token_bytes`.
    """
    nothing = np.zeros(copies_to_rank.shape[:-1])
    line, achieved, even = [nothing], [nothing], [nothing]
    for load, constants in zip(paths.loads, paths.constants, strict=True):
        copies = copies_to_rank if load.target == "rank" else copies_to_node
        routed_s = (copies @ load.line_s_per_byte.T).max(axis=-1) * bytes_per_copy
        flat_s = copies.mean(axis=-1) * (load.line_s_per_byte.sum(axis=1).max() * bytes_per_copy)
        line.append(routed_s)
        achieved.append(routed_s / constants.fraction)
        even.append(flat_s / constants.fraction)
    outer = paths.outer
    fixed_s = outer.dispatch_fixed_s if op == "dispatch" else outer.combine_fixed_s
    latency_s = fixed_s + outer.doubling_s * float(np.log2(paths.ranks)) if paths.ranks > 1 else 0.0
    bandwidth_s = _joined(achieved, outer.overlap_exponent)
    balanced_s = np.minimum(_joined(even, outer.overlap_exponent), bandwidth_s)
    return DispatchCost(latency_s, bandwidth_s, balanced_s, np.max(line, axis=0))


def _joined(stages_s: list[Floats], exponent: float | None) -> Floats:
    """Join the times of stages: the longest hides the others, or only in part where copies are forwarded."""
    stages = np.stack(stages_s)
    longest: Floats = stages.max(axis=0)
    if exponent is None:
        return longest
    share = np.divide(stages, longest, out=np.zeros_like(stages), where=longest > 0)
    return np.asarray(longest * (share**exponent).sum(axis=0) ** (1.0 / exponent))
