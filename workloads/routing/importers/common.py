"""What every importer shares: options, the result, and the way from raw ids and counts to a native trace."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import NUMBERS, npz_names, one_line, read_npy, read_npz
from workloads.containers.safetensors_file import read_safetensors
from workloads.containers.torch_file import read_torch
from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace
from workloads.routing.trace import Phase, Trace

Integers = NDArray[np.integer[Any]]
_MOST_EXPERTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Options:
    """What recordings do not say themselves.

    Parameters
    ----------
    model, phase, source, licence
        What was recorded, where it comes from, and under which terms.
    routed_experts, top_k, layers
        Dimensions of the model (`layers` counts those in the recording, dense ones included); None if the recording
        says them.
    physical_to_logical
        ``[layers, positions]`` expert held at each position, for recordings that count positions.
    part
        Which of several recordings in one file.
    """

    model: str
    phase: Phase = "mixed"
    source: str = ""
    licence: str = ""
    routed_experts: int | None = None
    top_k: int | None = None
    layers: int | None = None
    physical_to_logical: Integers | None = None
    part: str | None = None

    def needed(self, name: str, option: str) -> int:
        """Return a dimension that the recording does not hold.

        Raises
        ------
        WorkloadError
            If it was not given.
        """
        value = getattr(self, name)
        if value is None:
            raise WorkloadError(f"{name}: not in the recording; state it with {option}")
        number: int = value
        return number


@dataclass(frozen=True, slots=True)
class Imported:
    """A trace in the native form, and what was done to it on the way, a line each."""

    trace: Trace | CountTrace
    notes: tuple[str, ...] = ()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file in front of every problem found in it."""
    try:
        yield
    except WorkloadError as error:
        start = f"{path}: "
        raise WorkloadError(*(start + problem.removeprefix(start) for problem in error.problems)) from error


def dense_layers(ids: Integers) -> NDArray[np.bool_]:
    """Return ``[layers]`` whether a layer of ids ``[tokens, layers, top_k]`` routes nothing: all of them 0, or -1."""
    silent: NDArray[np.bool_] = ((ids == -1) | ((ids == 0) & (ids.shape[2] > 1))).all(axis=(0, 2))
    return silent


def token_trace(
    ids: Integers,
    seq_lens: Integers,
    options: Options,
    notes: Sequence[str] = (),
    gate_weights: NDArray[np.floating[Any]] | None = None,
) -> Imported:
    """Return a native trace of ids ``[tokens, layers, top_k]`` where -1 stands for none.

    Layers without routing (all ids 0 or all -1) are dense ones and left out, so are choices and tokens that are -1
    throughout; a token that lacks only some of its experts is refused.
    """
    said = list(notes)
    ids = np.asarray(ids)
    if ids.ndim != 3 or not ids.size or ids.dtype.kind not in "iu":
        raise WorkloadError(f"ids: {ids.dtype} {ids.shape}: must be integers [tokens, layers, top_k], none of them 0")
    silent = dense_layers(ids)
    if silent.all():
        raise WorkloadError("ids: no layer routes any token; nothing was recorded")
    if silent.any():
        said.append(f"{silent.sum()} of {silent.size} layers route nothing: taken as dense and left out")
    ids = ids[:, ~silent]
    chosen = ~(ids == -1).all(axis=(0, 1))
    ids = ids[:, :, chosen]
    gates = None if gate_weights is None else gate_weights[:, ~silent][:, :, chosen]
    padding = (ids == -1).all(axis=(1, 2))
    if padding.any():
        said.append(f"{padding.sum()} of {padding.size} tokens are padding (all ids -1): left out")
        sequence = np.repeat(np.arange(len(seq_lens)), seq_lens)[~padding]
        seq_lens = np.bincount(sequence, minlength=len(seq_lens))
        seq_lens, ids = seq_lens[seq_lens > 0], ids[~padding]
        gates = None if gates is None else gates[~padding]
    if (ids == -1).any():
        token, layer, _ = np.argwhere(ids == -1)[0]
        raise WorkloadError(f"token {token}, MoE layer {layer}: {ids[token, layer].tolist()}: some ids are -1 (none)")
    if options.top_k is not None and options.top_k != ids.shape[2]:
        raise WorkloadError(f"top_k: {ids.shape[2]} ids per token, but {options.top_k} stated")
    experts = options.needed("routed_experts", "--experts")
    trace = Trace(
        ids.astype(np.int32),  # ids beyond int32 are refused below as out of range
        np.asarray(seq_lens),
        experts,
        options.model,
        options.phase,
        options.source,
        options.licence,
        gates,
    )
    return Imported(trace, tuple(said))


