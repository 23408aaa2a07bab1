"""Recorded routing: which experts each token used, in npz or Parquet.

Both hold, per token and MoE layer, the ids of its top-k logical experts; tokens of a sequence are consecutive. npz:
``experts`` [tokens, layers, top_k], ``seq_lens`` [sequences] and ``about``, a JSON string. Parquet: one row per token
with ``sequence`` and ``experts`` (layers x top_k ids), and the same JSON under the schema key ``epsim``.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing import files

Phase = Literal["prefill", "decode", "mixed"]
_ABOUT: dict[str, type] = {"model": str, "routed_experts": int, "phase": str, "source": str, "licence": str}


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
    return found


def check_model(trace: Trace, model: str, moe_layers: int, routed_experts: int, top_k: int) -> None:
    """Refuse a trace whose dimensions are not the model's.

    Raises
    ------
    WorkloadError
        Naming both, in one line.
    """
    recorded = (trace.moe_layers, trace.routed_experts, trace.top_k)
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
        if files.is_parquet(path):
            experts, seq_lens, text = files.read_parquet(path)
        else:
            arrays = files.read_npz(path, ["experts", "seq_lens"], [] if about else ["about"])
            experts, seq_lens, text = arrays["experts"], arrays["seq_lens"], str(arrays.get("about", "{}"))
        return Trace(experts, seq_lens, **_about(text, about or {}))
    except WorkloadError as error:
        raise WorkloadError(*(f"{path}: {problem}" for problem in error.problems)) from error


def _about(text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"about: not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise WorkloadError("about: must be a JSON object")
    values = {**known, **{name: stated[name] for name in _ABOUT if name in stated}}
    problems = [f"about.{name}: missing; state it" for name in ("model", "routed_experts") if name not in values]
    problems += [
        f"about.{name}: {value!r:.40}: must be a {'positive integer' if _ABOUT[name] is int else 'string'}"
        for name, value in values.items()
        if type(value) is not _ABOUT[name] or (isinstance(value, int) and not 0 < value <= 2**16)
    ]
    if problems:
        raise WorkloadError(*problems)
    return values


def write_trace(trace: Trace, path: str | Path) -> None:
    """Write a trace as ``.npz`` or ``.parquet``, whole or not at all.

    Raises
    ------
    WorkloadError
        If the name ends otherwise or the file can't be written.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".parquet"):
        raise WorkloadError(f"{path}: must end in .npz or .parquet")
    about = json.dumps({name: getattr(trace, name) for name in _ABOUT}, ensure_ascii=False)
    narrow = np.uint8 if trace.routed_experts <= 256 else np.uint16
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            if path.suffix == ".npz":
                np.savez_compressed(
                    file, experts=trace.experts.astype(narrow), seq_lens=trace.seq_lens.astype("<i4"), about=about
                )
            else:
                files.write_parquet(file, trace.experts, trace.seq_lens, about)
        temporary.replace(path)
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror or error}; can't be written") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
