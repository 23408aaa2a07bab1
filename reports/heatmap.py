"""Where tokens go: the load of experts or ranks, layer by layer."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.style import HEATMAP, INK, MUTED, SERIES_COLOURS, figure, headline, save, style

CELL_IN = 0.16  # wanted height of a layer


def expert_heatmap(load: NDArray[Any], path: Path | str, title: str = "Load per expert", what: str = "expert") -> Path:
    """Draw the load of every expert (or rank) over the mean of its layer, and the busiest of each layer beside it.

    Parameters
    ----------
    load
        Tokens, shape [layers, experts or ranks]; a layer without tokens is left blank.
    path
        PNG, SVG or PDF.
    what
        What a column is: `expert` or `rank`.

    Raises
    ------
    ValueError
        If `load` is not a table of finite, non-negative numbers with at least one row and column.
    """
    tokens = np.asarray(load, dtype=float)
    if tokens.ndim != 2 or not tokens.size or not np.isfinite(tokens).all() or (tokens < 0.0).any():
        raise ValueError(f"load: shape {tokens.shape}: needs finite, non-negative numbers of shape [layers, {what}s]")
    mean = tokens.mean(axis=1, keepdims=True)
    relative = np.divide(tokens, mean, out=np.full_like(tokens, np.nan), where=mean > 0.0)
    busiest = np.where(mean[:, 0] > 0.0, relative.max(axis=1), np.nan)
    layers, columns = tokens.shape
    with style():
        drawn = figure(9.0, 1.9 + min(6.0, max(1.4, CELL_IN * layers)))
        left, right = drawn.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [5.0, 1.0]})
        image = _draw_map(left, relative, what)
        _draw_busiest(right, busiest)
        bar = drawn.colorbar(image, ax=left, location="bottom", shrink=0.6, aspect=40, pad=0.02, extend="max")
        bar.set_label("load over the layer's mean")
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        headline(drawn, title, _subtitle(busiest, layers, columns, what))
        return save(drawn, path)


def _subtitle(busiest: NDArray[np.float64], layers: int, columns: int, what: str) -> str:
    shape = f"{layers} layers x {columns} {what}s"
    if np.isnan(busiest).all():
        return f"{shape}, no tokens"
    mean, worst = float(np.nanmean(busiest)), int(np.nanargmax(busiest))
    return (
        f"{shape}. The busiest {what} carries {mean:.2f}x the mean, averaged over layers; "
        f"at most {busiest[worst]:.2f}x, in layer {worst}."
    )


def _draw_map(axes: Axes, relative: NDArray[np.float64], what: str) -> Any:
    layers, columns = relative.shape
    known = relative[np.isfinite(relative)]
    top = (
        max(2.0, float(np.percentile(known, 99.5))) if len(known) else 2.0
    )  # a few hot cells must not darken all others
    image = axes.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(layers + 1) - 0.5, relative, cmap=HEATMAP, vmin=0.0, vmax=top
    )
    image.set_rasterized(True)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_xlabel(what)
    axes.set_ylabel("MoE layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    return image


def _draw_busiest(axes: Axes, busiest: NDArray[np.float64]) -> None:
    layers = np.arange(len(busiest))
    axes.barh(layers, np.nan_to_num(busiest), 0.8, color=SERIES_COLOURS[1])
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle=":")
    mean = float(np.nanmean(busiest)) if np.isfinite(busiest).any() else 1.0
    axes.axvline(mean, color=INK, linewidth=1.2)
    axes.annotate(
        f"mean {mean:.2f}x",
        (mean, 1.0),
        (0, 3),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=7.5,
    )
    axes.set_xlabel("busiest / mean", color=MUTED)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.grid(True, axis="x")
