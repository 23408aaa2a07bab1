"""What a token costs at each size, by part: why scaling falls short, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter

from reports.scaling_growth import LEAST_GROWTH
from reports.style import PART_COLOURS, figure, headline, save, style
from simulator import units
from simulator.result import PART_LABELS, PARTS

Rows = Sequence[Mapping[str, Any]]


def growth_picture(rows: Rows, path: Path | str, title: str) -> Path:
    """Draw a token's chip-seconds at each size, by part, over all of them at the smallest size.

    Parameters
    ----------
    rows
        As `simulator.study.scaling.with_growth` returns them.
    path
        PNG, SVG or PDF.
    """
    shown = [row for row in rows if row["feasible"]]
    with style():
        drawn = figure(9.0, 4.8)
        axes = drawn.subplots()
        axes.grid(True, axis="y")
        base = [0.0] * len(shown)
        for part in PARTS:
            heights = [float(row[f"{part}_s"] / row["step_s"] / row["efficiency"]) for row in shown]
            if max(heights, default=0.0) >= LEAST_GROWTH:
                colour, label = PART_COLOURS[part], PART_LABELS[part]
                axes.bar(range(len(shown)), heights, 0.66, base, color=colour, label=label, edgecolor="white", lw=0.5)
                base = [low + height for low, height in zip(base, heights, strict=True)]
        for place, row in enumerate(shown):
            text = f"{100 * row['efficiency']:.0f} %"
            axes.annotate(text, (place, base[place]), (0, 3), textcoords="offset points", ha="center")
        axes.set_xticks(range(len(shown)), [units.count(row["chips"]) for row in shown])
        axes.set_xlabel("chips")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
        headline(drawn, title, "Chip-seconds per token, all of the smallest size = 100 %. On top: scaling efficiency.")
        return save(drawn, path)
