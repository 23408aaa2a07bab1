"""DeepSeek's ESFT expert weights: one text file per layer, one line per sequence.

Source: deepseek-ai/ESFT:results/expert_scores/*/expert_weights_<layer>.txt: ids of all tokens separated by tabs, an
empty field, and the gate weights of the same choices.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, naming, token_trace
from workloads.routing.importers.tables import lines_of, whole_numbers

_NAME = re.compile(r".*expert_weights_(\d+)\.txt(\.gz)?")

Layer = tuple[Integers, NDArray[np.float32], Integers]  # ids and weights [tokens, top_k], tokens of each sequence


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read the files of all layers of one task."""
    top_k = options.needed("top_k", "--top-k (6 for DeepSeek-V2-Lite)")
    layers: dict[int, Layer] = {}
    for path in paths:
        with naming(path):
            named = _NAME.fullmatch(path.name)
            if named is None:
                raise WorkloadError("must be named expert_weights_<layer>.txt or .txt.gz")
            if int(named[1]) in layers:
                raise WorkloadError(f"layer {named[1]}: given twice")
            layers[int(named[1])] = _layer(path, top_k)
    numbers = sorted(layers)
    lacking = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if lacking:
        raise WorkloadError(f"expert_weights_{lacking[0]}.txt: missing; give the files of all layers")
    lens = layers[numbers[0]][2]
    for number in numbers:
        if not np.array_equal(layers[number][2], lens):
            raise WorkloadError(f"layer {number}: other sequence lengths than layer {numbers[0]}; truncated")
    ids = np.stack([layers[number][0] for number in numbers], axis=1)
    gates = np.stack([layers[number][1] for number in numbers], axis=1)
    return token_trace(ids, lens, options, (), gates)


def _layer(path: Path, top_k: int) -> Layer:
    ids, gates, lens = [], [], []
    for number, line in enumerate(lines_of(path), 1):
        left, found, right = line.strip("\t").partition("\t\t")
        own = whole_numbers(left, f"line {number}")
        if not found or not own.size or own.size % top_k:
            raise WorkloadError(
                f"line {number}: {own.size} ids: must be a multiple of {top_k}, then weights; truncated"
            )
        try:
            weights = np.array(right.split(), dtype=np.float32)
        except ValueError as error:
            raise WorkloadError(f"line {number}: weights: {error}") from error
        if weights.size != own.size:
            raise WorkloadError(f"line {number}: {own.size} ids, but {weights.size} weights; truncated")
        ids.append(own.reshape(-1, top_k))
        gates.append(weights.reshape(-1, top_k))
        lens.append(own.size // top_k)
    return np.concatenate(ids), np.concatenate(gates), np.array(lens)
