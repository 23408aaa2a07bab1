"""Which links an operation of a step loads how much, and through which pairs of ranks."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.flow_links import FlowLinks, Kind, flow_links
from simulator.network_use import KindUse, LinkUse, NetworkUse, PairUse
from simulator.phase.setup import setup
from simulator.phase.traffic import Traffic, traffic
from simulator.scenario import Scenario
from topologies.network import Network

Floats = NDArray[np.float64]
BLOCKS = 256  # most rows of the matrix of bytes


def network_use(scenario: Scenario, operation: str, top: int, pairs: int) -> NetworkUse:
    """Return the links that one operation loads.

    Parameters
    ----------
    operation
        See `simulator.phase.traffic.OPERATIONS`.
    top, pairs
        How many of the busiest links, and for each how many pairs of ranks.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario cannot be run, or has no such operation.
    """
    resolved = setup(scenario)
    found = traffic(resolved, operation)
    links = flow_links(found.network, found.source, found.target)
    size = links.bytes_on_links(found.size_bytes)
    busy_s = size / links.capacity_bytes_per_s
    order = np.argsort(-busy_s, kind="stable")[:top]
    listed = [_link_use(found, links, int(index), float(size[index]), pairs) for index in order if size[index] > 0]
    matrix, block = _matrix(found, links, int(order[0]) if order.size else 0)
    away = found.source != found.target
    return NetworkUse(
        scenario=scenario.name,
        operation=operation,
        cluster=resolved.machine.spec.name,
        ranks=found.network.ranks,
        time_s=found.time_s,
        bound_s=float(busy_s.max(initial=0.0)),
        sent_bytes=float(found.size_bytes[away].sum()),
        links=tuple(listed),
        kinds=tuple(_kind_use(found, kind, busy_s) for kind in links.kinds),
        matrix_bytes=matrix,
        block_ranks=block,
        note=found.note,
    )


def _kind_of(links: FlowLinks, index: int) -> Kind:
    return next(kind for kind in reversed(links.kinds) if kind.first <= index)


def _fabric(network: Network, kind: Kind) -> str:
    return network.planes[kind.plane].name


def _kind_use(found: Traffic, kind: Kind, busy_s: Floats) -> KindUse:
    own = busy_s[kind.first : kind.first + kind.capacity_bytes_per_s.size] / found.time_s
    return KindUse(kind.name, _fabric(found.network, kind), -np.sort(-own))


def _link_use(found: Traffic, links: FlowLinks, index: int, size_bytes: float, pairs: int) -> LinkUse:
    kind = _kind_of(links, index)
    place, flow = np.nonzero(links.link == index)
    part = found.size_bytes[flow] * (1.0 if links.share is None else links.share[place, flow])
    ranks = found.network.ranks
    key, owner = np.unique(found.source[flow].astype(np.int64) * ranks + found.target[flow], return_inverse=True)
    each = np.bincount(owner, part)
    most = np.argsort(-each, kind="stable")[:pairs]
    rate = float(links.capacity_bytes_per_s[index])
    return LinkUse(
        link=kind.link_name(index - kind.first),
        fabric=_fabric(found.network, kind),
        size_bytes=size_bytes,
        bytes_per_s=rate,
        busy_s=size_bytes / rate,
        utilisation=size_bytes / rate / found.time_s,
        pairs=tuple(PairUse(int(key[i] // ranks), int(key[i] % ranks), float(each[i])) for i in most),
    )


def _matrix(found: Traffic, links: FlowLinks, busiest: int) -> tuple[Floats, int]:
    """Return bytes between blocks of ranks over the plane of the busiest link, and the ranks of a block."""
    ranks, plane = found.network.ranks, _kind_of(links, busiest).plane
    tier = found.network.meeting_tier(found.source, found.target)
    planes = np.array([each.plane for each in found.network.tiers])
    on = (tier >= 0) & (planes[tier] == plane)
    block = 1 if ranks <= BLOCKS else max(found.network.ranks_per_node, -(-ranks // BLOCKS))
    blocks = -(-ranks // block)
    key = found.source[on].astype(np.int64) // block * blocks + found.target[on] // block
    matrix = np.bincount(key, found.size_bytes[on], blocks * blocks).reshape(blocks, blocks)
    return matrix.astype(np.float64), block
