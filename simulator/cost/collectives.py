"""Collectives priced on the links that their groups use, all groups of the kind at once.

Sizes follow nccl-tests: `size_bytes` is the full buffer S of one rank for all-reduce, the gathered result for
all-gather and the input for reduce-scatter. Ring all-reduce moves 2(n-1)/n S per rank, the other two half of it.
Libraries ring behind a switch, exchange directly where every pair has a link of its own (HCCL, RCCL on a mesh), and
reduce inside switches that can (NVLS).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import CollectiveConstants, FabricCalibration, fabric_calibration
from simulator.cost.links import LinkTime, busiest_links
from topologies.network import Network

Kind = Literal["all_reduce", "all_gather", "reduce_scatter"]
Calibration = Callable[[str], FabricCalibration]
SHARE = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}


@dataclass(frozen=True, slots=True)
class CommCost:
    """Time of one communication operation.

    Parameters
    ----------
    latency_s, bandwidth_s
        The part that does not depend on bytes, and the part that does [s]; the operation takes their sum.
    bound_s
        The busiest link's bytes at line rate [s]; never above `bandwidth_s`.
    bottleneck
        The busiest link.
    plane
        The outermost plane used, whose constants the latency part is made of.
    """

    latency_s: float
    bandwidth_s: float
    bound_s: float
    bottleneck: str
    plane: int = 0

    @property
    def time_s(self) -> float:
        """Latency and bandwidth parts together [s]."""
        return self.latency_s + self.bandwidth_s


FREE = CommCost(0.0, 0.0, 0.0, "none")


def transfer(
    network: Network,
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    size_bytes: NDArray[np.float64],
    calibration: Calibration = fabric_calibration,
) -> CommCost:
    """Return the cost of a set of flows that start together, each link at its fabric's achieved fraction.

    The latency part is that of one small message on the farthest tier that is used.

    Parameters
    ----------
    source, target, size_bytes
        ``[flows]`` ranks and bytes, see `busiest_links`.
    calibration
        Constants by fabric id.
    """
    links = busiest_links(network, source, target, size_bytes)
    if not links:
        return FREE
    achieved = [link.time_s / _constants(network, link.plane, calibration).fraction for link in links]
    slowest = int(np.argmax(achieved))
    farthest = network.tiers[int(network.meeting_tier(source, target).max())]
    return CommCost(
        farthest.latency_s,
        achieved[slowest],
        max(link.time_s for link in links),
        links[slowest].link,
        farthest.plane,
    )


def collective(
    network: Network,
    groups: NDArray[np.int32],
    kind: Kind,
    size_bytes: float,
    calibration: Calibration = fabric_calibration,
) -> CommCost:
    """Return the cost of one collective that all `groups` start together, by the fastest algorithm that applies.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` members; groups that share links slow each other down.
    size_bytes
        Buffer per rank, see the module's docstring.
    calibration
        Constants by fabric id.
    """
    members = groups.shape[1]
    if members == 1 or size_bytes <= 0:
        return FREE
    options = [_flat(network, groups, kind, size_bytes, calibration)]
    local = _local_size(network, groups)
    if 1 < local < members:
        options.append(_hierarchical(network, groups, kind, size_bytes, local, calibration))
    return min(options, key=lambda cost: cost.time_s)


def _constants(network: Network, plane: int, calibration: Calibration) -> CollectiveConstants:
    return calibration(network.planes[plane].fabric).collective


def _local_size(network: Network, groups: NDArray[np.int32]) -> int:
    """Members of each group per node, if equal and contiguous; else 1."""
    first = network.node[groups[0]]
    local = int((first == first[0]).sum())
    if groups.shape[1] % local:
        return 1
    blocks = network.node[groups].reshape(len(groups), -1, local)
    return local if bool((blocks == blocks[..., :1]).all()) else 1


def _flat(
    network: Network, groups: NDArray[np.int32], kind: Kind, size_bytes: float, calibration: Calibration
) -> CommCost:
    """One exchange among all members: ring, directly where each pair has its own link, or inside the switch."""
    members = groups.shape[1]
    volume = SHARE[kind] * size_bytes * (members - 1) / members
    options = [_ring(network, groups, kind, volume, calibration)]
    tiers = [network.tiers[tier] for tier in np.unique(network.meeting_tier(groups[:, :1], groups[:, 1:]))]
    if all(np.isfinite(tier.pair_bytes_per_s) for tier in tiers):
        options.append(_direct(network, groups, kind, volume, calibration))
    if kind == "all_reduce" and all(tier.plane == 0 for tier in tiers):
        options += _in_switch(network, groups, size_bytes, calibration)
    return min(options, key=lambda cost: cost.time_s)


def _ring(network: Network, groups: NDArray[np.int32], kind: Kind, volume: float, calibration: Calibration) -> CommCost:
    """Ring with one channel per local rank, rotated inside the node so that each channel leaves by another NIC.

    Data travels once (all-reduce: twice) around, one step per member; only the steps between nodes are long ones.
    """
    members = groups.shape[1]
    local = _local_size(network, groups)
    nodes = members // local
    blocks = groups.reshape(len(groups), nodes, local)
    channel = (np.arange(local)[:, None] + np.arange(local)[None, :]) % local
    order = blocks[:, :, channel].transpose(0, 2, 1, 3).reshape(-1, members)
    source, target = order.ravel(), np.roll(order, -1, axis=1).ravel()
    links = busiest_links(network, source, target, np.full(source.shape, volume / local))
    turns = SHARE[kind]
    return _priced(network, links, turns * (nodes - 1), turns * (members - nodes), calibration)


def _direct(
    network: Network, groups: NDArray[np.int32], kind: Kind, volume: float, calibration: Calibration
) -> CommCost:
    """Every rank exchanges its shard with every other at once: few steps, all links of a mesh in use."""
    members = groups.shape[1]
    shift = (np.arange(members)[:, None] + np.arange(1, members)[None, :]) % members
    source = np.repeat(groups, members - 1, axis=1).ravel()
    target = groups[:, shift.ravel()].ravel()
    links = busiest_links(network, source, target, np.full(source.shape, volume / (members - 1)))
    return _priced(network, links, SHARE[kind], 0.0, calibration)


def _in_switch(
    network: Network, groups: NDArray[np.int32], size_bytes: float, calibration: Calibration
) -> list[CommCost]:
    """All-reduce by the switch: each rank sends its buffer up once and its share of the sum once more."""
    constants = _constants(network, 0, calibration)
    if constants.in_switch is None:
        return []
    plane = network.planes[0]
    port = plane.port_bytes_per_s[groups]
    bound_s = size_bytes * (1 + 1 / groups.shape[1]) / float(port.min())
    link = f"{plane.name} port out of rank {groups.ravel()[port.argmin()]}"
    latency_s = constants.launch_s + 2 * constants.in_switch.step_s
    return [CommCost(latency_s, bound_s / constants.in_switch.fraction, bound_s, link)]


def _priced(
    network: Network, links: list[LinkTime], outer_steps: float, inner_steps: float, calibration: Calibration
) -> CommCost:
    """Price loads by the better protocol: steps between nodes on the outermost plane, the others on the innermost."""
    outermost = max(link.plane for link in links)
    planes = {plane: _constants(network, plane, calibration) for plane in {0, outermost, *(x.plane for x in links)}}
    small = {plane: found.small or found for plane, found in planes.items()}
    options = []
    for protocol in (planes, small):
        slowest = max(links, key=lambda link: link.time_s / protocol[link.plane].fraction)
        steps_s = outer_steps * protocol[outermost].step_s + inner_steps * protocol[0].step_s
        options.append(
            CommCost(
                planes[outermost].launch_s + steps_s,
                slowest.time_s / protocol[slowest.plane].fraction,
                max(link.time_s for link in links),
                slowest.link,
                outermost,
            )
        )
    return min(options, key=lambda cost: cost.time_s)


def _hierarchical(
    network: Network,
    groups: NDArray[np.int32],
    kind: Kind,
    size_bytes: float,
    local: int,
    calibration: Calibration,
) -> CommCost:
    """Exchange inside the node, then ring over nodes on every rail at once; the phases follow each other."""
    nodes = groups.shape[1] // local
    inner = groups.reshape(-1, local)
    outer = groups.reshape(len(groups), nodes, local).transpose(0, 2, 1).reshape(-1, nodes)
    inside = _flat(network, inner, kind, size_bytes, calibration)
    across = _flat(network, outer, kind, size_bytes / local, calibration)
    worst = max(inside, across, key=lambda cost: cost.time_s)
    return CommCost(
        inside.latency_s + across.latency_s,
        inside.bandwidth_s + across.bandwidth_s,
        max(inside.bound_s, across.bound_s),
        worst.bottleneck,
        across.plane,
    )
