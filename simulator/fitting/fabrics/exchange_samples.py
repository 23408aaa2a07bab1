"""Measured dispatches and combines as the cost functions see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from simulator.calibration.fabrics import PARTS, FabricCalibration
from simulator.cost.expert_parallel import ExpertPaths, Mode, Op, expert_paths, over_nics, token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.fitting.fabrics.constants import lookup
from simulator.fitting.fabrics.places import place
from simulator.fitting.fabrics.series import Series

FORMATS = {"nvfp4": "fp4"}
# Constants that only say which way copies go, until the fit replaces them.
NOTHING = {"fraction": 1.0, "dispatch_fixed_s": 0.0, "combine_fixed_s": 0.0}


@dataclass(frozen=True)
class ExchangeSample:
    """One measured dispatch or combine: which ranks of which network, the copies, and the time it took [s].

    Parameters
    ----------
    paths
        The network as the group sees it; its constants are replaced.
    cores
        Cores that copied, where the measurement says so.
    host
        Whether launches and host code are part of the time.
    """

    id: str
    paths: ExpertPaths
    mode: Mode
    library: str | None
    cores: int | None
    op: Op
    copies_to_rank: float
    copies_to_node: float
    size_bytes: float
    host: bool
    measured_s: float

    def predict_s(self, calibration: Callable[[str], FabricCalibration]) -> float:
        """Return the time that the simulator's cost functions give with these constants [s]."""
        paths = self.paths.with_constants(self.mode, calibration, self.library)
        paths = replace(paths, cores=paths.outer.cores if self.cores is None else self.cores)
        to_rank, to_node = np.full(paths.ranks, self.copies_to_rank), np.full(paths.nodes, self.copies_to_node)
        return float(dispatch_cost(paths, self.op, to_rank, to_node, self.size_bytes, self.host).time_s)


def exchange_sample(series: Series, cluster: str, row: Mapping[str, str]) -> ExchangeSample:
    """Return one dispatch or combine; copies follow from the routing shape, and logical bandwidths count them all."""
    ranks, tokens, top_k = int(row["ranks"]), float(row["tokens_per_rank"]), int(row["top_k"])
    nics_only = row["transport"] == "rdma"
    net, group = place(series, cluster, ranks, 1 if nics_only else int(row["ranks_per_node"] or 0))
    if nics_only:
        net = over_nics(net)
    size = token_bytes(int(row["hidden"]), FORMATS.get(row["payload_dtype"], row["payload_dtype"]))
    library = None if series.part in PARTS else series.part
    known = lookup({(plane.fabric, series.part): NOTHING | series.marks for plane in net.planes})
    paths = expert_paths(net, group, series.runs_as, known, library=library)
    nodes = paths.nodes if len(net.planes) > 1 else 1
    reachable = min(int(row["topk_groups"] or nodes), nodes)
    to_node = _distinct(reachable, top_k)
    to_rank = float(top_k)
    if not paths.counts_expert_copies:
        balanced = row["router"] == "balanced"
        to_rank = float(min(ranks, top_k)) if balanced else _distinct(ranks * reachable // nodes, top_k)
    elif row["evidence"] == "D" and row["algbw_GBps"]:
        # Tables from data files mask part of the copies at small batches: bandwidth x time says how many were sent.
        to_rank = float(row["algbw_GBps"]) * float(row["time_us"]) * 1e3 / (size * tokens)
    logical = tokens * size * (to_node if paths.forwarded else to_rank)
    if row["time_us"]:
        measured_s = (float(row["time_us"]) + float(row["notify_us"] or 0.0)) * 1e-6
    else:
        measured_s = logical / (float(row["algbw_GBps"]) * 1e9)
    return ExchangeSample(
        row["id"],
        paths,
        series.runs_as,
        library,
        int(row["comm_cores"]) if row["comm_cores"] else None,
        "dispatch" if row["op"] == "dispatch" else "combine",
        tokens * to_rank,
        tokens * to_node * ranks / nodes,
        size,
        row["time_scope"] != "kernel",
        measured_s,
    )


def _distinct(places: int, top_k: int) -> float:
    """Return the expected number of different places that `top_k` uniform draws hit."""
    return float(places * (1.0 - (1.0 - 1.0 / places) ** top_k))
