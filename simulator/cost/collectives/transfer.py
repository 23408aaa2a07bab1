"""Copies between ranks that no collective library makes: remote reads and writes."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import CopyConstants, fabric_calibration
from simulator.cost.collectives.records import FREE, Calibration, CommCost
from simulator.cost.links import busiest_links
from topologies.network import Network

Way = Literal["write", "read"]


def transfer(
    network: Network,
    source: NDArray[np.int32],
    target: NDArray[np.int32],
    size_bytes: NDArray[np.float64],
    calibration: Calibration = fabric_calibration,
    way: Way = "write",
) -> CommCost:
    """Return the cost of a set of flows that start together, each link at its fabric's achieved fraction.

    The latency part is that of one small message between the ranks farthest apart, and a launch.

    Parameters
    ----------
    source, target, size_bytes
        ``[flows]`` ranks and bytes, see `busiest_links`.
    calibration
        Constants by fabric id.
    way
        Whether the sender writes or the receiver reads.
    """
    links = busiest_links(network, source, target, size_bytes)
    if not links:
        return FREE
    used = {link.plane: calibration(network.planes[link.plane].fabric).copies for link in links}
    achieved = [link.time_s / _fraction(used[link.plane], way) for link in links]
    slowest = int(np.argmax(achieved))
    outermost = max(used)
    return CommCost(
        network.latency_s(source, target) + used[outermost].launch_s,
        achieved[slowest],
        max(link.time_s for link in links),
        links[slowest].link,
        outermost,
        way,
    )


def _fraction(found: CopyConstants, way: Way) -> float:
    return found.write_fraction if way == "write" else found.read_fraction
