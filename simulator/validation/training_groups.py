"""Errors of training runs by group, beside what one constant per group would reach and which plan would be chosen."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from simulator.validation.cells import Cells
from simulator.validation.summary import PUBLISHED, aim_of

TIMES = {"step_s", "bubble_s"}
CONSTANT_FROM = 3  # one constant always fits one run


def run_columns(cells: Cells) -> dict[str, Any]:
    """Return what groups need of a predicted row: its chip and kind, its MFU, and which plans compete with its own."""
    same = ("source", "model", "chip", "chips", "seq_len_norm", "precision_norm", "layers", "software", "metric_norm")
    return {
        "chip": cells.stated("chip"),
        "kind": "dense" if cells.stated("routing") == "none" else "MoE",
        "mfu": cells.mfu,
        "case": "|".join(cells.stated(column) for column in (*same, *_batch(cells))),
    }


def _batch(cells: Cells) -> tuple[str, ...]:
    """Plans compete for the same batch where a row measures the time of a step."""
    return ("global_batch_sequences",) if cells.stated("metric_norm") in TIMES else ()


def time_error(row: Mapping[str, Any]) -> float:
    """Return predicted over measured time minus one, also for rows that measure a rate."""
    ratio = float(row["predicted"]) / float(row["measured"])
    return (ratio if row["metric"] in TIMES else 1.0 / ratio) - 1.0


def group_errors(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one record per source, chip and kind of model: mean absolute error in time, naive error, regret, aim.

    Parameters
    ----------
    rows
        Replayed rows; those without a prediction of time or rate, and of lesser evidence than a primary source, do not
        count.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        predicted = row["predicted"] is not None and row["predicted"] == row["predicted"] and row["mfu"]
        if predicted and row["metric"] not in {"bubble_s", "peak_memory_bytes"} and row["evidence"] in PUBLISHED:
            groups.setdefault((row["source"], row["chip"], row["kind"]), []).append(row)
    return [_group(*key, groups[key]) for key in sorted(groups)]


def _group(source: str, chip: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors = [time_error(row) for row in rows]
    mean = fmean(abs(error) for error in errors)
    measured_mfu = [float(row["mfu"]) * (1.0 + error) for row, error in zip(rows, errors, strict=True)]
    goal = aim_of("training", {"source": source, "chip": chip, "kind": kind}).get("mean")
    return {
        "source": source,
        "chip": chip,
        "kind": kind,
        "rows": len(rows),
        "mean": mean,
        "median": median(errors),
        "naive": naive_error(measured_mfu) if len(rows) >= CONSTANT_FROM else None,
        "regret": regret(rows),
        "aim": goal,
        "met": None if goal is None else mean <= goal,
    }


def naive_error(measured_mfu: Sequence[float]) -> float:
    """Return the mean absolute error in time of the one MFU that suits these runs best.

    The mean of |m / c - 1| over runs is piecewise linear in 1 / c, so one of the measured values is best.
    """
    return min(fmean(abs(mfu / constant - 1.0) for mfu in measured_mfu) for constant in measured_mfu)


def regret(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return how much longer the plan predicted to be fastest takes than the fastest one, mean over contests [s/s].

    Runs of one model, machine, batch and software that are predicted to differ compete; None without such.
    """
    contests: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        contests.setdefault(row["case"], []).append(row)
    losses = [_loss(each) for each in contests.values() if len({row["predicted"] for row in each}) > 1]
    return fmean(losses) if losses else None


def _loss(rows: Sequence[Mapping[str, Any]]) -> float:
    sign = 1.0 if rows[0]["metric"] in TIMES else -1.0
    chosen = min(rows, key=lambda row: sign * row["predicted"])["measured"]
    best = min(rows, key=lambda row: sign * row["measured"])["measured"]
    return float(chosen / best if sign > 0 else best / chosen) - 1.0
