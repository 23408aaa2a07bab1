"""What a collective is, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import FabricCalibration
from simulator.cost.links import LinkTime
from topologies.network import Network

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all"]
Algorithm = Literal["ring", "tree", "halving-doubling", "direct", "hierarchical", "in-switch", "in-switch-tree"]
Calibration = Callable[[str], FabricCalibration]
Groups = NDArray[np.int32]


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
    algorithm
        How it was done, and with which protocol.
    """

    latency_s: float
    bandwidth_s: float
    bound_s: float
    bottleneck: str
    plane: int = 0
    algorithm: str = ""

    @property
    def time_s(self) -> float:
        """Latency and bandwidth parts together [s]."""
        return self.latency_s + self.bandwidth_s


FREE = CommCost(0.0, 0.0, 0.0, "none")


@dataclass(frozen=True, slots=True)
class Phase:
    """Flows that go at the same time, and the steps that they take one after another.

    Parameters
    ----------
    links
        The busiest link of each kind, at line rate.
    steps
        Steps by plane, ``[planes]``.
    """

    links: tuple[LinkTime, ...]
    steps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One collective that all groups start together.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` members; groups that share links slow each other down.
    size_bytes
        Buffer per rank [bytes].
    """

    network: Network
    groups: Groups
    kind: Kind
    size_bytes: float
    calibration: Calibration

    @property
    def members(self) -> int:
        """Ranks of a group."""
        return int(self.groups.shape[1])

    def steps(self, inner: float, outer: float, plane: int) -> tuple[float, ...]:
        """Return steps by plane: `inner` on the innermost one, `outer` on another."""
        row = [0.0] * len(self.network.planes)
        row[0] += inner
        row[plane] += outer
        return tuple(row)

    def inside(self, groups: Groups, kind: Kind, size_bytes: float) -> "Call":
        """Return a part of this collective among other groups of ranks."""
        return Call(self.network, groups, kind, size_bytes, self.calibration)
