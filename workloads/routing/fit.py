"""Fit routing statistics to a recorded trace: ``python -m workloads.routing.fit TRACE_DIR -o OUT.toml``.

Method of moments. The product of one expert's load in two sequences has, over experts, a mean that depends only on how
much preference the two share: all but the sequence term if they are of one task, the common term alone if they are of
two. Two tokens of one sequence share it all. Products of *different* tokens carry no sampling noise, so none has to be
subtracted. What the model predicts for each product is computed from random layers of the trace's own size, so that
the spreads are not biased by its small number of experts and hold for any other.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import least_squares

from workloads.errors import WorkloadError
from workloads.routing.popularity import ring_chance
from workloads.routing.replay import sequence_counts
from workloads.routing.spec import RoutingStatistics, to_toml
from workloads.routing.trace import Trace, read_trace

Floats = NDArray[np.float64]
Predictor = Callable[[Floats, Floats], Floats]
_KNOTS = 5
_SIGMAS = np.linspace(0, 2.5, 26)
_SHARED = np.array([0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
_LAYERS_DRAWN = 1000
_SEED = 20240704


class Moments(NamedTuple):
    """Mean over experts of the product of two loads relative to the mean expert; 1 if they share no preference."""

    within_sequence: Floats  # [tasks, layers] two tokens of one sequence
    within_task: Floats  # [tasks, layers] tokens of two sequences of one task
    between_tasks: Floats  # [tasks, tasks, layers] tokens of two tasks; the diagonal means nothing


def moments(traces: Sequence[Trace]) -> Moments:
    """Return the moments of a recording with one trace per task.

    Raises
    ------
    WorkloadError
        If a task has fewer than two sequences, or none longer than a token.
    """
    rows = [_task_moments(trace) for trace in traces]
    within_sequence, within_task, load = (np.array(column) for column in zip(*rows, strict=True))
    return Moments(within_sequence, within_task, np.einsum("ile,jle->ijl", load, load))


def _task_moments(trace: Trace) -> tuple[Floats, Floats, Floats]:
    lens = trace.seq_lens.astype(np.float64)
    if lens.size < 2 or lens.max() < 2:
        raise WorkloadError(f"trace: {lens.size} sequences, longest {lens.max():.0f}: two of two tokens needed to fit")
    counts = sequence_counts(trace).astype(np.float64)
    scale = trace.routed_experts / trace.top_k**2
    total, squares = counts.sum(axis=0), (counts**2).sum(axis=(0, 2))
    same = scale * (squares - total.sum(axis=1)) / ((lens**2).sum() - lens.sum())
    cross = scale * ((total**2).sum(axis=1) - squares) / (lens.sum() ** 2 - (lens**2).sum())
    return same, cross, total / lens.sum() * np.sqrt(scale)


def predictor(experts: int, top_k: int) -> Predictor:
    """Return the expected moment, given the spread of log weights and the share of its variance that is in common."""
    rng = np.random.default_rng(_SEED)
    both, one, other = rng.standard_normal((3, _LAYERS_DRAWN, 1, experts))
    table = np.empty((_SIGMAS.size, _SHARED.size))
    for i, sigma in enumerate(_SIGMAS):
        for j, share in enumerate(_SHARED):
            first, second = (
                ring_chance(np.exp(sigma * (np.sqrt(share) * both + np.sqrt(1 - share) * own)), np.ones(1), top_k)
                for own in (one, other)
            )
            table[i, j] = (first * second).sum(axis=-1).mean() * experts / top_k**2
    spline = RectBivariateSpline(_SIGMAS, _SHARED, table)

    def predict(sigma: Floats, share: Floats) -> Floats:
        return np.asarray(spline(sigma, share, grid=False))

    return predict


def fit(traces: Mapping[str, Trace], files: Mapping[str, str] | None = None) -> RoutingStatistics:
    """Return the statistics whose predicted moments equal those of a recording.

    They are made equal for each task and around each knot of the depth profile within tasks, and on average within
    sequences and between tasks: as many equations as figures.

    Parameters
    ----------
    traces
        One trace per task, by name; all of one model.
    files
        SHA-256 of each input file by name, recorded as is.

    Raises
    ------
    WorkloadError
        If a task has too few sequences.
    """
    some = next(iter(traces.values()))
    measured = moments(list(traces.values()))
    predict = predictor(some.routed_experts, some.top_k)
    depth = np.linspace(0, _KNOTS - 1, some.moe_layers)
    hats = np.array([np.interp(depth, np.arange(_KNOTS), row) for row in np.eye(_KNOTS)])
    start = np.concatenate([[0.3, 0.3], np.full(len(traces), 0.8), np.ones(_KNOTS)])
    solution = least_squares(_mismatch, start, bounds=(1e-3, 2.0), args=(measured, predict, hats))
    figures = [round(float(value), 3) for value in solution.x]
    return RoutingStatistics(
        model=some.model,
        source=some.source,
        licence=some.licence,
        layers=some.moe_layers,
        experts=some.routed_experts,
        top_k=some.top_k,
        tokens=sum(trace.tokens for trace in traces.values()),
        sequences=sum(trace.seq_lens.size for trace in traces.values()),
        common_sigma=figures[0],
        sequence_sigma=figures[1],
        task_sigma=dict(zip(traces, figures[2:-_KNOTS], strict=True)),
        depth_profile=tuple(figures[-_KNOTS:]),
        files=dict(files or {}),
    )


def _mismatch(x: Floats, measured: Moments, predict: Predictor, hats: Floats) -> Floats:
    """Return predicted less measured moments; `x` is common, sequence, tasks and knots, `hats` ``[knots, layers]``."""
    common, sequence, task, depth = x[0], x[1], x[2:-_KNOTS], x[-_KNOTS:] @ hats
    spread = np.sqrt(common**2 + task**2 + sequence**2)
    sigma = spread[:, None] * depth
    within_task = predict(sigma, np.broadcast_to(1 - (sequence / spread[:, None]) ** 2, sigma.shape))
    within_sequence = predict(sigma, np.ones_like(sigma))
    pair = np.triu_indices(task.size, 1)
    product = np.outer(spread, spread)[pair][:, None] * depth**2
    between = predict(np.sqrt(product), (common * depth) ** 2 / product)
    off = within_task - measured.within_task
    sequence_off = within_sequence - within_task - (measured.within_sequence - measured.within_task)
    # one task can't tell what tasks share: then nothing is put down to it
    common_off = (between - measured.between_tasks[pair]).mean() if task.size > 1 else common
    by_knot = hats @ off.mean(axis=0) / hats.sum(axis=1)
    return np.concatenate([off.mean(axis=1), by_knot, [sequence_off.mean(), common_off, depth.mean() - 1]])


def read_directory(path: Path, about: Mapping[str, str | int]) -> tuple[dict[str, Trace], dict[str, str]]:
    """Read the traces ``<task>.npz`` of a directory.

    Parameters
    ----------
    path
        Directory; files with a second dot in the name are left out.
    about
        What the traces are of, where the files don't say so.

    Returns
    -------
    Traces by task, and SHA-256 by file name.

    Raises
    ------
    WorkloadError
        If there is none, or one can't be read.
    """
    paths = sorted(file for file in path.glob("*.npz") if "." not in file.stem)
    if not paths:
        raise WorkloadError(f"{path}: no <task>.npz files; give the directory of a recorded trace")
    traces = {file.stem: read_trace(file, about) for file in paths}
    return traces, {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in paths}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the traces of a directory and write the statistics."""
    parser = argparse.ArgumentParser(prog="python -m workloads.routing.fit", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="holds <task>.npz with experts and seq_lens")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", default="DeepSeek-V2-Lite")
    parser.add_argument("--experts", dest="routed_experts", type=int, default=64)
    parser.add_argument("--phase", default="prefill")
    parser.add_argument(
        "--source", default="deepseek-ai/ESFT:results/expert_scores@579a7711e4b332b4c57b47e378a0cf240d85caa6"
    )
    parser.add_argument("--licence", default="MIT")
    given = vars(parser.parse_args(arguments))
    directory, out = given.pop("directory"), given.pop("out")
    try:
        out.write_text(to_toml(fit(*read_directory(directory, given))), encoding="utf-8")
    except WorkloadError as error:
        parser.exit(2, f"{error}\n")
    except OSError as error:
        parser.exit(2, f"{out}: {error.strerror}\n")


if __name__ == "__main__":
    main()
