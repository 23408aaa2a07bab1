"""Send and receive, and all-to-all which is made of them: to every peer at once, or by hierarchy.

Closed form of the uniform all-to-all behind one switch, n ranks: one step + (n-1)/n S/B.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import Kernel, fabric_calibration
from simulator.cost.collectives.groups import by_node
from simulator.cost.collectives.price import constants
from simulator.cost.collectives.records import FREE, Calibration, Call, CommCost, Groups
from simulator.cost.links import LinkTime, busiest_links
from simulator.cost.matrix_links import uniform_loads
from topologies.network import Network

# Up to so many bytes per peer NCCL sends with its low-latency protocol (NVIDIA/nccl:src/enqueue.cc, default of
# NCCL_P2P_LL_THRESHOLD).
SMALL_BYTES = 16384.0


def pairwise(call: Call) -> CommCost | None:
    """Return the cost of a uniform all-to-all that sends straight to every peer."""
    if call.kind != "all_to_all":
        return None
    each = call.size_bytes / call.members
    links = [loads.busiest() for loads in uniform_loads(call.network, each, call.groups)]
    return _moved(call, "pairwise", links, each)


def two_level(call: Call) -> CommCost | None:
    """Return the cost of a uniform all-to-all over nodes: first inside to the rank of equal rail, then between nodes.

    Between nodes a rank then has one larger message per node, and no rail is crossed.
    """
    blocks = by_node(call.network, call.groups)
    nodes, local = blocks.shape[1:]
    if call.kind != "all_to_all" or nodes == 1 or local == 1:
        return None
    inner = call.inside(blocks.reshape(-1, local), "all_to_all", call.size_bytes)
    outer = call.inside(blocks.transpose(0, 2, 1).reshape(-1, nodes), "all_to_all", call.size_bytes)
    first, then = pairwise(inner), pairwise(outer)
    return None if first is None or then is None else after(call, first, then)


def after(call: Call, first: CommCost, then: CommCost) -> CommCost:
    """Return the cost of a collective made of one after another, launched once."""
    worst = max(first, then, key=lambda cost: cost.time_s)
    return CommCost(
        first.latency_s - constants(call, first.plane).launch_s + then.latency_s,
        first.bandwidth_s + then.bandwidth_s,
        max(first.bound_s, then.bound_s),
        worst.bottleneck,
        max(first.plane, then.plane),
        "hierarchical",
    )


def all_to_all_v(
    network: Network, groups: Groups, size_bytes: NDArray[np.float64], calibration: Calibration = fabric_calibration
) -> CommCost:
    """Return the cost of an uneven all-to-all in every group at once.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` members.
    size_bytes
        ``[ranks, ranks]`` bytes from each member (row) to each (column), alike in all groups, or
        ``[groups, ranks, ranks]``; what stays on a rank is copied meanwhile.
    """
    count, members = groups.shape
    sizes = np.broadcast_to(size_bytes, (count, members, members))
    source = np.repeat(groups, members, axis=1).ravel()
    target = np.tile(groups, (1, members)).ravel()
    sent = (source != target) & (sizes.ravel() > 0)
    call = Call(network, groups, "all_to_all", 0.0, calibration)
    links = busiest_links(network, source[sent], target[sent], sizes.ravel()[sent])
    return _moved(call, "pairwise", links, float(sizes.max(initial=0.0)))


def send_recv(
    network: Network,
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    size_bytes: NDArray[np.float64],
    calibration: Calibration = fabric_calibration,
) -> CommCost:
    """Return the cost of sends that start together, as the collective library makes them.

    Parameters
    ----------
    source, target, size_bytes
        ``[flows]`` ranks and bytes; a flow from a rank to itself is free.
    """
    call = Call(network, np.stack([source, target], axis=-1), "all_to_all", 0.0, calibration)
    links = busiest_links(network, source, target, size_bytes)
    return _moved(call, "send", links, float(np.max(size_bytes, initial=0.0)))


def _moved(call: Call, algorithm: str, links: Sequence[LinkTime], message_bytes: float) -> CommCost:
    """Price links by the kernel that sends and receives; messages up to a size may take the small protocol."""
    if not any(link.time_s for link in links):
        return FREE
    plane = max(link.plane for link in links)
    costs = [_priced(call, algorithm, links, plane, small=False)]
    if message_bytes <= SMALL_BYTES and constants(call, plane).small:
        costs.append(_priced(call, algorithm, links, plane, small=True))
    return min(costs, key=lambda cost: cost.time_s)


def _priced(call: Call, algorithm: str, links: Sequence[LinkTime], plane: int, *, small: bool) -> CommCost:
    used = {index: constants(call, index) for index in {0, *(link.plane for link in links)}}
    kernels = {
        index: found.exchange or Kernel(fraction=found.fraction, ramp_s=found.ramp_s) for index, found in used.items()
    }
    shares = {index: found.small.share if small and found.small else 1.0 for index, found in used.items()}
    achieved = [link.time_s / (kernels[link.plane].fraction * shares[link.plane]) for link in links]
    slowest = int(np.argmax(achieved))
    outer = used[plane]
    ramp_s = outer.small.ramp_s if small and outer.small else kernels[plane].ramp_s
    return CommCost(
        outer.launch_s + outer.step_s + ramp_s,
        achieved[slowest],
        max(link.time_s for link in links),
        links[slowest].link,
        plane,
        f"{algorithm}, {'small' if small else 'large'}" if outer.small else algorithm,
    )
