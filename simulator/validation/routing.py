"""Drawn against recorded routing: the figures that a generator has to reproduce, and within what bounds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from simulator.validation.recordings import RECORDINGS, read_recording
from workloads.routing.fidelity import chosen, load_measures, recorded_measures, samples
from workloads.routing.fit import fit
from workloads.routing.load import sample_counts
from workloads.routing.popularity import popularity
from workloads.routing.spec import DEFAULT, RoutingStatistics, load_statistics
from workloads.routing.trace import Trace

MODELS = 4  # drawn per task and half
_LOADS = 40  # drawn per task where only tokens per expert were recorded
_MOST_TOKENS = 8_192  # of a task that is drawn to be compared with stored figures
_SIZES = frozenset({"tokens", "sequences"})
_RELATIVE = {"max_over_mean_": 0.10, "ep8_": 0.05, "ep16_": 0.05, "ep32_": 0.05}  # busiest expert, busiest rank
_ABSOLUTE = {"temporal_share": 0.03, "cross_layer_share": 0.05}
Row = dict[str, Any]


def fidelity(traces: Path | None) -> Iterator[Row]:
    """Yield one row per statistics, task and measure: recorded, drawn, error and bound.

    Parameters
    ----------
    traces
        Folder of recorded traces: then statistics are fitted to one half of the sequences and judged on the other, both
        ways. None: the shipped statistics are judged on the figures that are stored with them, of the tokens that they
        were fitted to.
    """
    parallel: Any = joblib.Parallel(n_jobs=-1, return_as="generator")
    paths = sorted(DEFAULT.parent.glob("*.toml"))
    for rows in parallel(joblib.delayed(judged)(path.stem, traces, load_statistics(path)) for path in paths):
        yield from rows


def judged(name: str, traces: Path | None, statistics: RoutingStatistics) -> list[Row]:
    """Return the rows of one of the shipped statistics."""
    held = traces is not None and name in RECORDINGS
    compared = _held_out(name, traces) if held and traces else _stored(statistics)
    basis = "held out" if held else "stored"
    return [row for task, recorded, drawn in compared for row in _rows(name, basis, task, recorded, drawn)]


def averages(rows: Iterable[Row]) -> list[Row]:
    """Return rows averaged over the tasks of each statistics."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["statistics"], row["measure"]), []).append(row)
    found: list[Row] = []
    for (name, measure), each in groups.items():
        recorded = {measure: float(np.mean([row["recorded"] for row in each]))}
        drawn = {measure: float(np.mean([row["drawn"] for row in each]))}
        found += _rows(name, each[0]["basis"], f"{len(each)} tasks", recorded, drawn)
    return found


def _rows(name: str, basis: str, task: str, recorded: Mapping[str, float], drawn: Mapping[str, float]) -> list[Row]:
    found = []
    for measure in (each for each in recorded if each in drawn and each not in _SIZES):
        is_share = measure in _ABSOLUTE
        error = drawn[measure] - recorded[measure]
        error = error if is_share else error / recorded[measure]
        relative = (bound for start, bound in _RELATIVE.items() if measure.startswith(start))
        bound = _ABSOLUTE.get(measure) or next(relative, None)
        found.append(
            {
                "statistics": name,
                "basis": basis,
                "task": task,
                "measure": measure,
                "recorded": recorded[measure],
                "drawn": drawn[measure],
                "error": error,
                "error_is": "difference" if is_share else "relative",
                "bound": bound,
                "within": None if bound is None else abs(error) <= bound,
            }
        )
    return found


Compared = Iterator[tuple[str, Mapping[str, float], Mapping[str, float]]]


def _stored(statistics: RoutingStatistics) -> Compared:
    for task, recorded in statistics.recorded.items():
        if "sequences" not in recorded:  # tokens per expert were recorded, not each token's experts
            yield task, recorded, _drawn_load(statistics, task, round(recorded["tokens"]))
            continue
        length = round(recorded["tokens"] / recorded["sequences"])
        sequences = max(2, -(-int(min(recorded["tokens"], _MOST_TOKENS)) // length))
        shape = _shape(statistics, np.full(sequences, length, dtype=np.int32))
        yield task, recorded, _drawn(statistics, task, shape, models=2)


def _held_out(name: str, traces: Path) -> Compared:
    rng = np.random.default_rng(0)
    halves: tuple[dict[str, Trace], dict[str, Trace]] = ({}, {})
    for task, trace in read_recording(name, traces).items():
        order = rng.permutation(trace.seq_lens.size)
        for half, part in zip(halves, (order[::2], order[1::2]), strict=True):
            half[task] = chosen(trace, np.sort(part))
    fitted = [fit(half) for half in halves]
    for task in halves[0]:
        recorded, drawn = [], []
        for half, statistics in zip(halves, reversed(fitted), strict=True):
            recorded.append(recorded_measures(half[task]))
            drawn.append(_drawn(statistics, task, half[task]))
        yield task, _mean(recorded), _mean(drawn)


def _drawn(statistics: RoutingStatistics, task: str, shape: Trace, models: int = MODELS) -> dict[str, float]:
    return _mean([recorded_measures(sample) for sample in samples(statistics, task, shape, models)])


def _drawn_load(statistics: RoutingStatistics, task: str, tokens: int) -> dict[str, float]:
    """Return the measures of drawn loads, each token's sequence another: over so many tokens sequences average out."""
    rng = np.random.default_rng(0)
    shape = (statistics.layers, statistics.experts, statistics.top_k)
    drawn = [
        sample_counts(popularity(statistics, *shape, rng, mix=task), tokens, tokens, 1, rng) for _ in range(_LOADS)
    ]
    return load_measures(np.concatenate(drawn))


def _mean(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each measure's mean over those that have it: the longer half of a task may alone fill a batch."""
    names = dict.fromkeys(name for each in measured for name in each)
    return {name: float(np.mean([each[name] for each in measured if name in each])) for name in names}


def _shape(statistics: RoutingStatistics, seq_lens: Any) -> Trace:
    """Return a trace of the statistics' shape whose ids mean nothing."""
    ids = np.arange(statistics.top_k, dtype=np.uint16)
    experts = np.broadcast_to(ids, (int(seq_lens.sum()), statistics.layers, statistics.top_k))
    return Trace(experts, seq_lens, statistics.experts, statistics.model)
