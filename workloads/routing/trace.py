"""Recorded routing: which experts each token used, in npz or Parquet.

Both hold, per token and MoE layer, the ids of its top-k logical experts; tokens of a sequence are consecutive. npz:
``experts`` [tokens, layers, top_k], ``seq_lens`` [sequences], optionally ``gate_weights`` [tokens, layers, top_k], and
``about``, a JSON string. Parquet: one row per token with ``sequence``, ``experts`` (layers x top_k ids) and optionally
``gate_weights``, and the same JSON under the schema key ``epsim``. `workloads.routing.counts` is the coarser form.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import FLOATS, INTEGERS, TEXT, npz_names, read_npz
from workloads.errors import WorkloadError
from workloads.routing import files

Phase = Literal["prefill", "decode", "mixed"]
_ABOUT: dict[str, type] = {
    "model": str,
    "routed_experts": int,
    "phase": str,
    "source": str,
    "licence": str,
    "digest": str,
}
NOT_NATIVE = (
    "no trace in the native form: it does not say what was recorded; bring it in with "
    "`epsim trace import FILE --model NAME -o TRACE.npz`"
)
ONLY_COUNTS = "holds tokens per expert only; this needs each token's experts, so record per token"
_KINDS = {"experts": INTEGERS, "seq_lens": INTEGERS, "gate_weights": FLOATS, "about": TEXT}


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded routing of one model.

    Parameters
    ----------
    experts
        ``[tokens, layers, top_k]`` logical expert ids; MoE layers only.
    seq_lens
        ``[sequences]`` tokens of each sequence, in the order of the tokens.
    routed_experts
        Routed experts of the model.
    model, phase, source, licence
        What was recorded, where it comes from, and under which terms.
    gate_weights
        ``[tokens, layers, top_k]`` weight of each choice as the router gave it, if it was recorded.

    Raises
    ------
    WorkloadError
        If the arrays contradict each other; one line per defect.
    """

    experts: NDArray[np.integer[Any]]
    seq_lens: NDArray[np.integer[Any]]
    routed_experts: int
    model: str
    phase: Phase = "mixed"
    source: str = ""
    licence: str = ""
    gate_weights: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        problems = [f"trace: {defect}" for defect in _defects(self)]
        if problems:
            raise WorkloadError(*problems)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return int(self.experts.shape[0])

    @property
    def moe_layers(self) -> int:
        """MoE layers."""
        return int(self.experts.shape[1])

    @property
    def top_k(self) -> int:
        """Experts per token."""
        return int(self.experts.shape[2])

    @property
    def digest(self) -> str:
        """SHA-256 of what was recorded, whatever the file and the types of its arrays."""
        content = hashlib.sha256(f"{self.experts.shape} {self.routed_experts}".encode())
        content.update(np.ascontiguousarray(self.experts, dtype="<u2").data)
        content.update(np.ascontiguousarray(self.seq_lens, dtype="<i4").data)
        if self.gate_weights is not None:
            content.update(np.ascontiguousarray(self.gate_weights, dtype="<f4").data)
        return content.hexdigest()


def _defects(trace: Trace) -> list[str]:
    ids, lens = trace.experts, trace.seq_lens
    if not (isinstance(ids, np.ndarray) and isinstance(lens, np.ndarray)):
        return [f"experts {type(ids).__name__}, seq_lens {type(lens).__name__}: must both be numpy arrays"]
    found = [
        f"{name}: {array.dtype}: must be native-endian integers"
        for name, array in (("experts", ids), ("seq_lens", lens))
        if array.dtype.kind not in "iu" or not array.dtype.isnative
    ]
    if ids.ndim != 3:
        found.append(f"experts: shape {ids.shape}: must be [tokens, layers, top_k]")
    if lens.ndim != 1:
        found.append(f"seq_lens: shape {lens.shape}: must be [sequences]")
    if trace.phase not in get_args(Phase):
        found.append(f"phase: {trace.phase!r}: must be one of {', '.join(get_args(Phase))}")
    if found:
        return found
    if not ids.size or not lens.size:
        return [f"experts {ids.shape}, seq_lens {lens.shape}: empty; record at least one token"]
    if lens.min() < 1 or lens.sum() != len(ids):
        found.append(f"seq_lens: sum {lens.sum()}, least {lens.min()}: must be positive and sum to {len(ids)} tokens")
    if ids.min() < 0 or ids.max() >= trace.routed_experts:
        wrong = np.argwhere((ids < 0) | (ids >= trace.routed_experts))[0]
        found.append(
            f"experts: token {wrong[0]}, layer {wrong[1]}: id {ids[tuple(wrong)]}: "
            f"must be 0 to {trace.routed_experts - 1}"
        )
    for layer in range(ids.shape[1]):
        ordered = np.sort(ids[:, layer], axis=1)
        repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if repeated.any():
            token = int(repeated.argmax())
            found.append(f"experts: token {token}, layer {layer}: {ids[token, layer].tolist()}: repeats an expert")
            break
    return found + _gate_defects(trace)


def _gate_defects(trace: Trace) -> list[str]:
    gates = trace.gate_weights
    if gates is None:
        return []
    if gates.dtype.kind != "f" or not gates.dtype.isnative or gates.shape != trace.experts.shape:
        return [f"gate_weights: {gates.dtype} {gates.shape}: must be floats of the shape {trace.experts.shape}"]
    wrong = ~np.isfinite(gates) | (gates < 0)
    if wrong.any():
        token, layer, choice = np.argwhere(wrong)[0]
        return [f"gate_weights: token {token}, layer {layer}: {gates[token, layer, choice]}: must be 0 or more"]
    return []


