"""Moments of recorded routing, and what spread log weights make of them.

The product of one expert's load in two sequences has, over experts, a mean that depends only on how much preference the
two share: all but the sequence term if they are of one task, the common term alone if they are of two. Two tokens of
one sequence share it all. Products of *different* tokens carry no sampling noise, so none has to be subtracted. What
the model predicts for each product is computed from random layers of the trace's own size, so that the spreads are not
biased by its small number of experts and hold for any other.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from workloads.errors import WorkloadError
from workloads.routing.inclusion import ring_chance, skewed
from workloads.routing.replay import sequence_counts
from workloads.routing.trace import Trace

Floats = NDArray[np.float64]
Predictor = Callable[[Floats, Floats], Floats]
_NEAR = 2  # tokens; so far a pick that repeats its neighbour's reaches
_SIGMAS = np.linspace(0, 2.5, 26)
_SHARED = np.array([0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
_LAYERS_DRAWN = 1000
_SEED = 20240704


class Moments(NamedTuple):
    """Mean over experts of the product of two loads relative to the mean expert; 1 if they share no preference."""

    within_sequence: Floats | None  # [tasks, layers] two tokens far apart in one sequence; None if not recorded
    within_task: Floats  # [tasks, layers] tokens of two sequences of one task
    between_tasks: Floats  # [tasks, tasks, layers] tokens of two tasks; the diagonal means nothing
    pairs: Floats  # [tasks] pairs of tokens in one sequence, by which within_sequence may be averaged


def moments(traces: Sequence[Trace]) -> Moments:
    """Return the moments of a recording with one trace per task.

    Raises
    ------
    WorkloadError
        If a task has fewer than two sequences, or none longer than a token.
    """
    rows = [_task_moments(trace) for trace in traces]
    within_sequence, within_task, load, pairs = (np.array(column) for column in zip(*rows, strict=True))
    return Moments(within_sequence, within_task, np.einsum("ile,jle->ijl", load, load), pairs)


def _task_moments(trace: Trace) -> tuple[Floats, Floats, Floats, float]:
    lens = trace.seq_lens.astype(np.float64)
    if lens.size < 2 or lens.max() < _NEAR + 2:
        raise WorkloadError(
            f"trace: {lens.size} sequences, longest {lens.max():.0f} tokens: two of {_NEAR + 2} needed to fit"
        )
    counts = sequence_counts(trace).astype(np.float64)
    scale = trace.routed_experts / trace.top_k**2
    total, squares = counts.sum(axis=0), (counts**2).sum(axis=(0, 2))
    near, near_pairs = _near(trace)
    pairs = float((lens**2).sum() - lens.sum() - 2 * near_pairs)
    same = scale * (squares - total.sum(axis=1) - 2 * near) / pairs
    cross = scale * ((total**2).sum(axis=1) - squares) / (lens.sum() ** 2 - (lens**2).sum())
    return same, cross, total / lens.sum() * np.sqrt(scale), pairs


def _near(trace: Trace) -> tuple[Floats, int]:
    """Return ``[layers]`` experts that tokens up to `_NEAR` apart in a sequence share, and the number of such pairs.

    Neighbours repeat each other for reasons of their own, which `persistence` describes.
    """
    sequence = np.repeat(np.arange(trace.seq_lens.size), trace.seq_lens)
    ids = np.ascontiguousarray(trace.experts.swapaxes(0, 1))
    shared, pairs = np.zeros(trace.moe_layers), 0
    for lag in range(1, _NEAR + 1):
        together = np.flatnonzero(sequence[lag:] == sequence[:-lag])
        pairs += together.size
        for layer, chosen in enumerate(ids):
            shared[layer] += np.count_nonzero(chosen[together, :, None] == chosen[together + lag, None, :])
    return shared, pairs


def load_moments(load: Floats) -> Moments:
    """Return the moments of counts that do not tell sequences apart, large enough to be free of sampling noise.

    Parameters
    ----------
    load
        ``[tasks, layers, experts]`` tokens per expert.
    """
    relative = load / load.mean(axis=-1, keepdims=True)
    between = np.einsum("ile,jle->ijl", relative, relative) / load.shape[-1]
    return Moments(None, np.einsum("iil->il", between), between, np.ones(len(load)))


def predictor(experts: int, top_k: int, cold: float = 1.0) -> Predictor:
    """Return the expected moment, given the spread of log weights and the share of its variance that is in common."""
    rng = np.random.default_rng(_SEED)
    both, one, other = rng.standard_normal((3, _LAYERS_DRAWN, 1, experts))
    table = np.empty((_SIGMAS.size, _SHARED.size))
    for i, sigma in enumerate(_SIGMAS):
        for j, share in enumerate(_SHARED):
            first, second = (
                ring_chance(
                    np.exp(skewed(sigma * (np.sqrt(share) * both + np.sqrt(1 - share) * own), cold)), np.ones(1), top_k
                )
                for own in (one, other)
            )
            table[i, j] = (first * second).sum(axis=-1).mean() * experts / top_k**2
    spline = RectBivariateSpline(_SIGMAS, _SHARED, table)

    def predict(sigma: Floats, share: Floats) -> Floats:
        return np.asarray(spline(sigma, share, grid=False))

    return predict
