"""What placements do to the load of ranks: one map beside another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.style import HEATMAP, MUTED, figure, headline, save, style


def rank_load_maps(loads: Mapping[str, NDArray[Any]], path: Path | str, title: str = "Load per rank") -> Path:
    """Draw the load of every rank in every layer, a panel per placement, all on one scale.

    Parameters
    ----------
    loads
        Name of the placement to its load over the mean, shape [layers, ranks].
    path
        PNG, SVG or PDF.

    Raises
    ------
    ValueError
        If there is no placement, or a load is not a table.
    """
    tables = {name: np.asarray(load, dtype=float) for name, load in loads.items()}
    if not tables or any(load.ndim != 2 or not load.size for load in tables.values()):
        raise ValueError("loads: needs at least one table of shape [layers, ranks]")
    top = max(1.5, *(float(np.percentile(load, 99.5)) for load in tables.values()))
    layers, ranks = next(iter(tables.values())).shape
    with style():
        drawn = figure(2.1 + 1.75 * len(tables), 2.1 + min(4.5, max(1.3, 0.09 * layers)))
        row = drawn.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (name, load) in zip(row, tables.items(), strict=True):
            image = axes.pcolormesh(
                np.arange(ranks + 1) - 0.5, np.arange(layers + 1) - 0.5, load, cmap=HEATMAP, vmin=0.0, vmax=top
            )
            image.set_rasterized(True)
            axes.set_title(name)
            axes.set_xlabel(f"rank\nbusiest {load.max(axis=1).mean():.2f}x", color=MUTED)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        row[0].set_ylabel("MoE layer")
        row[0].set_ylim(layers - 0.5, -0.5)
        bar = drawn.colorbar(image, ax=list(row), shrink=0.8, pad=0.01, extend="max")
        bar.set_label("load over the mean")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        headline(drawn, title, f"{layers} layers x {ranks} ranks; busiest rank's mean load, averaged over layers.")
        return save(drawn, path)
