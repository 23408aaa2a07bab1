"""Dispatch and combine where ranks send unequal shares: bytes from each source to each destination.

The fast form in `simulator.cost.expert_parallel` takes every rank to send an equal share. Here copies are counted by
source too, so a rank with more tokens, or whose tokens go to nodes of their own, loads its links as it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cost.expert_parallel import ExpertPaths, Floats, Op, farthest_first
from simulator.cost.expert_parallel_time import DispatchCost, core_copy_s, fixed_time_s, joined
from simulator.cost.links import LinkLoads, link_loads
from simulator.cost.matrix_links import joined_loads, matrix_loads
from topologies.network import Network

Counts = NDArray[Any]
FLOWS = 2**21  # flows in work at once


@dataclass(frozen=True, slots=True)
class Sent:
    """Token copies of one EP group by source.

    Parameters
    ----------
    to_rank
        ``[sources, ranks]`` copies from each rank to each, its own included: one per expert or per rank.
    to_node
        ``[sources, nodes]`` copies to each node after de-duplication; read where copies are forwarded.
    """

    to_rank: Counts
    to_node: Counts


@dataclass(frozen=True, slots=True)
class SentLoads:
    """Copies on links and at cores.

    Parameters
    ----------
    links
        Copies on every link, by kind of link.
    received, sent
        ``[ranks]`` copies that each rank takes in, and sends out.
    """

    links: list[LinkLoads]
    received: Floats
    sent: Floats


def sent_loads(network: Network, groups: NDArray[np.int32], paths: ExpertPaths, sent: Sent) -> SentLoads:
    """Return what the copies of EP groups put on links and cores.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` as `expert_paths` takes them; every group sends what `sent` says.
    """
    groups = farthest_first(network, groups)
    totals: dict[tuple[int, str], LinkLoads] = {}
    arrived, left = _sums(sent.to_rank)
    if not paths.forwarded:
        if groups.size == network.ranks and len(groups) == 1 and (np.diff(groups[0]) == 1).all():
            return SentLoads(matrix_loads(network, sent.to_rank), arrived, left)
        for block in _blocks(sent.to_rank):
            _add(network, groups, block, totals)
        return SentLoads(list(totals.values()), arrived, left)
    peer = _peers(paths)
    crossed = np.bincount(peer.ravel(), sent.to_node.ravel(), paths.ranks)
    forwards = np.zeros(paths.ranks)
    for source, target, copies in _blocks(sent.to_node):
        _add(network, groups, (source, peer[source, target], copies), totals)
    for block in _handed_on(paths, sent.to_rank):
        forwards += np.bincount(block[0], block[2], paths.ranks)
        _add(network, groups, block, totals)
    return SentLoads(list(totals.values()), arrived + crossed, _sums(sent.to_node)[1] + forwards)


def sent_cost(
    network: Network,
    groups: NDArray[np.int32],
    paths: ExpertPaths,
    op: Op,
    sent: Sent,
    bytes_per_copy: float,
    host: bool = True,
) -> DispatchCost:
    """Return the time of one dispatch of unequal sources, or of the combine that undoes it; arrays without axes.

    With equal sources it is what `dispatch_cost` returns. The balanced part is with the same copies spread evenly over
    sources and destinations.

    Parameters
    ----------
    groups, paths
        As given to and returned by `expert_paths`.
    bytes_per_copy
        See `token_bytes`.
    host
        Whether launches and host code around the kernels count.
    """
    bandwidth_s, line_s = _busiest_s(network, groups, paths, op, sent, bytes_per_copy)
    shares = (np.broadcast_to(copies.mean(dtype=np.float64), copies.shape) for copies in (sent.to_rank, sent.to_node))
    even_s, _ = _busiest_s(network, groups, paths, op, Sent(*shares), bytes_per_copy)
    latency_s = fixed_time_s(paths.outer, op, paths.ranks, host)
    return DispatchCost(latency_s, bandwidth_s, np.minimum(even_s, bandwidth_s), np.asarray(line_s))


def _busiest_s(
    network: Network, groups: NDArray[np.int32], paths: ExpertPaths, op: Op, sent: Sent, bytes_per_copy: float
) -> tuple[Floats, float]:
    """Return the time of links and cores together, and that of the busiest link at line rate [s]."""
    loads = sent_loads(network, groups, paths, sent)
    line = {links.plane: 0.0 for links in loads.links}
    for links in loads.links:
        line[links.plane] = max(line[links.plane], float(links.time_s.max()) * bytes_per_copy)
    busiest = max(float(loads.received.max()), float(loads.sent.max()))
    stages = [time_s / paths.constants[plane].fraction for plane, time_s in line.items()]
    stages.append(busiest * core_copy_s(paths.outer, op, paths.cores, bytes_per_copy))
    together = joined([np.asarray(stage) for stage in stages], paths.outer.overlap_exponent)
    return together, max(line.values(), default=0.0)


Block = tuple[NDArray[np.int64], NDArray[np.int64], Floats]


def _sums(copies: Counts) -> tuple[Floats, Floats]:
    """Return the sums over sources and over targets."""
    return copies.sum(axis=0, dtype=np.float64), copies.sum(axis=1, dtype=np.float64)


def _blocks(copies: Counts) -> Iterator[Block]:
    """Yield the cells that are not empty as flows, some sources at a time."""
    step = max(1, FLOWS // copies.shape[1])
    for first in range(0, len(copies), step):
        source, target = np.nonzero(copies[first : first + step])
        yield source + first, target, copies[source + first, target].astype(np.float64)


def _peers(paths: ExpertPaths) -> NDArray[np.int64]:
    """Return the rank ``[ranks, nodes]`` that takes in each source's copies for a node: that of equal rail."""
    starts = np.cumsum(paths.node_ranks) - paths.node_ranks
    local = np.arange(paths.ranks) - starts[paths.node_of]
    return np.asarray(starts[None, :] + local[:, None] % paths.node_ranks[None, :], dtype=np.int64)


def _handed_on(paths: ExpertPaths, to_rank: Counts) -> Iterator[Block]:
    """Yield what the ranks of each node hand on inside it, nodes of one size at a time."""
    starts = np.cumsum(paths.node_ranks) - paths.node_ranks
    local = np.arange(paths.ranks) - starts[paths.node_of]
    for size in np.unique(paths.node_ranks).tolist():
        nodes = np.flatnonzero(paths.node_ranks == size)
        rail: Floats = (local % size == np.arange(size)[:, None]).astype(np.float64)
        step = max(1, FLOWS // (size * paths.ranks))
        for some in np.array_split(nodes, -(-len(nodes) // step)):
            targets = (starts[some][:, None] + np.arange(size)).ravel()
            copies = rail @ to_rank[:, targets]
            forwarder = np.repeat(starts[some], size) + np.arange(size)[:, None]
            yield forwarder.ravel(), np.tile(targets, size), copies.ravel()


def _add(network: Network, groups: NDArray[np.int32], block: Block, totals: dict[tuple[int, str], LinkLoads]) -> None:
    """Add flows between members of every group to the totals."""
    source, target, copies = block
    for group in groups:
        for loads in link_loads(network, group[source], group[target], copies):
            key = loads.plane, loads.kind
            totals[key] = joined_loads(totals[key], loads) if key in totals else loads
