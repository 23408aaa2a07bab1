"""Coarse recorded routing: tokens per expert in each step, where each token's own experts were not kept.

npz: ``counts`` [steps, layers, experts] and ``about``, a JSON string. Parquet: a row per step and layer with ``step``,
``layer`` and ``counts`` (one per expert), and the same JSON under the schema key ``epsim``. Load, placement and replay
of counts work on it; whatever looks at the experts of one token refuses it.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import INTEGERS, TEXT, npz_names, read_npz
from workloads.errors import WorkloadError
from workloads.routing import files
from workloads.routing.trace import Phase, Trace, read_trace, write_trace

_ABOUT: dict[str, type] = {
    "model": str,
    "top_k": int,
    "in_order": bool,
    "phase": str,
    "source": str,
    "licence": str,
    "digest": str,
}
_MOST = 1 << 48  # tokens per expert that no recording reaches; sums of them stay exact


@dataclass(frozen=True, slots=True)
class CountTrace:
    """Recorded load of one model's experts.

    Parameters
    ----------
    counts
        ``[steps, layers, experts]`` tokens that each expert received; MoE layers only.
    model, phase, source, licence
        What was recorded, where it comes from, and under which terms.
    top_k
        Experts per token, 0 if not known.
    in_order
        Whether the steps are in order of time; a circular buffer that was written out as it stood is not.

    Raises
    ------
    WorkloadError
        If the counts can't be right; one line per defect.
    """

    counts: NDArray[np.integer[Any]]
    model: str
    top_k: int = 0
    phase: Phase = "mixed"
    in_order: bool = True
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        problems = [f"trace: {defect}" for defect in _defects(self)]
        if problems:
            raise WorkloadError(*problems)

    @property
    def steps(self) -> int:
        """Recorded steps."""
        return int(self.counts.shape[0])

    @property
    def moe_layers(self) -> int:
        """MoE layers."""
        return int(self.counts.shape[1])

    @property
    def routed_experts(self) -> int:
        """Routed experts of the model."""
        return int(self.counts.shape[2])

    @property
    def digest(self) -> str:
        """SHA-256 of what was recorded, whatever the file and the type of its array."""
        content = hashlib.sha256(f"{self.counts.shape}".encode())
        content.update(np.ascontiguousarray(self.counts, dtype="<i8").data)
        return content.hexdigest()


def _defects(trace: CountTrace) -> list[str]:
    counts = trace.counts
    if not isinstance(counts, np.ndarray) or counts.dtype.kind not in "iu" or not counts.dtype.isnative:
        return [f"counts: {getattr(counts, 'dtype', type(counts).__name__)}: must be native-endian integers"]
    if counts.ndim != 3 or not counts.size:
        return [f"counts: shape {counts.shape}: must be [steps, layers, experts], none of them 0"]
    found = []
    if trace.phase not in get_args(Phase):
        found.append(f"phase: {trace.phase!r}: must be one of {', '.join(get_args(Phase))}")
    if not 0 <= trace.top_k <= trace.routed_experts:
        found.append(f"top_k: {trace.top_k}: must be 0 (not known) to {trace.routed_experts}")
    if not counts.any():
        found.append("counts: all 0; record at least one token")
    if counts.min() < 0 or counts.max() > _MOST:
        step, layer, expert = np.argwhere((counts < 0) | (counts > _MOST))[0]
        value = counts[step, layer, expert]
        found.append(f"counts: step {step}, layer {layer}, expert {expert}: {value}: must be 0 or more")
    return found


def read_recorded(path: str | Path) -> Trace | CountTrace:
    """Read recorded routing in the native format, token by token or as counts.

    Parameters
    ----------
    path
        ``.npz`` or ``.parquet`` file, or the name of a trace that ships.

    Raises
    ------
    WorkloadError
        One line per defect, each naming the file.
    """
    path = files.trace_file(path)
    try:
        names = files.parquet_names(path) if files.is_parquet(path) else npz_names(path)
        if "counts" in names and "experts" not in names:
            return _read_counts(path)
    except WorkloadError as error:
        raise WorkloadError(*(f"{path}: {problem}" for problem in error.problems)) from error
    return read_trace(path)


def _read_counts(path: Path) -> CountTrace:
    if files.is_parquet(path):
        columns, texts = files.read_parquet(path, {"counts": "int64"}, ["step", "layer"])
        text, layers = texts[files.ABOUT_KEY], int(columns["layer"].max()) + 1
        rows = np.arange(len(columns["counts"]))
        if not (np.array_equal(columns["layer"], rows % layers) and np.array_equal(columns["step"], rows // layers)):
            raise WorkloadError("step, layer: must count up from 0, every layer in each step")
        counts = columns["counts"].reshape(-1, layers, columns["counts"].shape[1])
    else:
        arrays = read_npz(path, {"counts": INTEGERS, "about": TEXT})
        counts, text = arrays["counts"], str(arrays["about"])
    stated = files.read_about(text, _ABOUT, {}, required=["model"])
    digest = stated.pop("digest", None)
    trace = CountTrace(counts, **stated)
    if digest not in (None, trace.digest):
        raise WorkloadError(f"digest: {digest:.20}...: the content has {trace.digest:.20}...; damaged")
    return trace


def split_steps(trace: CountTrace, holdout: float) -> tuple[CountTrace, CountTrace]:
    """Return the steps that are known and the last ones, which are held out; all of them twice for none.

    Parameters
    ----------
    holdout
        Share of the steps that is held out.

    Raises
    ------
    WorkloadError
        If the recording has too few steps, or not in order.
    """
    if not holdout:
        return trace, trace
    known = trace.steps - round(trace.steps * holdout)
    if not trace.in_order or not 0 < known < trace.steps:
        why = f"has {trace.steps} steps" if trace.in_order else "does not say the order of its steps"
        raise WorkloadError(f"trace: {why}: can't hold out the last {holdout:.0%}; use no holdout, or another trace")
    return replace(trace, counts=trace.counts[:known]), replace(trace, counts=trace.counts[known:])


def write_counts(trace: CountTrace, path: str | Path) -> None:
    """Write counts as ``.npz`` or ``.parquet``, whole or not at all.

    Raises
    ------
    WorkloadError
        If the name ends otherwise or the file can't be written.
    """
    path = Path(path)
    about = json.dumps({name: getattr(trace, name) for name in _ABOUT}, ensure_ascii=False)
    counts = trace.counts.astype("<i8")
    with files.whole(path) as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, counts=counts, about=about)
        else:
            step, layer = np.indices(counts.shape[:2], dtype=np.int32).reshape(2, -1)
            columns = {"step": step, "layer": layer, "counts": counts.reshape(step.size, -1)}
            files.write_parquet(file, columns, {files.ABOUT_KEY: about})


def write_recorded(trace: Trace | CountTrace, path: str | Path) -> None:
    """Write recorded routing in the native format, token by token or as counts; errors as `write_counts`."""
    if isinstance(trace, CountTrace):
        write_counts(trace, path)
    else:
        write_trace(trace, path)