def count_trace(counts: Integers, options: Options, notes: Sequence[str] = (), in_order: bool = True) -> Imported:
    """Return a native trace of counts ``[steps, layers, experts]``; layers without tokens are left out as dense."""
    said = list(notes)
    counts = np.asarray(counts)
    if counts.ndim != 3 or not counts.size or counts.dtype.kind not in "iu":
        raise WorkloadError(f"counts: {counts.dtype} {counts.shape}: must be integers [steps, layers, experts]")
    silent = (counts == 0).all(axis=(0, 2))
    if silent.any() and not silent.all():
        said.append(f"{silent.sum()} of {silent.size} layers received no token: taken as dense and left out")
        counts = counts[:, ~silent]
    if options.routed_experts not in (None, counts.shape[2]):
        raise WorkloadError(f"counts: {counts.shape[2]} experts per layer, but {options.routed_experts} stated")
    trace = CountTrace(
        counts.astype(np.int64),
        options.model,
        options.top_k or 0,
        options.phase,
        in_order,
        options.source,
        options.licence,
    )
    return Imported(trace, tuple(said))


def to_logical(counts: Integers, physical_to_logical: Integers, experts: int | None = None) -> Integers:
    """Add up counts ``[steps, layers, positions]`` by the expert at each position; a position of -1 must be empty.

    Parameters
    ----------
    physical_to_logical
        ``[layers, positions]`` expert at each position.
    experts
        Routed experts; as many as the map names if not given.
    """
    held = np.asarray(physical_to_logical)
    if held.ndim != 2 or held.shape != counts.shape[1:] or held.dtype.kind not in "iu":
        raise WorkloadError(f"physical map: {held.dtype} {held.shape}: must be integers {counts.shape[1:]}")
    experts = experts or int(held.max()) + 1
    if held.min() < -1 or not 0 < held.max() + 1 <= min(experts, _MOST_EXPERTS):
        raise WorkloadError(f"physical map: expert {held.min()} to {held.max()}: must be 0 to {experts - 1}")
    if counts[:, held == -1].any():
        raise WorkloadError("physical map: a position without expert received tokens")
    out = np.empty((*counts.shape[:2], experts), dtype=np.int64)
    for layer, of_position in enumerate(held):
        is_at = of_position[:, None] == np.arange(experts)
        out[:, layer] = counts[:, layer].astype(np.float64) @ is_at  # exact below 2^53, and quick
    return out


def named_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz, npy, safetensors or torch file by name; one without a name is called ``""``."""
    if path.suffix == ".npz":
        return read_npz(path, dict.fromkeys(npz_names(path), NUMBERS))
    if path.suffix == ".npy":
        return {"": read_npy(path, NUMBERS)}
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        try:
            return flattened(read_torch(path))
        except RecursionError as error:
            raise WorkloadError("lists in lists without end: not a recording") from error
    raise WorkloadError(f"{path.suffix or 'no suffix'}: must be .npz, .npy, .safetensors or .pt")


def flattened(content: Any, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays in nested dicts and sequences, named by the path to them."""
    if isinstance(content, np.ndarray):
        return {prefix: content}
    items = content.items() if isinstance(content, dict) else enumerate(content) if _is_sequence(content) else ()
    return {
        name: array
        for key, value in items
        for name, array in flattened(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _is_sequence(content: Any) -> bool:
    return isinstance(content, list | tuple)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    WorkloadError
        If it is not JSON, or can't be read.
    """
    with one_line():
        text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"not JSON, or truncated: {error}") from error


def integer_array(value: Any, name: str, dimensions: int) -> Integers:
    """Return a list or array as integers of the wanted number of dimensions, or refuse it by name."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise WorkloadError(f"{name}: rows of different length") from error
    if array.dtype.kind not in "iu" or array.ndim != dimensions or not array.size:
        raise WorkloadError(f"{name}: {array.dtype} {array.shape}: must be integers with {dimensions} dimensions")
    return array
