"""Pictures of request-level results: latencies, load over time, throughput against TPOT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reports.style import INK, MUTED, SERIES_COLOURS, SERIES_MARKERS, figure, headline, save, style
from simulator import units
from simulator.serving_result import ServingResult

CURVES = (("ttft_s", "time to first token"), ("tpot_s", "time per output token"), ("end_to_end_s", "end to end"))


def latency_curves(frame: pd.DataFrame, result: ServingResult, path: Path | str) -> Path:
    """Draw the share of requests that see at most a latency, with the limits of the service level."""
    low, high = result.window_s
    inside = frame[(frame["arrival_s"] >= low) & (frame["arrival_s"] <= high)]
    with style():
        drawn = figure(10.0, 3.6)
        headline(drawn, f"{result.scenario}: latencies", _subtitle(result))
        for place, (axes, (name, title)) in enumerate(zip(drawn.subplots(1, len(CURVES)), CURVES, strict=True)):
            values = np.sort(inside[name].dropna().to_numpy(dtype=float))
            fine = bool(values.size) and float(np.quantile(values, 0.99)) < 1.0
            values, unit, limit = (values * 1e3, "ms", 1e3) if fine else (values, "s", 1.0)
            axes.set_title(title)
            axes.set_ylim(0.0, 1.02)
            axes.set_xlabel(unit)
            axes.grid(True)
            if place == 0:
                axes.set_ylabel("share of requests")
            if not values.size:
                continue
            axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=SERIES_COLOURS[place])
            for share in (0.5, 0.9, 0.99):
                at = float(np.quantile(values, share))
                axes.plot([at], [share], marker="o", color=SERIES_COLOURS[place], markersize=4.5)
                axes.annotate(
                    f"p{share * 100:.0f} {units.seconds(at / limit)}",
                    (at, share),
                    xytext=(-6, 0) if share > 0.95 else (6, -8),
                    textcoords="offset points",
                    ha="right" if share > 0.95 else "left",
                    fontsize=7.5,
                )
            axes.set_xlim(0.0, max(float(np.quantile(values, 0.999)), 1.3 * float(np.quantile(values, 0.9))))
            if name in result.slo:
                axes.axvline(result.slo[name] * limit, color=INK, linestyle="--", linewidth=1.0)
        return save(drawn, path)


def load_timeline(frame: pd.DataFrame, result: ServingResult, path: Path | str) -> Path:
    """Draw sequences, KV memory and waiting requests of each pool over time, the window marked."""
    panels = (
        ("sequences per rank", ("decoding_per_rank", "prompts_per_rank")),
        ("KV blocks in use", ("kv_share",)),
        ("requests waiting", ("waiting",)),
    )
    names = {"decoding_per_rank": "decoding", "prompts_per_rank": "prompts", "kv_share": "", "waiting": ""}
    with style():
        drawn = figure(10.0, 6.2)
        headline(drawn, f"{result.scenario}: load", _subtitle(result))
        for axes, (title, columns) in zip(drawn.subplots(len(panels), 1, sharex=True), panels, strict=True):
            axes.set_title(title)
            axes.grid(True)
            axes.axvspan(*result.window_s, color="#F1F4F8", zorder=0)
            place = 0
            for pool, rows in frame.groupby("pool", sort=False):
                for column in columns:
                    values = rows[column].to_numpy(dtype=float) * (100.0 if column == "kv_share" else 1.0)
                    if not values.any() and (column != "waiting"):
                        continue
                    label = f"{pool} {names[column]}".strip()
                    axes.plot(rows["time_s"], values, color=SERIES_COLOURS[place], label=label, linewidth=1.3)
                    place += 1
            axes.set_ylim(bottom=0.0)
            axes.set_ylabel("%" if columns == ("kv_share",) else "")
            if place:
                axes.legend(loc="upper right", ncols=max(place, 1))
        axes.set_xlabel("seconds; shaded: the window that statistics count")
        return save(drawn, path)


def serving_pareto(rows: pd.DataFrame, title: str, path: Path | str) -> Path:
    """Draw output tokens per second and chip against TPOT, a curve per label; hollow points are unstable.

    Parameters
    ----------
    rows
        Columns ``label``, ``tpot_p50_s``, ``output_tokens_per_s_per_chip``, ``stable``, ``note``.
    """
    with style():
        drawn = figure(7.5, 4.8)
        headline(drawn, title)
        axes = drawn.subplots()
        for place, (label, points) in enumerate(rows.groupby("label", sort=False)):
            colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
            marker = SERIES_MARKERS[place % len(SERIES_MARKERS)]
            x, y = points["tpot_p50_s"] * 1e3, points["output_tokens_per_s_per_chip"]
            axes.plot(x, y, color=colour, label=str(label))
            faces: Sequence[str] = [colour if ok else "white" for ok in points["stable"]]
            for each_x, each_y, face in zip(x, y, faces, strict=True):
                axes.plot([each_x], [each_y], marker=marker, color=colour, markerfacecolor=face)
            for each_x, each_y, note in zip(x, y, points["note"], strict=True):
                axes.annotate(
                    note, (each_x, each_y), xytext=(5, -9), textcoords="offset points", fontsize=7, color=MUTED
                )
        axes.set_xlabel("TPOT, median [ms]")
        axes.set_ylabel("output tokens/s per chip")
        axes.set_xlim(left=0.0)
        axes.set_ylim(bottom=0.0)
        axes.grid(True)
        axes.legend(loc="best")
        return save(drawn, path)


def _subtitle(result: ServingResult) -> str:
    rate = units.number(result.offered_per_s)
    state = "" if result.stable else ", UNSTABLE"
    return f"{result.source}; {units.count(result.requests)} requests at {rate}/s on {result.chips} chips{state}"
