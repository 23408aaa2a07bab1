"""Measured collectives and copies as the cost functions see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import FabricCalibration
from simulator.cost.collectives import Algorithm, Kind, collective, send_recv, transfer
from simulator.fitting.fabrics.places import place
from simulator.fitting.fabrics.series import Series
from topologies.network import Network

# Tables without a message size give the large-message limit; one GiB stands for it.
LARGE_BYTES = 2.0**30
# What nccl-tests call algorithms.
NAMES: Mapping[str, Algorithm] = {
    "ring": "ring",
    "tree": "tree",
    "nvls": "in-switch",
    "nvls-tree": "in-switch-tree",
}


@dataclass(frozen=True)
class CollectiveSample:
    """One measured collective or copy: which ranks of which network, what they move, and the time it took [s]."""

    id: str
    network: Network
    group: NDArray[np.int32]
    op: str
    size_bytes: float
    measured_s: float
    algorithm: Algorithm | Literal["auto"] = "auto"

    def predict_s(self, calibration: Callable[[str], FabricCalibration]) -> float:
        """Return the time that the simulator's cost functions give with these constants [s]."""
        source, target = self.group[0, :1], self.group[0, 1:]
        if self.op == "send_recv":
            return send_recv(self.network, source, target, np.array([self.size_bytes]), calibration).time_s
        if self.op.startswith("p2p"):
            way: Literal["read", "write"] = "read" if self.op == "p2p_read" else "write"
            return transfer(self.network, source, target, np.array([self.size_bytes]), calibration, way).time_s
        kind = cast(Kind, self.op)
        return collective(self.network, self.group, kind, self.size_bytes, calibration, self.algorithm).time_s


def collective_sample(series: Series, cluster: str, row: Mapping[str, str]) -> CollectiveSample:
    """Return the operation that a row of measurements describes, on a catalogued cluster."""
    ranks, op = int(row["ranks"]), row["op"]
    nics_only = row["transport"] in {"rdma", "ib", "roce"}
    net, group = place(series, cluster, ranks, 1 if nics_only else int(row["ranks_per_node"] or 0), apart=nics_only)
    size = float(row["size_bytes"] or LARGE_BYTES)
    turns = {"all_reduce": 2.0}.get(op, 1.0) * (ranks - 1) / ranks
    rate = 1e9 * float(row["algbw_GBps"] or float(row["busbw_GBps"] or 0) / turns)
    measured_s = float(row["time_us"]) * 1e-6 if row["time_us"] else size / rate
    return CollectiveSample(row["id"], net, group, op, size, measured_s, NAMES.get(row["algorithm"], "auto"))
