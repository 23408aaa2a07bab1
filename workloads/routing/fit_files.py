"""Routing statistics from recorded files: one task per file."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace, read_recorded
from workloads.routing.files import trace_file
from workloads.routing.fit import fit, fit_loads
from workloads.routing.spec import RoutingStatistics
from workloads.routing.trace import Trace, read_trace

_ABOUT = ("model", "source", "licence")


def fit_files(paths: Sequence[Path], about: Mapping[str, Any]) -> RoutingStatistics:
    """Fit routing statistics to recorded files.

    Parameters
    ----------
    paths
        Native traces or names of shipped ones, one per task and named after it: all of each token's experts, or all of
        tokens per expert.
    about
        What the files are of (`model`, `routed_experts`, `source`, `licence`), where they don't say so themselves;
        then they are npz files with `experts` and `seq_lens`.

    Raises
    ------
    WorkloadError
        If a file can't be read, or the files are of different models or kinds.
    """
    paths = [trace_file(path) for path in paths]
    recorded = {path.stem: read_trace(path, about) if "model" in about else read_recorded(path) for path in paths}
    if len(recorded) < len(paths):
        raise WorkloadError("trace: files of one name: each file is a task named after it; rename them")
    shapes = {name: _shape(trace) for name, trace in recorded.items()}
    first = next(iter(shapes))
    problems = [f"{name}: {shape}, but {first} is {shapes[first]}" for name, shape in shapes.items()]
    odd = [line for line, shape in zip(problems, shapes.values(), strict=True) if shape != shapes[first]]
    if odd:
        raise WorkloadError(*odd)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    traces = {name: trace for name, trace in recorded.items() if isinstance(trace, Trace)}
    if traces:
        return fit(traces, digests)
    loads = {name: trace for name, trace in recorded.items() if isinstance(trace, CountTrace)}
    some = loads[first]
    if not some.top_k:
        raise WorkloadError(f"{paths[0]}: does not say how many experts a token uses; state top_k")
    return fit_loads(
        {name: trace.counts.sum(axis=0).astype(np.float64) for name, trace in loads.items()},
        some.top_k,
        sum(int(trace.counts[:, 0].sum()) for trace in loads.values()) // some.top_k,
        {name: getattr(some, name) for name in _ABOUT},
        digests,
    )


def _shape(trace: Trace | CountTrace) -> str:
    kind = "each token's experts" if isinstance(trace, Trace) else "tokens per expert"
    experts = f"{trace.moe_layers} MoE layers x {trace.routed_experts} experts x top-{trace.top_k}"
    return f"{kind} of {trace.model} ({experts})"
