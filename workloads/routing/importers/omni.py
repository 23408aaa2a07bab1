"""Omni-infer's activation dumps: text, a row per layer, a column per expert position of the rank.

Source: omni-ai-npu/omni-infer (OmniPlacement's activation_counts_recordstep_<step>_rank_<rank>.txt; rank 0 may also
write one file of all ranks, without the last part of the name).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, count_trace, naming, to_logical
from workloads.routing.importers.tables import lines_of, whole_numbers

_NAME = re.compile(r"activation_counts_recordstep_(\d+)(?:_rank_(\d+))?\.txt")


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read the dumps of all ranks; positions are experts in order unless a placement is given."""
    steps: dict[int, dict[int, Integers]] = {}
    for path in paths:
        with naming(path):
            named = _NAME.fullmatch(path.name)
            if named is None:
                raise WorkloadError("must be named activation_counts_recordstep_<step>_rank_<rank>.txt")
            ranks = steps.setdefault(int(named[1]), {})
            if int(named[2] or 0) in ranks:
                raise WorkloadError(f"rank {named[2] or 0} of step {named[1]}: given twice")
            ranks[int(named[2] or 0)] = _rows(path)
    _check_complete(steps)
    counts = np.stack([np.concatenate([ranks[r] for r in sorted(ranks)], axis=1) for _, ranks in sorted(steps.items())])
    filled = np.asarray(counts.any(axis=(1, 2)))
    if not filled.any():
        raise WorkloadError("counts: all 0; nothing was recorded")
    notes = [] if filled.all() else [f"{(~filled).sum()} of {filled.size} steps without tokens: left out"]
    if options.physical_to_logical is None:
        notes.append("positions were read as experts in order; state --placement if experts were placed otherwise")
        return count_trace(counts[filled], options, notes)
    return count_trace(to_logical(counts[filled], options.physical_to_logical, options.routed_experts), options, notes)


def _rows(path: Path) -> Integers:
    rows = [whole_numbers(line, f"line {number}") for number, line in enumerate(lines_of(path), 1)]
    wrong = [number for number, row in enumerate(rows, 1) if row.size != rows[0].size or not row.size]
    if wrong:
        raise WorkloadError(
            f"line {wrong[0]}: {rows[wrong[0] - 1].size} numbers, but line 1 has {rows[0].size}; truncated"
        )
    return np.stack(rows)


def _check_complete(steps: dict[int, dict[int, Integers]]) -> None:
    """Refuse steps that lack a rank, or whose files differ in shape."""
    ranks = max(max(found) for found in steps.values()) + 1
    problems = [
        f"step {step}: rank {rank} is missing; give the files of all {ranks} ranks"
        for step, found in sorted(steps.items())
        for rank in range(ranks)
        if rank not in found
    ]
    shapes = {rows.shape for found in steps.values() for rows in found.values()}
    if len(shapes) > 1:
        problems.append(
            f"layers x positions differ between the files: {', '.join(map(str, sorted(shapes)))}; truncated"
        )
    if problems:
        raise WorkloadError(*problems[:5])
