"""Dispatch and combine: token copies on links, from the routing's expected destinations.

Where every rank of an EP group sends an equal share of the copies that each destination receives, the load of every
link is linear in the copies per destination. `expert_paths` folds the network into that matrix once; `dispatch_cost`
then prices any number of layers and micro-batches with one matrix product. Unequal sources are priced by
`simulator.cost.expert_parallel_sources`.

*normal* mode (DeepEP normal kernels, Hybrid-EP): one copy of a token per destination node over the NIC, to the rank of
equal rail, which forwards one copy per destination rank inside the node. Inside one scale-up plane: one copy per
destination rank. *low-latency* mode (DeepEP low-latency kernels, CANN fused dispatch over UB): one copy per routed
expert, straight to its rank over whatever plane joins the two. Combine runs the same paths backwards. Libraries that
differ say so in their constants.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import ExpertParallelConstants, FabricCalibration, fabric_calibration
from simulator.cost.links import link_loads
from simulator.errors import UserError, did_you_mean
from topologies.network import Network

Mode = Literal["normal", "low-latency"]
Op = Literal["dispatch", "combine"]
Floats = NDArray[np.float64]
Calibration = Callable[[str], FabricCalibration]

# DeepEP's wire format: FP8 payload with one FP32 scale per 128 values and a 16-byte token header
# (hidden 7168 -> 7,408 bytes; deepseek-ai/DeepEP:csrc/kernels/internode_ll.cu). INT8 carries one FP32 scale per token
# in a 512-byte aligned message (arXiv:2506.12708 section 4.2.1: 7 KB + 0.5 KB).
HEADER_BYTES = 16
SCALE_BYTES = 4
FP8_BLOCK = 128
FP4_BLOCK = 16  # one FP8 scale each (NVFP4)
INT8_TAIL_BYTES = 512
ELEMENT_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}


def token_bytes(hidden: int, dtype: str) -> float:
    """Return the bytes of one token copy on the wire, scales included."""
    payload = hidden * ELEMENT_BYTES[dtype]
    if dtype == "fp8":
        return payload + hidden / FP8_BLOCK * SCALE_BYTES + HEADER_BYTES
    if dtype == "fp4":
        return payload + hidden / FP4_BLOCK + HEADER_BYTES
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
    """How the copies of one EP group load the network, and the constants of the library in use.

    Parameters
    ----------
    node_of, node_ranks
        ``[ranks]`` node of each rank, and ``[nodes]`` ranks of the group on each node.
    forwarded
        Whether copies go to a node first, then to ranks inside it.
    fabrics, constants
        Fabric and constants of each of the network's planes; the last fabric is that of the outermost in use.
    cores
        Cores that copy.
    """

    ranks: int
    node_of: NDArray[np.int32]
    node_ranks: NDArray[np.int64]
    forwarded: bool
    loads: tuple[PathLoad, ...]
    fabrics: tuple[str, ...]
    constants: tuple[ExpertParallelConstants, ...]
    outer: ExpertParallelConstants
    cores: int

    @property
    def nodes(self) -> int:
        """Nodes of the group."""
        return len(self.node_ranks)

    @property
    def counts_expert_copies(self) -> bool:
        """True where a token is sent once per expert, not once per rank."""
        return self.outer.copies == "expert"

    def with_constants(self, mode: Mode, calibration: Calibration, library: str | None = None) -> "ExpertPaths":
        """Return the same paths with the constants of another calibration."""
        constants = tuple(library_constants(calibration(name), mode, library) for name in self.fabrics)
        return replace(self, constants=constants[:-1], outer=constants[-1])


def library_constants(found: FabricCalibration, mode: Mode, library: str | None = None) -> ExpertParallelConstants:
    """Return the constants of a library, or of the usual one of the mode where the fabric does not know it."""
    usual = found.normal if mode == "normal" else found.low_latency
    return found.libraries.get(library, usual) if library else usual


def library_mode(network: Network, library: str, calibration: Calibration = fabric_calibration) -> Mode:
    """Return the mode of a library that the network's fabrics are calibrated for.

    Raises
    ------
    UserError
        If none of them knows it.
    """
    entries = [calibration(plane.fabric).libraries for plane in network.planes]
    known = {name: entry.mode for libraries in entries for name, entry in libraries.items()}
    if library not in known:
        fabrics = ", ".join(plane.fabric for plane in network.planes)
        names = f"use {', '.join(sorted(known))}, or" if known else "none is;"
        raise UserError(
            f"transport.library = '{library}': not calibrated on {fabrics}{did_you_mean(library, known)}; {names} "
            "leave it out for the usual one"
        )
    return known[library]


def expert_paths(
    network: Network,
    groups: NDArray[np.int32],
    mode: Mode,
    calibration: Calibration = fabric_calibration,
    *,
    library: str | None = None,
    cores: int | None = None,
    fold: bool = True,
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
    library
        Another library than the usual one of the mode.
    cores
        Cores that copy; default: as many as the library's constants were found with.
    fold
        Whether to make the matrix of links by destinations, which `dispatch_cost` reads and `sent_cost` does not.

    Raises
    ------
    UserError
        If the library is not calibrated on the outermost fabric, or a number of cores is given and the library's rate
        is not known to depend on it.
    """
    groups = farthest_first(network, groups)
    node_of = np.unique(network.node[groups[0]], return_inverse=True)[1].astype(np.int32)
    # Ranks that the first rank meets inside the innermost plane meet each other there.
    met = np.unique(network.meeting_tier(groups[:1, :1], groups[:1]))
    plane = max((network.tiers[tier].plane for tier in met if tier >= 0), default=0)
    fabric = network.planes[plane].fabric
    found = calibration(fabric)
    if library and library not in found.libraries:
        raise UserError(
            f"transport.library = '{library}': not calibrated on {fabric}, which joins these ranks; leave it out for "
            "the usual one"
        )
    outer = library_constants(found, mode, library)
    inside = any(tier.plane == 0 for tier in network.tiers)
    forwarded = mode == "normal" and outer.copies == "rank" and plane > 0 and inside
    loads = _folded(network, groups, node_of, forwarded) if fold else []
    fabrics = (*(each.fabric for each in network.planes), fabric)
    chosen = _cores(outer, cores, library or mode, fabric)
    node_ranks = np.bincount(node_of)
    paths = ExpertPaths(groups.shape[1], node_of, node_ranks, forwarded, tuple(loads), fabrics, (), outer, chosen)
    return paths.with_constants(mode, calibration, library)


