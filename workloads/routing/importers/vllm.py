"""vLLM's expert-parallel load balancer: its load tensors, and the line that it logs for a step.

Source: vllm-project/vllm:vllm/distributed/eplb/eplb_state.py (`expert_load_window` [steps, layers, positions] is a
circular buffer, `expert_load_pass` [layers, positions] one step, `physical_to_logical_map` [layers, positions]).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workloads.containers.numpy_file import one_line
from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Options,
    count_trace,
    integer_array,
    named_arrays,
    naming,
    to_logical,
)

_LINE = re.compile(r"EPLB step: .*?avg_tokens=([\d.]+), max_tokens=(\d+), balancedness=([\d.]+)")


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read load tensors with the map from positions to experts; files of several ranks are added up."""
    total = None
    for path in paths:
        with naming(path):
            arrays = {name.rsplit(".", 1)[-1]: array for name, array in named_arrays(path).items()}
            if "physical_to_logical_map" not in arrays:
                raise WorkloadError(f"physical_to_logical_map: missing; the file has {', '.join(arrays) or 'nothing'}")
            if "expert_load_window" in arrays:
                counts = integer_array(arrays["expert_load_window"], "expert_load_window", 3)
            elif "expert_load_pass" in arrays:
                counts = integer_array(arrays["expert_load_pass"], "expert_load_pass", 2)[None]
            else:
                raise WorkloadError(f"expert_load_window, expert_load_pass: missing; the file has {', '.join(arrays)}")
            held = integer_array(arrays["physical_to_logical_map"], "physical_to_logical_map", 2)
            logical = to_logical(counts, held, options.routed_experts)
            if total is not None and total.shape != logical.shape:
                raise WorkloadError(f"load: {logical.shape}: the files before have {total.shape}")
            total = logical if total is None else total + logical
    if total is None or not total.any():
        raise WorkloadError("load: all 0; nothing was recorded")
    filled = np.asarray(total.any(axis=(1, 2)))
    notes = ["the window is circular: the order of its steps is not known"] if len(total) > 1 else []
    if not filled.all():
        notes.append(f"{(~filled).sum()} of {filled.size} steps of the window are empty: left out")
    return count_trace(total[filled], options, notes, in_order=len(total) == 1)


class LoggedStep(NamedTuple):
    """One logged step: tokens of the mean and of the busiest rank, summed over layers, and their ratio."""

    mean_tokens: float
    busiest_tokens: int
    balancedness: float


def read_log(path: Path) -> list[LoggedStep]:
    """Return the steps that vLLM logged with balancedness, without those that had no token.

    Raises
    ------
    WorkloadError
        If no line is one, or a ratio is not that of its tokens.
    """
    with one_line():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    steps = []
    for number, line in enumerate(lines, 1):
        found = _LINE.search(line)
        if found is None:
            continue
        step = LoggedStep(float(found[1]), int(found[2]), float(found[3]))
        if step.busiest_tokens and abs(step.mean_tokens / step.busiest_tokens - step.balancedness) > 1e-3:
            raise WorkloadError(f"line {number}: balancedness={step.balancedness}: not avg_tokens / max_tokens")
        if step.busiest_tokens and step.mean_tokens:
            steps.append(step)
    if not steps:
        raise WorkloadError("no line 'EPLB step: avg_tokens=..., max_tokens=..., balancedness=...' with tokens in it")
    return steps