class Shaped(Protocol):
    """What a trace says of its model, whichever form it has; top_k 0 if not known."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def moe_layers(self) -> int:
        """MoE layers."""

    @property
    def routed_experts(self) -> int:
        """Routed experts."""

    @property
    def top_k(self) -> int:
        """Experts per token."""


def check_model(trace: Shaped, model: str, moe_layers: int, routed_experts: int, top_k: int) -> None:
    """Refuse a trace whose dimensions are not the model's.

    Raises
    ------
    WorkloadError
        Naming both, in one line.
    """
    recorded = (trace.moe_layers, trace.routed_experts, trace.top_k or top_k)
    if recorded != (moe_layers, routed_experts, top_k):
        shapes = [
            "{} MoE layers x {} experts x top-{}".format(*s) for s in (recorded, (moe_layers, routed_experts, top_k))
        ]
        raise WorkloadError(
            f"trace: recorded from {trace.model} ({shapes[0]}), but {model} has {shapes[1]}; "
            "use a trace of this model or the fitted statistics"
        )


def read_trace(path: str | Path, about: Mapping[str, Any] | None = None) -> Trace:
    """Read a trace in the native format.

    Parameters
    ----------
    path
        ``.npz`` or ``.parquet`` file.
    about
        What the trace is of (`routed_experts`, `model` ...), for an npz file that does not say so itself.

    Raises
    ------
    WorkloadError
        One line per defect, each naming the file.
    """
    path = Path(path)
    try:
        columns = _columns(path, bool(about))
        stated = files.read_about(columns.pop("about"), _ABOUT, about or {}, required=["model", "routed_experts"])
        digest = stated.pop("digest", None)
        trace = Trace(**columns, **stated)
        if digest not in (None, trace.digest):
            raise WorkloadError(f"digest: {digest:.20}...: the content has {trace.digest:.20}...; damaged")
        return trace
    except WorkloadError as error:
        raise WorkloadError(*(f"{path}: {problem}" for problem in error.problems)) from error


def _columns(path: Path, may_be_silent: bool) -> dict[str, Any]:
    """Return experts, seq_lens, gate_weights if there are any, and the JSON `about` of a file."""
    if files.is_parquet(path):
        return _parquet_columns(path)
    names = npz_names(path)
    if "counts" in names and "experts" not in names:
        raise WorkloadError(ONLY_COUNTS)
    optional = [name for name in ("gate_weights", "about") if name in names]
    required = ["experts", "seq_lens", *([] if may_be_silent else ["about"])]
    if required[-1] == "about" and "about" not in names:
        raise WorkloadError(NOT_NATIVE)
    found: dict[str, Any] = read_npz(path, {name: _KINDS[name] for name in dict.fromkeys([*required, *optional])})
    return {**found, "about": str(found.get("about", "{}"))}


def _parquet_columns(path: Path) -> dict[str, Any]:
    if "experts" not in (names := files.parquet_names(path)) and "counts" in names:
        raise WorkloadError(ONLY_COUNTS)
    columns, texts = files.read_parquet(path, {"experts": "uint16", "gate_weights?": "float"}, ["sequence"])
    tokens, width = columns["experts"].shape
    top_k = texts.get("top_k", "")
    if not top_k.isdecimal() or not 0 < int(top_k) <= width or width % int(top_k):
        raise WorkloadError(f"experts: {width} ids per token: must be layers x top_k (top_k {top_k or 'missing'})")
    row = columns.pop("sequence")
    if row[0] != 0 or not np.isin(np.diff(row), (0, 1)).all():
        raise WorkloadError("sequence: must count up from 0, all tokens of a sequence together")
    if columns.get("gate_weights", columns["experts"]).shape != (tokens, width):
        raise WorkloadError(f"gate_weights: {columns['gate_weights'].shape[1]} per token, but {width} ids")
    shaped = {name: values.reshape(tokens, -1, int(top_k)) for name, values in columns.items()}
    return {**shaped, "seq_lens": np.bincount(row).astype(np.int32), "about": texts[files.ABOUT_KEY]}


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace as ``.npz`` or ``.parquet``, whole or not at all.

    Raises
    ------
    WorkloadError
        If the name ends otherwise or the file can't be written.
    """
    path = Path(path)
    about = json.dumps({name: getattr(trace, name) for name in _ABOUT}, ensure_ascii=False)
    gates = {} if trace.gate_weights is None else {"gate_weights": trace.gate_weights.astype("<f4")}
    with files.whole(path) as file:
        if path.suffix == ".npz":
            narrow = np.uint8 if trace.routed_experts <= 256 else np.uint16
            ids, lens = trace.experts.astype(narrow), trace.seq_lens.astype("<i4")
            np.savez_compressed(file, experts=ids, seq_lens=lens, **gates, about=about)  # type: ignore[arg-type]
        else:
            sequence = np.repeat(np.arange(trace.seq_lens.size, dtype=np.int32), trace.seq_lens)
            wide = {"experts": trace.experts.astype(np.uint16), **gates}
            rows = {name: values.reshape(trace.tokens, -1) for name, values in wide.items()}
            files.write_parquet(
                file, {"sequence": sequence, **rows}, {files.ABOUT_KEY: about, "top_k": str(trace.top_k)}
            )
