"""Routing replayed from a trace."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.phase.group import Group, moved_experts, placed
from simulator.scenario import Routing
from workloads.placement import Placement, Together, used_together
from workloads.routing.counts import CountTrace, read_recorded
from workloads.routing.destinations import Copies
from workloads.routing.files import shipped_traces
from workloads.routing.replay import resample, trace_counts, trace_destinations
from workloads.routing.trace import ONLY_COUNTS, Trace, check_model
from workloads.traffic import held_out, own_sequences, tokens_per_expert, traffic

Counts = NDArray[np.int64]


def recorded_trace(routing: Routing) -> Trace | CountTrace:
    """Return the trace that a scenario names, token by token or as counts.

    Raises
    ------
    UserError, WorkloadError
        If it names none, or the file can't be used.
    """
    return _file(routing.trace or "")


def served_trace(routing: Routing) -> Trace:
    """Return the part of the scenario's trace that is served; errors as `recorded_trace`."""
    return _parts(routing.trace or "", routing.holdout)[1]


class Replayed(NamedTuple):
    """Batches of a trace."""

    counts: Counts  # [batches, layers, experts]
    placement: Placement
    copies: Copies
    moved: int  # see `simulator.phase.group.moved_experts`


def replayed(routing: Routing, group: Group) -> Replayed:
    """Return batches of the trace: tokens per expert, where these are, and the copies that arrive.

    Experts are placed by what is known of the trace. Where a batch holds whole sequences, or more of each than was
    recorded, it is made of whole recorded ones; where it holds a few tokens of each, as in decode, of runs of as many.
    """
    seen, served = _parts(routing.trace or "", routing.holdout)
    experts = group.experts
    check_model(served, "the scenario's model", group.moe_layers, experts.routed_experts, experts.top_k)
    load = tokens_per_expert(seen.experts, experts.routed_experts).astype(np.float64)
    near = routing.placement == "affinity"
    placement = placed(routing, group, load, _together(routing, 0) if near else None)
    now = tokens_per_expert(served.experts, experts.routed_experts).astype(np.float64)
    moved = moved_experts(routing, group, placement, now, _together(routing, 1) if near else None)
    run = max(1, round(group.tokens / group.sequences))
    if run < served.tokens / served.seq_lens.size:
        return Replayed(*_runs(served, group, placement, run), moved)
    drawn = resample(served, group.tokens, group.batches, group.stream("tokens"))
    copies = trace_destinations(served, drawn, placement, group.ranks_per_node)
    return Replayed(trace_counts(served, drawn), placement, copies, moved)


def _runs(trace: Trace, group: Group, placement: Placement, run: int) -> tuple[Counts, Placement, Copies]:
    rows = own_sequences(trace, 1, group.tokens, run, group.batches, group.stream("tokens"))[:, 0]
    source = np.array([group.tokens])
    counts, ranks, nodes = [], [], []
    for batch in rows:
        ids = trace.experts[batch]
        found = traffic(ids, source, placement, group.ranks_per_node)
        counts.append(tokens_per_expert(ids, trace.routed_experts))
        ranks.append(found.to_rank[:, 0])
        nodes.append(found.to_node[:, 0])
    return np.stack(counts), placement, Copies(np.stack(ranks).astype(np.float64), np.stack(nodes).astype(np.float64))


@lru_cache(maxsize=4)
def _file(path: str) -> Trace | CountTrace:
    if not path:
        raise UserError(
            "routing.trace: missing with routing.kind = 'trace'; name a native trace file (npz or Parquet), or a "
            f"shipped trace ({', '.join(shipped_traces())})"
        )
    return read_recorded(path)


@lru_cache(maxsize=4)
def _parts(path: str, holdout: float) -> tuple[Trace, Trace]:
    """Return what experts are placed by, and what is served."""
    trace = _file(path)
    if isinstance(trace, CountTrace):
        raise UserError(f"routing.trace = {path}: {ONLY_COUNTS}")
    return held_out(trace, holdout, in_time=True) if holdout else (trace, trace)


def _together(routing: Routing, part: int) -> Together:
    """Return the pairs of the part that is placed by (0) or served (1)."""
    return _counted(routing.trace or "", routing.holdout, part if routing.holdout else 0)


@lru_cache(maxsize=2)
def _counted(path: str, holdout: float, part: int) -> Together:
    trace = _parts(path, holdout)[part]
    return used_together(trace.experts, trace.routed_experts)
