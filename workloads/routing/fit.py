"""Fit routing statistics to recorded routing by the method of moments (see `workloads.routing.moments`)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from workloads.routing.fidelity import load_measures, recorded_measures, samples
from workloads.routing.fit_ties import fit_ties
from workloads.routing.measures import batch_load, entropy
from workloads.routing.moments import Moments, Predictor, load_moments, moments, predictor
from workloads.routing.spec import RoutingStatistics, load_statistics
from workloads.routing.trace import Trace

Floats = NDArray[np.float64]
_KNOTS = 5
_COLD = (0.7, 1.0, 1.5, 2.2, 3.0)  # tried
_MODELS = 4  # drawn per trial


class Spreads(NamedTuple):
    """Standard deviations of log weights."""

    common: float
    sequence: float
    task: tuple[float, ...]
    depth: tuple[float, ...]
    cold: float


def fit(traces: Mapping[str, Trace], files: Mapping[str, str] | None = None) -> RoutingStatistics:
    """Return the statistics whose predicted moments equal those of a recording.

    They are made equal for each task and around each knot of the depth profile within tasks, and on average between
    tasks and within sequences (there over all pairs of tokens, so that long sequences count): as many equations as
    figures. Persistence and link follow (`fit_ties`).

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
    recorded = {task: recorded_measures(trace) for task, trace in traces.items()}
    goal = float(np.mean([measures["entropy"] for measures in recorded.values()]))
    about = RoutingStatistics(
        model=some.model,
        source=some.source,
        licence=some.licence,
        layers=some.moe_layers,
        experts=some.routed_experts,
        top_k=some.top_k,
        tokens=sum(trace.tokens for trace in traces.values()),
        sequences=sum(trace.seq_lens.size for trace in traces.values()),
        common_sigma=0.0,
        sequence_sigma=0.0,
        task_sigma=dict.fromkeys(traces, 0.0),
        depth_profile=(1.0,),
        recorded=recorded,
        files=dict(files or {}),
    )

    def tried(cold: float) -> RoutingStatistics:
        return about.model_copy(update=_figures(fit_spreads(measured, some.routed_experts, some.top_k, cold), traces))

    entropies = [_entropy(tried(cold), traces) for cold in _COLD]
    # the colder the cold experts, the less even the load at equal moments
    cold = float(np.interp(-goal, -np.minimum.accumulate(entropies), _COLD))
    return fit_ties(tried(round(cold, 2)), traces)


def _figures(spreads: Spreads, tasks: Iterable[str]) -> dict[str, Any]:
    return {
        "common_sigma": spreads.common,
        "sequence_sigma": spreads.sequence,
        "task_sigma": dict(zip(tasks, spreads.task, strict=True)),
        "depth_profile": spreads.depth,
        "cold": spreads.cold,
    }


def _entropy(statistics: RoutingStatistics, traces: Mapping[str, Trace]) -> float:
    """Return the entropy of samples in the shape of the traces, averaged over tasks."""
    drawn = [sample for task, trace in traces.items() for sample in samples(statistics, task, trace, _MODELS)]
    return float(np.mean([entropy(batch_load(sample, sample.tokens)) for sample in drawn]))


def fit_loads(
    load: Mapping[str, Floats],
    top_k: int,
    tokens: int,
    about: Mapping[str, str],
    files: Mapping[str, str] | None = None,
) -> RoutingStatistics:
    """Return the statistics of a recording of loads alone: popularity is fitted, the rest taken from the default.

    Parameters
    ----------
    load
        ``[layers, experts]`` tokens per expert, by task; many thousands of each, layers evenly spread over the depth.
    top_k
        Experts per token.
    tokens
        Tokens of all tasks.
    about
        `model`, `source` and `licence`.
    files
        SHA-256 of each input file by name, recorded as is.
    """
    default = load_statistics()
    layers, experts = next(iter(load.values())).shape
    measured = load_moments(np.array(list(load.values()), dtype=np.float64))
    spreads = fit_spreads(measured, experts, top_k, sequence=default.sequence_sigma, cold=default.cold)
    why = f"loads do not tell; that of {default.model}"
    return RoutingStatistics(
        **about,
        layers=layers,
        experts=experts,
        top_k=top_k,
        tokens=tokens,
        sequences=len(load),
        **_figures(spreads, load),
        persistence=default.persistence,
        link=default.link,
        recorded={task: {"tokens": float(each[0].sum() / top_k), **load_measures(each)} for task, each in load.items()},
        assumed=dict.fromkeys(("sequence_sigma", "persistence", "link", "cold"), why),
        files=dict(files or {}),
    )


def fit_spreads(measured: Moments, experts: int, top_k: int, cold: float = 1.0, sequence: float = 0.0) -> Spreads:
    """Return the spreads whose predicted moments equal the measured ones.

    Parameters
    ----------
    measured
        Moments of a recording.
    experts, top_k
        Of the recorded model.
    cold
        Factor on log weights below 0.
    sequence
        What to take for the sequences' spread if the recording does not tell them apart.
    """
    tasks, layers = measured.within_task.shape
    knots = min(_KNOTS, layers)
    hats = knot_weights(layers, knots)
    start = np.concatenate([[0.3, 0.3], np.full(tasks, 0.8), np.ones(knots)])
    predict = predictor(experts, top_k, cold)
    solution = least_squares(_mismatch, start, bounds=(1e-3, 2.0), args=(measured, predict, hats, sequence))
    figures = [round(float(value), 3) for value in solution.x]
    return Spreads(figures[0], figures[1], tuple(figures[2:-knots]), tuple(figures[-knots:]), cold)


def knot_weights(layers: int, knots: int) -> Floats:
    """Return ``[knots, layers]`` the weight of each knot of a depth profile at each layer."""
    depth = np.linspace(0, knots - 1, layers)
    return np.array([np.interp(depth, np.arange(knots), row) for row in np.eye(knots)])


def _mismatch(x: Floats, measured: Moments, predict: Predictor, hats: Floats, assumed: float) -> Floats:
    """Return predicted less measured moments; `x` is common, sequence, tasks and knots, `hats` ``[knots, layers]``."""
    knots = len(hats)
    common, sequence, task, depth = x[0], x[1], x[2:-knots], x[-knots:] @ hats
    spread = np.sqrt(common**2 + task**2 + sequence**2)
    sigma = spread[:, None] * depth
    within_task = predict(sigma, np.broadcast_to(1 - (sequence / spread[:, None]) ** 2, sigma.shape))
    pair = np.triu_indices(task.size, 1)
    product = np.outer(spread, spread)[pair][:, None] * depth**2
    between = predict(np.sqrt(product), (common * depth) ** 2 / product)
    off = within_task - measured.within_task
    if measured.within_sequence is None:
        sequence_off = sequence - assumed
    else:
        within_sequence = predict(sigma, np.ones_like(sigma))
        apart = within_sequence - within_task - (measured.within_sequence - measured.within_task)
        sequence_off = np.average(apart.mean(axis=1), weights=measured.pairs)
    # one task can't tell what tasks share: then nothing is put down to it
    common_off = (between - measured.between_tasks[pair]).mean() if task.size > 1 else common
    by_knot = hats @ off.mean(axis=0) / hats.sum(axis=1)
    return np.concatenate([off.mean(axis=1), by_knot, [sequence_off, common_off, depth.mean() - 1]])
