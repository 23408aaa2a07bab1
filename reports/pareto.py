"""Throughput per chip against time per output token: what a service level costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.style import figure, headline, hide_spines, save, style
from simulator import units

OFFSET_POINTS = (6, -12)


def pareto(rows: Sequence[Mapping[str, Any]], path: Path | str) -> Path:
    """Draw the largest throughput that each TPOT leaves, the batch that gives it at every point.

    Parameters
    ----------
    rows
        `scenario`, `tpot_s` [s], `tokens_per_s_per_chip` [1/s], `batch_per_rank`, a row per level.
    path
        Picture to write: PNG, SVG or PDF.

    Raises
    ------
    ValueError
        If the suffix is none of these.
    """
    ordered = sorted(rows, key=lambda row: row["tpot_s"])
    times = [1e3 * row["tpot_s"] for row in ordered]
    rates = [row["tokens_per_s_per_chip"] for row in ordered]
    with style():
        drawn = figure(8.0, 5.0)
        axes = drawn.subplots()
        axes.plot(times, rates, marker="o")
        for row, time_ms, rate in zip(ordered, times, rates, strict=True):
            text = units.count(row["batch_per_rank"])
            axes.annotate(text, (time_ms, rate), textcoords="offset points", xytext=OFFSET_POINTS)
        axes.set_xlabel("time per output token [ms]")
        axes.set_ylabel("tokens/s per chip")
        axes.set_xlim(0, 1.08 * max(times))
        axes.set_ylim(bottom=0)
        hide_spines(axes, "top", "right")
        headline(drawn, f"{ordered[0]['scenario']}", "numbers: sequences per rank")
        return save(drawn, path)
