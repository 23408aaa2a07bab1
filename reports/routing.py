"""Recorded routing over time: the load of every expert, window by window."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.style import HEATMAP, INK, SERIES_COLOURS, figure, headline, save, style

_LAYERS = 3  # drawn: first, middle, last


def load_over_time(load: NDArray[Any], window: str, path: Path | str, title: str = "Load over time") -> Path:
    """Draw the experts' load of the first, a middle and the last layer over time, and below how uneven each window is.

    Parameters
    ----------
    load
        Tokens, shape [windows, layers, experts].
    window
        What a window is, for example `1,024 tokens`.
    path
        PNG, SVG or PDF.

    Raises
    ------
    ValueError
        If `load` is not three-dimensional, or empty.
    """
    tokens = np.asarray(load, dtype=float)
    if tokens.ndim != 3 or not tokens.size:
        raise ValueError(f"load: shape {tokens.shape}: must be [windows, layers, experts]")
    mean = tokens.mean(axis=2, keepdims=True)
    relative = np.divide(tokens, mean, out=np.full_like(tokens, np.nan), where=mean > 0.0)
    windows, layers, experts = tokens.shape
    shown = sorted({round(index) for index in np.linspace(0, layers - 1, _LAYERS)})
    known = relative[np.isfinite(relative)]
    top = max(2.0, float(np.percentile(known, 99.0))) if known.size else 2.0
    with style():
        drawn = figure(9.0, 3.2 + 1.7 * len(shown))
        axes = drawn.subplots(
            len(shown) + 1, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [1.0] * len(shown) + [0.9]}
        )[:, 0]
        for place, layer in zip(axes, shown, strict=False):
            image = place.pcolormesh(
                np.arange(windows + 1) - 0.5,
                np.arange(experts + 1) - 0.5,
                relative[:, layer].T,
                cmap=HEATMAP,
                vmin=0.0,
                vmax=top,
            )
            image.set_rasterized(True)
            place.set_ylabel(f"expert, layer {layer}")
            place.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
        _draw_busiest(axes[-1], relative.max(axis=2), shown, window)
        bar = drawn.colorbar(image, ax=list(axes[: len(shown)]), shrink=0.7, pad=0.02, extend="max")
        bar.set_label("load over the mean")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        headline(drawn, title, f"{windows} windows of {window}, {layers} layers x {experts} experts.")
        return save(drawn, path)


def _draw_busiest(axes: Axes, busiest: NDArray[np.float64], shown: list[int], window: str) -> None:
    windows = np.arange(len(busiest))
    for place, layer in enumerate(shown):
        axes.plot(windows, busiest[:, layer], color=SERIES_COLOURS[place], label=f"layer {layer}")
    axes.plot(windows, busiest.mean(axis=1), color=INK, linestyle="--", label="mean of all layers")
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("busiest / mean")
    axes.set_xlabel(f"window of {window}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    axes.grid(True, axis="y")
    axes.legend(ncols=len(shown) + 1, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
