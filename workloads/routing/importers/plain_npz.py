"""Plain npz files of ids or counts.

``experts`` [tokens, layers, top_k] with ``seq_lens`` or ``gen_tokens`` (tokens of each sequence) or ``seq_starts``
(first token of each); ``NAME.gate_weights.npz`` beside ``NAME.npz`` may hold ``gate_weight_e4``, weights in units of
1e-4. Or arrays ``PART_counts`` [layers, experts], each of them a step.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import INTEGERS, npz_names, read_npz
from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, count_trace, naming, token_trace

_LENS = ("seq_lens", "gen_tokens", "seq_starts")
_GATES = ".gate_weights.npz"


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read one or several files of one model."""
    tokens = [path for path in paths if not path.name.endswith(_GATES)]
    if not tokens:
        raise WorkloadError("only gate weights given; name the file of the experts")
    with naming(tokens[0]):
        names = npz_names(tokens[0])
    if "experts" not in names:
        return _counts(tokens, options)
    ids, lens, gates = [], [], []
    for path in tokens:
        with naming(path):
            own, own_lens = _ids(path)
            ids.append(own)
            lens.append(own_lens)
            weights = _gates(path, own.shape)
            if weights is not None:
                gates.append(weights)
    if len({part.shape[1:] for part in ids}) > 1:
        raise WorkloadError("experts: layers or top-k differ between the files")
    weights = np.concatenate(gates) if len(gates) == len(ids) else None
    return token_trace(np.concatenate(ids), np.concatenate(lens), options, (), weights)


def _ids(path: Path) -> tuple[Integers, Integers]:
    name = next((name for name in _LENS if name in npz_names(path)), _LENS[0])
    arrays = read_npz(path, {"experts": INTEGERS, name: INTEGERS})
    ids, lens = arrays["experts"], arrays[name].astype(np.int64)
    if name == "seq_starts":
        if lens.ndim != 1 or not lens.size or lens[0] != 0:
            raise WorkloadError(f"seq_starts: {lens.shape}: must start with 0")
        lens = np.diff(lens, append=len(ids))
    return ids, lens


def _gates(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    beside = path.with_name(path.name.removesuffix(".npz") + _GATES)
    if not beside.is_file():
        return None
    with naming(beside):
        weights = read_npz(beside, {"gate_weight_e4": INTEGERS})["gate_weight_e4"]
        if weights.shape != shape:
            raise WorkloadError(f"gate_weight_e4: {weights.shape}: must be of the shape of experts {shape}")
        return (weights / np.float64(1e4)).astype(np.float32)


def _counts(paths: Sequence[Path], options: Options) -> Imported:
    steps: list[Integers] = []
    for path in paths:
        with naming(path):
            names = [name for name in npz_names(path) if name.endswith("_counts")]
            if not names:
                raise WorkloadError(f"experts, *_counts: missing; the file has {', '.join(npz_names(path))}")
            parts = sorted({name.split("_")[0] for name in names})
            if options.part is None and len(parts) > 1:
                raise WorkloadError(f"part: the file holds {', '.join(parts)}; state one with --part")
            chosen = [name for name in names if options.part in (None, name.split("_")[0])]
            if not chosen:
                raise WorkloadError(f"part: '{options.part}': not in the file; it holds {', '.join(parts)}")
            arrays = read_npz(path, dict.fromkeys(chosen, INTEGERS))
            if len({array.shape for array in arrays.values()}) > 1:
                raise WorkloadError("counts: [layers, experts] differ between the arrays")
            steps += arrays.values()
    if len({array.shape for array in steps}) > 1:
        raise WorkloadError("counts: [layers, experts] differ between the files")
    return count_trace(np.stack(steps), options)
