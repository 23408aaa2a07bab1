"""Rows of single communication operations: the ranks, the bytes, and the time or bandwidth that was measured."""

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import fabric_calibration
from simulator.cost.collectives import KINDS, Algorithm, Kind, collective, send_recv, transfer
from simulator.cost.collectives.groups import outermost_plane
from simulator.cost.expert_parallel import ExpertPaths, Mode, expert_paths, over_nics, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.phase.machine import Machine, assemble
from simulator.phase.routed import Routed, route
from simulator.scenario import Routing
from simulator.validation.cells import Cells, RowError, data, shorten
from simulator.validation.names import find_cluster, formats
from topologies.catalogue import accelerator
from topologies.catalogue.machine_file import Parts, machine_parts
from topologies.network import Network
from topologies.specs import ClusterSpec, ScaleOut
from workloads.models.specs import Experts

MODES: dict[str, Mode] = {"normal": "normal", "low_latency": "low-latency", "fused": "low-latency"}
# Published times are means over ranks, so uniform routing is replayed with what each rank gets on average.
ROUTERS: dict[str, Literal["balanced", "fitted"]] = {
    "balanced": "balanced",
    "uniform-random": "balanced",
    "real": "fitted",
}
# What nccl-tests call algorithms.
ALGORITHMS: dict[str, Algorithm] = {
    "ring": "ring",
    "tree": "tree",
    "nvls": "in-switch",
    "nvls-tree": "in-switch-tree",
}
COPIES = {"p2p_read", "p2p_write", "kv_transfer", "link_rate"}
# Stands for "large" where a rate of a link has no message size.
LARGE_BYTES = 2.0**30
DRAWS = 8
MAX_RANKS = 2048
NIC_TOLERANCE = 0.05
OUTER = {"rdma", "ib", "roce"}
NEAR = {"same_node", "same_package"}
Ranks = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Operation:
    """A priced operation: its time [s] and the bytes that the row's bandwidth counts per rank."""

    time_s: float
    counted_bytes: float


def predict(cells: Cells) -> tuple[float, str]:
    """Return the predicted time, or bandwidth where the row has no time, and its unit.

    Raises
    ------
    RowError
        If the operation can't be built.
    UserError, TopologyError, WorkloadError
        If the simulator refuses it.
    """
    op = cells.stated("op")
    if op in {"dispatch", "combine"}:
        found = _exchange(cells, cast(Literal["dispatch", "combine"], op))
    elif op in KINDS:
        found = _collective(cells, op)
    elif op in COPIES or op == "send_recv":
        found = _copied(cells, op)
    else:
        raise RowError(f"operation '{shorten(op)}' is not predicted" if op else "missing: op")
    if cells.stated("time_us"):
        return found.time_s * 1e6, "us"
    rate = found.counted_bytes / found.time_s / 1e9
    if op in KINDS and not cells.stated("algbw_GBps"):
        rate *= _bus_factor(op, cells.whole("ranks"))
    return rate, "GB/s"


def measured(cells: Cells) -> float:
    """Return the measured time [us], notification included, or bandwidth [GB/s].

    Raises
    ------
    RowError
        If the row has neither.
    """
    if cells.stated("time_us"):
        scope = cells.stated("time_scope")
        return cells.positive("time_us") + (cells.number("notify_us") if scope == "transmit_only" else 0.0)
    return cells.positive("algbw_GBps" if cells.stated("algbw_GBps") else "busbw_GBps")


def _bus_factor(op: str, ranks: int) -> float:
    return (2.0 if op == "all_reduce" else 1.0) * (ranks - 1) / ranks


