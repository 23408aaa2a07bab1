"""llama.cpp's routing trace: CSV, one ``layer,expert`` row per choice.

Source: the moe-trace example proposed for ggml-org/llama.cpp (pull request 28544): for each batch of tokens layer by
layer, in each layer token by token, top_k rows per token.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, count_trace, naming, token_trace
from workloads.routing.importers.tables import lines_of, whole_numbers


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read rows token by token if top-k is stated, else as counts; each file is a sequence, or a step."""
    rows = []
    for path in paths:
        with naming(path):
            rows.append(_rows(path))
    experts = options.needed("routed_experts", "--experts")
    for path, own in zip(paths, rows, strict=True):
        if own[:, 1].max() >= experts:
            line = int((own[:, 1] >= experts).argmax()) + 2
            raise WorkloadError(f"{path}: line {line}: expert {own[line - 2, 1]}: must be 0 to {experts - 1}")
    layers = np.unique(np.concatenate([own[:, 0] for own in rows]))
    if options.top_k is None:
        counts = np.stack([_counts(own, layers, experts) for own in rows])
        return count_trace(counts, options, ["--top-k was not stated: tokens per expert only"])
    parts = []
    for path, own in zip(paths, rows, strict=True):
        with naming(path):
            parts.append(_tokens(own, layers, options.top_k))
    return token_trace(np.concatenate(parts), np.array([len(part) for part in parts]), options)


def _rows(path: Path) -> Integers:
    lines = lines_of(path)
    if lines[0].replace(" ", "") != "layer,expert":
        raise WorkloadError(f"line 1: '{lines[0]:.40}': must be 'layer,expert'")
    wrong = [number for number, line in enumerate(lines, 1) if line.count(",") != 1]
    if wrong:
        raise WorkloadError(f"line {wrong[0]}: '{lines[wrong[0] - 1]:.40}': must be two numbers; truncated")
    numbers = [whole_numbers(line, f"line {number}") for number, line in enumerate(lines[1:], 2)]
    if not numbers:
        raise WorkloadError("no row; record at least one token")
    short = [number for number, row in enumerate(numbers, 2) if row.size != 2]
    if short:
        raise WorkloadError(f"line {short[0]}: must be two numbers; truncated")
    return np.stack(numbers)


def _counts(rows: Integers, layers: Integers, experts: int) -> Integers:
    key = np.searchsorted(layers, rows[:, 0]) * experts + rows[:, 1]
    return np.bincount(key, minlength=layers.size * experts).reshape(layers.size, experts)


def _tokens(rows: Integers, layers: Integers, top_k: int) -> Integers:
    """Return ids ``[tokens, layers, top_k]``; a run of rows of one layer is of a batch, which every layer has."""
    runs = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    sizes = np.diff(runs, append=len(rows))
    batches = len(runs) // layers.size
    seen = rows[runs, 0]
    if len(runs) % layers.size or not np.array_equal(seen, np.tile(layers, batches)):
        raise WorkloadError("layers do not follow each other in every batch; truncated, or recorded in parallel")
    if (sizes % top_k).any() or np.ptp(sizes.reshape(batches, layers.size), axis=1).any():
        raise WorkloadError(
            f"rows of a layer are not top-{top_k} of the same tokens in each; truncated, or another top-k"
        )
    starts = runs.reshape(batches, layers.size)
    chunks = [
        rows[start[0] : start[-1] + size, 1].reshape(layers.size, -1, top_k).swapaxes(0, 1)
        for start, size in zip(starts, sizes.reshape(batches, -1)[:, 0], strict=True)
    ]
    return np.concatenate(chunks)
