"""Fit what ties a token's picks: to the token before it, and to the layer before."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from workloads.routing.fidelity import beginning, samples
from workloads.routing.measures import cross_layer_share, temporal_share
from workloads.routing.moments import predictor
from workloads.routing.preferences import at_depth
from workloads.routing.spec import RoutingStatistics
from workloads.routing.trace import Trace

Floats = NDArray[np.float64]
_KNOTS = 5
_TOKENS = 6000  # of a task, for the link
_LINKS = (0.0, 0.3, 0.6, 0.85, 1.0)


def fit_ties(statistics: RoutingStatistics, traces: Mapping[str, Trace]) -> RoutingStatistics:
    """Return the statistics with the persistence and link that a recording shows.

    Persistence is what neighbours share beyond any two tokens of a sequence. Link is read off samples with several
    values of it, of the recording's own size: the one at which as many of the next layer's experts are guessed right.

    Parameters
    ----------
    statistics
        Fitted spreads.
    traces
        The recording, by task.
    """
    knots = min(_KNOTS, statistics.layers)
    tied = statistics.model_copy(update={"persistence": _persistence(statistics, traces, knots)})
    return tied.model_copy(update={"link": _link(tied, traces, knots)})


def _persistence(statistics: RoutingStatistics, traces: Mapping[str, Trace], knots: int) -> tuple[float, ...]:
    predict = predictor(statistics.experts, statistics.top_k, statistics.cold)
    depth = at_depth(statistics.depth_profile, statistics.layers)
    excess = []
    for task, trace in traces.items():
        variance = statistics.common_sigma**2 + statistics.task_sigma[task] ** 2 + statistics.sequence_sigma**2
        sigma = np.sqrt(variance) * depth
        alike = predict(sigma, np.ones_like(sigma)) * statistics.top_k / statistics.experts
        excess.append((temporal_share(trace) - alike) / (1 - alike))
    return _at_knots(np.nanmean(excess, axis=0), knots)


def _link(statistics: RoutingStatistics, traces: Mapping[str, Trace], knots: int) -> tuple[float, ...]:
    if statistics.layers < 2:
        return (0.0,)
    wanted, found = [], []
    for task, trace in traces.items():
        part = beginning(trace, _TOKENS)
        wanted.append(cross_layer_share(part)[0])
        tried = [statistics.model_copy(update={"link": (link,)}) for link in _LINKS]
        shares = [cross_layer_share(next(samples(each, task, part)))[0] for each in tried]
        found.append(np.maximum.accumulate(shares, axis=0))
    goal, table = np.mean(wanted, axis=0), np.mean(found, axis=0)
    each = np.array([np.interp(value, column, _LINKS) for value, column in zip(goal, table.T, strict=True)])
    return _at_knots(np.concatenate([each[:1], each]), knots)


def _at_knots(values: Floats, knots: int) -> tuple[float, ...]:
    """Return the profile through even knots that fits ``[layers]`` values best."""
    hats = np.array([at_depth(row, values.size) for row in np.eye(knots)])
    best = np.linalg.lstsq(hats.T, values, rcond=None)[0]
    return tuple(round(float(value), 3) for value in np.clip(best, 0.0, 1.0))