def _place(cells: Cells, *, stated_nic: bool = False) -> tuple[Machine, Ranks]:
    """Return the machine and ``[ranks]`` members: on neighbouring nodes, as many on each as the row says.

    A transport that leaves the scale-up links unused is laid out as one rank per node, and leaves these links out.

    Parameters
    ----------
    stated_nic
        Whether NICs have the rate that the row states, where the catalogued cluster has others.
    """
    ranks = cells.whole("ranks")
    if not 2 <= ranks <= MAX_RANKS:
        raise RowError(f"ranks = {ranks}: 2 to {MAX_RANKS} can be replayed")
    spec = find_cluster(cells, 1)
    node_ranks = spec.chips_per_node * accelerator(spec.chip).ranks_per_chip
    used, step = _per_node(cells, ranks, node_ranks), _stride(cells, spec)
    nodes = -(-ranks // used)
    chips = ((nodes - 1) * step + 1) * spec.chips_per_node
    spec = find_cluster(cells, chips)
    parts = machine_parts(spec.id)
    target = assemble(_with_nic(cells, parts) if stated_nic else parts, chips)
    first = np.arange(nodes) * (step * node_ranks)
    members = (first[:, None] + np.arange(used)).ravel()[:ranks].astype(np.int32)
    if cells.stated("transport") in OUTER and cells.stated("op") not in COPIES:
        target = replace(target, network=over_nics(target.network))
    _check_links(cells, target.network, members)
    return target, members


def _with_nic(cells: Cells, parts: Parts) -> Parts:
    """Return the cluster with NICs of the rate that the row states."""
    spec, chip, fabrics = parts
    if spec.scale_out is None or not cells.stated("nic_gbps_per_rank"):
        return parts
    fabric = fabrics[spec.scale_out.fabric]
    rate = cells.positive("nic_gbps_per_rank") * chip.ranks_per_chip / 8e-9
    if abs(rate / fabric.port_bytes_per_s - 1) <= NIC_TOLERANCE:
        return parts
    cells.note("NIC", f"{cells.stated('nic_gbps_per_rank')} Gb/s per rank, otherwise as {fabric.name}")
    changed = fabric.model_copy(update={"port_bytes_per_s": rate})
    return Parts(spec, chip, {**fabrics, fabric.id: changed})


def _per_node(cells: Cells, ranks: int, node_ranks: int) -> int:
    pair = cells.stated("op").startswith("p2p")
    outside = cells.stated("transport") in OUTER and cells.stated("op") != "kv_transfer"
    if outside or (pair and cells.text("placement") not in NEAR):
        return 1
    if cells.stated("ranks_per_node"):
        return min(max(1, cells.whole("ranks_per_node")), ranks, node_ranks)
    cells.text("ranks_per_node")
    return min(ranks, node_ranks)


def _stride(cells: Cells, spec: ClusterSpec) -> int:
    """Nodes from one used node to the next: so many that no scale-up link joins two, where a copy leaves these out."""
    copied = cells.stated("op") in COPIES and cells.stated("transport") in OUTER
    domain = max(1, spec.scale_up.domain_chips // spec.chips_per_node) if copied else 1
    leaves = spec.scale_out if isinstance(spec.scale_out, ScaleOut) else None
    return max(domain, leaves.leaf_nodes if leaves and cells.stated("placement") == "cross_leaf" else 1)


def _check_links(cells: Cells, network: Network, members: Ranks) -> None:
    """Refuse rows whose transport or NIC rate is not the one that joins these ranks here.

    Raises
    ------
    RowError
        With what joins them instead.
    """
    outermost = outermost_plane(network, members[None, :])
    plane = network.planes[outermost]
    cells.fabric = plane.fabric
    transport = cells.stated("transport")
    parts = set(transport.split("+")) - {""}
    named = parts & {"ib", "roce"}
    if (parts and bool(parts & OUTER) != (outermost > 0)) or not all(plane.fabric.startswith(name) for name in named):
        raise RowError(f"transport {shorten(transport)}: here {plane.name} joins these ranks")
    if outermost and cells.stated("nic_gbps_per_rank"):
        here = float(plane.port_bytes_per_s[members].min()) * 8e-9
        if abs(here / cells.positive("nic_gbps_per_rank") - 1) > NIC_TOLERANCE:
            raise RowError(f"{cells.stated('nic_gbps_per_rank')} Gb/s per rank: the catalogued cluster has {here:.0f}")


def _collective(cells: Cells, kind: Kind) -> Operation:
    """Price a collective of a given size, by the algorithm that the row names or as the library chooses."""
    size, named = cells.positive("size_bytes"), cells.stated("algorithm")
    if named and named not in ALGORITHMS:
        raise RowError(f"algorithm '{shorten(named)}' unknown")
    target, members = _place(cells, stated_nic=True)
    network, constants = target.network, target.calibrations.fabric
    algorithm = ALGORITHMS[named] if named else "auto"
    return Operation(collective(network, members[None, :], kind, size, constants, algorithm).time_s, size)


def _copied(cells: Cells, op: str) -> Operation:
    """Price copies from the first half of the ranks to the second, each rank to one of the others."""
    if op == "link_rate" and not cells.stated("size_bytes"):
        cells.note("size_bytes", "large")
        size = LARGE_BYTES
    else:
        size = cells.positive("size_bytes")
    target, members = _place(cells, stated_nic=True)
    half = len(members) // 2
    source, destination = members[:half], members[half : 2 * half]
    each, constants = np.full(half, size / half), target.calibrations.fabric
    if op == "send_recv":
        return Operation(send_recv(target.network, source, destination, each, constants).time_s, size)
    way: Literal["read", "write"] = "read" if op == "p2p_read" else "write"
    return Operation(transfer(target.network, source, destination, each, constants, way).time_s, size)


def _exchange(cells: Cells, op: Literal["dispatch", "combine"]) -> Operation:
    """Dispatch or combine of one MoE layer, its routing drawn as the router says."""
    tokens = cells.positive("tokens_per_rank")
    mode = cells.stated("mode") or data("names")["modes"].get(cells.stated("library")) or cells.text("mode")
    if mode not in MODES:
        raise RowError(f"mode '{shorten(mode)}' unknown")
    target, members = _place(cells)
    paths = _paths(cells, target.network, members, MODES[mode])
    routed = _routed(cells, len(members), len(members) // paths.nodes, round(tokens * len(members)))
    to_rank = routed.rank_tokens if paths.counts_expert_copies else routed.copies.to_rank
    if cells.stated("router") == "balanced" and not paths.counts_expert_copies:
        # A balanced router of a benchmark strides over the ranks, so that a token's experts lie on different ones.
        to_rank = np.full_like(to_rank, tokens * min(cells.at_least_one("top_k"), len(members)))
    size = token_bytes(cells.at_least_one("hidden"), formats(cells.text("payload_dtype"))["dispatch"])
    host = cells.stated("time_scope") != "kernel"
    cost = dispatch_cost(paths, op, to_rank, routed.copies.to_node, size, host)
    # Bandwidths of DeepEP are logical: copies per expert, per node reached (its own included), or per rank reached.
    counted = routed.copies.to_node if paths.forwarded else to_rank
    return Operation(float(cost.time_s.mean()), size * float(counted.sum(axis=-1).mean()) / len(members))


def _routed(cells: Cells, ranks: int, ranks_per_node: int, tokens: int) -> Routed:
    router = cells.text("router")
    if router not in ROUTERS:
        raise RowError(f"router '{shorten(router)}' unknown")
    nodes = max(1, ranks // ranks_per_node)
    reached = min(cells.at_least_one("topk_groups"), nodes) if cells.stated("topk_groups") else nodes
    groups = nodes if reached < nodes else 1
    shape = Experts(
        routed_experts=cells.at_least_one("experts"),
        top_k=cells.at_least_one("top_k"),
        expert_ffn=1,
        n_group=groups,
        topk_group=min(reached, groups),
    )
    rules = Routing(kind=ROUTERS[router], redundant_experts="fill")
    return route(rules, shape, 1, ranks, ranks_per_node, tokens, tokens, DRAWS, seed=0)


def _paths(cells: Cells, network: Network, members: Ranks, mode: Mode) -> ExpertPaths:
    """Return the network as the row's library sees it, with as many cores as the row says where their rate is known."""
    library = data("names")["libraries"].get(cells.stated("library"))
    known = {name for plane in network.planes for name in fabric_calibration(plane.fabric).libraries}
    paths = expert_paths(network, members[None, :], mode, library=library if library in known else None)
    if cells.stated("comm_cores") and paths.outer.core_bytes_per_s:
        paths = replace(paths, cores=cells.at_least_one("comm_cores"))
    return paths
