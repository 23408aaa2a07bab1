"""MindSpeed-RL's collected tokens: JSON, layer -> expert -> tokens, added up over a run.

Source: the token collection of Ascend/MindSpeed-RL (one file token_collects_all.json of all ranks).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, count_trace, naming, read_json


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read collected tokens; several files are consecutive steps."""
    steps = []
    for path in paths:
        with naming(path):
            steps.append(_counts(read_json(path), options.routed_experts))
    if len({step.shape for step in steps}) > 1:
        raise WorkloadError("layers x experts differ between the files; state --experts if some were never used")
    return count_trace(np.stack(steps), options)


def _counts(document: Any, stated: int | None) -> Integers:
    if not isinstance(document, dict) or not document:
        raise WorkloadError("must be a JSON object of layers")
    cells = [
        (_number(layer, f"layer {layer!r:.20}"), _number(expert, f"layer {layer}: expert {expert!r:.20}"), tokens)
        for layer, experts in document.items()
        for expert, tokens in _experts(layer, experts)
    ]
    wrong = [f"layer {layer}, expert {expert}: {tokens!r:.20}: must be a count" for layer, expert, tokens in cells
             if type(tokens) is not int or not 0 <= tokens < 1 << 48]  # fmt: skip
    if wrong:
        raise WorkloadError(*wrong[:5])
    layer, expert, tokens = (np.array(column, dtype=np.int64) for column in zip(*cells, strict=True))
    experts = stated or int(expert.max()) + 1
    if expert.max() >= experts:
        raise WorkloadError(f"expert {expert.max()}: must be 0 to {experts - 1}")
    numbers, row = np.unique(layer, return_inverse=True)  # dense layers have no entry
    counts = np.zeros((numbers.size, experts), dtype=np.int64)
    np.add.at(counts, (row, expert), tokens)
    return counts


def _experts(layer: str, experts: Any) -> Sequence[tuple[str, Any]]:
    if not isinstance(experts, dict) or not experts:
        raise WorkloadError(f"layer {layer}: must be an object of experts")
    return list(experts.items())


def _number(text: str, place: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise WorkloadError(f"{place}: must be a number")
    return int(text)
