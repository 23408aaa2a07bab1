"""TensorRT-LLM's expert statistics: meta_info.json and, per rank, safetensors with keys ``<iteration>_<layer>``.

Source: NVIDIA/TensorRT-LLM:tensorrt_llm/_torch/modules/fused_moe (ExpertStatistic) and
examples/wide_ep/ep_load_balancer/utils.py: rank<r>.safetensors hold tokens per expert, rank<r>_raw.safetensors and
token_selected_experts_rank<r>.safetensors each token's experts; co-occurrences are not read.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workloads.containers.safetensors_file import read_safetensors
from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Integers,
    Options,
    count_trace,
    integer_array,
    naming,
    read_json,
    token_trace,
)

_COUNTS = re.compile(r"rank(\d+)\.safetensors")
_TOKENS = re.compile(r"(?:rank(\d+)_raw|token_selected_experts_rank(\d+))\.safetensors")
_KEY = re.compile(r"(\d+)_(\d+)")

Cells = dict[tuple[int, int], Integers]  # (iteration, layer) -> array


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read the folder of one recording: each token's experts if they were kept, else tokens per expert."""
    meta = [path for path in paths if path.name == "meta_info.json"]
    if not meta:
        raise WorkloadError("meta_info.json: missing; give the folder of the recording")
    with naming(meta[0]):
        experts, top_k = _dimensions(read_json(meta[0]), options)
    stated = Options(options.model, options.phase, options.source, options.licence, routed_experts=experts, top_k=top_k)
    raw = [path for path in paths if _TOKENS.fullmatch(path.name)]
    counted = [path for path in paths if _COUNTS.fullmatch(path.name)]
    if raw:
        return _tokens(raw, stated)
    if not counted:
        raise WorkloadError("rank<r>.safetensors: missing; give the folder of the recording")
    return _counts(counted, stated)


def _dimensions(document: object, options: Options) -> tuple[int, int]:
    found = []
    for name, given in (("num_experts", options.routed_experts), ("num_experts_per_token", options.top_k)):
        value = document.get(name) if isinstance(document, dict) else None
        if type(value) is not int or not 0 < value <= 1 << 16:
            raise WorkloadError(f"{name}: {value!r:.20}: must be a positive number")
        if given not in (None, value):
            raise WorkloadError(f"{name}: {value}, but {given} stated")
        found.append(value)
    return found[0], found[1]


def _cells(path: Path, dimensions: int) -> Cells:
    cells = {}
    for key, array in read_safetensors(path).items():
        parts = _KEY.fullmatch(key)
        if parts is None:
            raise WorkloadError(f"{key}: must be <iteration>_<layer>")
        cells[int(parts[1]), int(parts[2])] = integer_array(array, key, dimensions)
    if not cells:
        raise WorkloadError("no iteration in it; nothing was recorded")
    iterations, layers = ({key[axis] for key in cells} for axis in (0, 1))
    lacking = [(i, n) for i in sorted(iterations) for n in sorted(layers) if (i, n) not in cells]
    if lacking:
        raise WorkloadError(f"{lacking[0][0]}_{lacking[0][1]}: missing; every layer must be there in each iteration")
    return cells


def _counts(paths: Sequence[Path], options: Options) -> Imported:
    """Add up the ranks."""
    total: Cells = {}
    for path in paths:
        with naming(path):
            for key, counts in _cells(path, 1).items():
                if counts.size != options.routed_experts:
                    raise WorkloadError(
                        f"{key[0]}_{key[1]}: {counts.size} counts, but {options.routed_experts} experts"
                    )
                total[key] = total.get(key, 0) + counts.astype(np.int64)
    iterations, layers = (sorted({key[axis] for key in total}) for axis in (0, 1))
    if len(total) != len(iterations) * len(layers):
        raise WorkloadError("iterations or layers differ between the ranks; give the files of one recording")
    steps = np.stack([np.stack([total[i, n] for n in layers]) for i in iterations])
    uneven = np.asarray((np.ptp(steps.sum(axis=2), axis=1) > 0) | (steps[:, 0].sum(axis=1) % (options.top_k or 1) > 0))
    if uneven.any():
        raise WorkloadError(
            f"iteration {iterations[int(uneven.argmax())]}: its layers' counts are not the same multiple of top-"
            f"{options.top_k}; truncated, or of some layers only"
        )
    return count_trace(steps, options)


def _tokens(paths: Sequence[Path], options: Options) -> Imported:
    """Take each rank's iteration for a sequence."""
    parts: list[Integers] = []
    for path in paths:
        with naming(path):
            cells = _cells(path, 2)
            iterations, layers = (sorted({key[axis] for key in cells}) for axis in (0, 1))
            for iteration in iterations:
                own = [cells[iteration, layer] for layer in layers]
                if len({array.shape for array in own}) > 1:
                    raise WorkloadError(f"iteration {iteration}: tokens differ between layers; truncated")
                parts.append(np.stack(own, axis=1))
    if len({part.shape[1:] for part in parts}) > 1:
        raise WorkloadError("layers differ between the ranks; give the files of one recording")
    note = "which request a token is of was not recorded: each rank's iteration stands for a sequence"
    return token_trace(np.concatenate(parts), np.array([len(part) for part in parts]), options, [note])
