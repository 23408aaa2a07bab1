"""Errors of serving by source and system: time per token or step, order of configurations, rows left out and why."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.stats import rankdata

from simulator.validation.cells import Cells
from simulator.validation.summary import aim_of

TIMES = {"tpot_ms", "step_ms"}
ORDER_FROM = 4  # configurations whose order says something


def system_of(cells: Cells) -> str:
    """Return the chip and phase that a row of serving is grouped by."""
    return f"{cells.stated('chip')} {cells.stated('phase_norm')}".strip()


def time_error(row: Mapping[str, Any]) -> float:
    """Return predicted over measured time minus one, also for rows that measure a rate."""
    ratio = float(row["predicted"]) / float(row["measured"])
    return (ratio if row["metric"] in TIMES else 1.0 / ratio) - 1.0


def serving_errors(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one record per source and system: errors in time, rank correlation, aims, and how many rows are left out.

    Parameters
    ----------
    rows
        Replayed rows; those without a prediction count as left out, those that no scenario can be built for by kind
        (kernels, ablations, quotes) do not count at all.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["source"], row["system"]), []).append(row)
    return [record for key in sorted(groups) if (record := _record(*key, groups[key])) is not None]


def _record(source: str, system: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    known = [row for row in rows if row["predicted"] is not None and row["predicted"] == row["predicted"]]
    if not known:
        return None
    errors = [time_error(row) for row in known]
    aim = aim_of("serving", {"source": source, "system": system})
    mean, order = fmean(abs(error) for error in errors), rank_correlation(known)
    met = [mean <= aim["mean"]] if "mean" in aim else []
    met += [order >= aim["order"]] if order is not None and "order" in aim else []
    return {
        "source": source,
        "system": system,
        "rows": len(known),
        "mean": mean,
        "median": median(errors),
        "order": order,
        "aim": aim.get("mean"),
        "met": all(met) if met else None,
        "left_out": len(rows) - len(known),
    }


def rank_correlation(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return Spearman's rank correlation of predicted and measured values of one metric; None for few or equal ones."""
    pairs = [(row["predicted"], row["measured"]) for row in rows if row["metric"] == rows[0]["metric"]]
    if len(pairs) < ORDER_FROM:
        return None
    ranks = np.array([rankdata(values) for values in zip(*pairs, strict=True)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def left_out_reasons(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Return why rows have no prediction, and how many each, most first."""
    return Counter(str(row["status"]) for row in rows if row["predicted"] is None).most_common()
