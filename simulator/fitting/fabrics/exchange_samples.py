"""Measured dispatches and combines as the cost functions see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import FabricCalibration
from simulator.cost.expert_parallel import dispatch_cost, expert_paths, token_bytes
from simulator.fitting.fabrics.places import place
from simulator.fitting.fabrics.series import Part, Series
from topologies.network import Network


@dataclass(frozen=True)
class ExchangeSample:
    """One measured dispatch or combine: which ranks of which network, the copies, and the time it took [s]."""

    id: str
    network: Network
    group: NDArray[np.int32]
    op: str
    part: Part
    copies_to_rank: float
    copies_to_node: float
    size_bytes: float
    measured_s: float

    def predict_s(self, calibration: Callable[[str], FabricCalibration]) -> float:
        """Return the time that the simulator's cost functions give with these constants [s]."""
        mode: Literal["normal", "low-latency"] = "normal" if self.part == "normal" else "low-latency"
        paths = expert_paths(self.network, self.group, mode, calibration)
        to_rank, to_node = np.full(paths.ranks, self.copies_to_rank), np.full(paths.nodes, self.copies_to_node)
        op: Literal["dispatch", "combine"] = "dispatch" if self.op == "dispatch" else "combine"
        return float(dispatch_cost(paths, op, to_rank, to_node, self.size_bytes).time_s)


def exchange_sample(series: Series, cluster: str, row: Mapping[str, str]) -> ExchangeSample:
    """Return one dispatch or combine; copies follow from the routing shape, and logical bandwidths count them all."""
    ranks, tokens, top_k = int(row["ranks"]), float(row["tokens_per_rank"]), int(row["top_k"])
    net, group = place(series, cluster, ranks, int(row["ranks_per_node"] or 0))
    size = token_bytes(int(row["hidden"]), row["payload_dtype"])
    nodes = len(np.unique(net.node[group])) if len(net.planes) > 1 else 1
    reachable = min(int(row["topk_groups"] or nodes), nodes)
    to_node = _distinct(reachable, top_k)
    to_rank = float(top_k)
    if series.part == "normal" or series.once_per_rank:
        balanced = row["router"] == "balanced"
        to_rank = float(min(ranks, top_k)) if balanced else _distinct(ranks * reachable // nodes, top_k)
    elif row["evidence"] == "D" and row["algbw_GBps"]:
        # Tables from data files mask part of the copies at small batches: bandwidth x time says how many were sent.
        to_rank = float(row["algbw_GBps"]) * float(row["time_us"]) * 1e3 / (size * tokens)
    logical = tokens * size * (to_node if nodes > 1 and series.part == "normal" else to_rank)
    if row["time_us"]:
        measured_s = (float(row["time_us"]) + float(row["notify_us"] or 0.0)) * 1e-6
    else:
        measured_s = logical / (float(row["algbw_GBps"]) * 1e9)
    per_node = tokens * to_node * ranks / nodes
    return ExchangeSample(row["id"], net, group, row["op"], series.part, tokens * to_rank, per_node, size, measured_s)


def _distinct(places: int, top_k: int) -> float:
    """Return the expected number of different places that `top_k` uniform draws hit."""
    return float(places * (1.0 - (1.0 - 1.0 / places) ** top_k))