def _folded(network: Network, groups: NDArray[np.int32], node_of: NDArray[np.int32], forwarded: bool) -> list[PathLoad]:
    """Return the loads of equal sources by destination."""
    if forwarded:
        return _forwarded(network, groups, node_of, int(node_of.max()) + 1)
    members = groups.shape[1]
    source, target = np.repeat(groups, members, axis=1), np.tile(groups, (1, members))
    column = np.tile(np.arange(members, dtype=np.int64), groups.shape[0] * members)
    return _loads(network, groups[0], source.ravel(), target.ravel(), column, members, "rank", 1.0 / members)


def _cores(outer: ExpertParallelConstants, asked: int | None, library: str, fabric: str) -> int:
    if asked is None:
        return outer.cores
    if outer.core_bytes_per_s is None:
        raise UserError(
            f"transport.cores = {asked}: no rate per core is known for {library} on {fabric}; leave it out for the "
            f"{outer.cores} that its constants were found with"
        )
    return asked


def over_nics(network: Network) -> Network:
    """Return the network without its innermost plane's tiers: ranks of one node, too, talk over their NICs.

    Raises
    ------
    UserError
        If there is no other plane.
    """
    tiers = tuple(tier for tier in network.tiers if tier.plane > 0)
    if not tiers:
        raise UserError(
            f"transport.path = 'nic': {network.planes[0].name} is the only network that joins these ranks; use "
            "transport.path = 'auto', or more nodes"
        )
    return replace(network, tiers=tiers)


def farthest_first(network: Network, groups: NDArray[np.int32]) -> NDArray[np.int32]:
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
