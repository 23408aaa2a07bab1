"""Links under load: the busiest ones as a table, all of them and the pairs of ranks behind them as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from rich.console import Group, RenderableType

from reports.style import HEATMAP, MUTED, SERIES_COLOURS, figure, headline, save, style
from reports.text import cell, shorten_fabric, table
from simulator import units
from simulator.network_use import LinkUse, NetworkUse

SHOWN_PAIRS = 2


def network_use_table(use: NetworkUse) -> RenderableType:
    """Return the busiest links with what they carry, how busy they are and which pairs of ranks load them most."""
    made = table("Busiest links", "link", "bytes", "rate", "busy", "utilised", "most from (share)", left=(0, 5))
    for link in use.links:
        made.add_row(
            cell(shorten_fabric(link.link, link.fabric)),
            cell(units.decimal_bytes(link.size_bytes)),
            cell(units.bytes_per_s(link.bytes_per_s)),
            cell(units.seconds(link.busy_s)),
            cell(units.percent(link.utilisation)),
            cell(_pairs(link), "dim"),
        )
    kinds = table("All links, by kind", "kind", "links", "busiest", "mean", "idle", left=(0,))
    for kind in use.kinds:
        used = kind.utilisation
        kinds.add_row(
            cell(shorten_fabric(kind.kind, kind.fabric)),
            cell(units.count(used.size)),
            cell(units.percent(float(used.max(initial=0.0)))),
            cell(units.percent(float(used.mean()))),
            cell(units.count(int((used == 0).sum()))),
        )
    title = f"{use.scenario}: {use.operation} on {use.cluster}, {units.count(use.ranks)} ranks"
    detail = (
        f"takes {units.seconds(use.time_s)}, its busiest link {units.seconds(use.bound_s)} at line rate; "
        f"{units.decimal_bytes(use.sent_bytes)} sent"
    )
    return Group(cell(title, "bold"), cell(detail), cell(use.note, "dim"), made, kinds)


def _pairs(link: LinkUse) -> str:
    shown = link.pairs[:SHOWN_PAIRS]
    share = sum(pair.size_bytes for pair in shown) / link.size_bytes
    return f"{', '.join(f'{pair.source}->{pair.target}' for pair in shown)} ({units.percent(share)})"


def draw_network_use(use: NetworkUse, path: Path | str) -> Path:
    """Draw the utilisation of all links by kind, and who sends how much to whom over the busiest plane.

    Parameters
    ----------
    path
        PNG, SVG or PDF.
    """
    with style():
        drawn = figure(10.5, 4.8)
        left, right = drawn.subplots(1, 2, gridspec_kw={"width_ratios": [1.35, 1.0]})
        _draw_kinds(left, use)
        image = _draw_matrix(right, use)
        bar = drawn.colorbar(image, ax=right, location="right", shrink=0.85, aspect=30, pad=0.02)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: units.decimal_bytes(value)))
        hottest = use.links[0].link if use.links else "none"
        headline(
            drawn,
            f"{use.scenario}: {use.operation} on {use.cluster}",
            f"{units.seconds(use.time_s)} predicted, {units.seconds(use.bound_s)} on the busiest link: {hottest}",
        )
        return save(drawn, path)


def _draw_kinds(axes: Axes, use: NetworkUse) -> None:
    """Draw a bar per kind of link: its busiest, and the mean of all."""
    used = [kind for kind in use.kinds if kind.utilisation.any()]
    names = []
    for row, kind in enumerate(used):
        colour = SERIES_COLOURS[row // 2 % len(SERIES_COLOURS)]
        peak, mean = float(kind.utilisation.max()), float(kind.utilisation.mean())
        axes.barh(row, peak, 0.62, color=colour, alpha=0.35, linewidth=0)
        axes.barh(row, mean, 0.62, color=colour, linewidth=0)
        axes.annotate(
            f"{peak:.0%} busiest, {mean:.0%} mean of {kind.utilisation.size:,}",
            (peak, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=MUTED,
        )
        names.append(shorten_fabric(kind.kind, kind.fabric))
    axes.set_yticks(range(len(used)), names)
    axes.invert_yaxis()
    top = max((float(kind.utilisation.max()) for kind in used), default=1.0)
    axes.set_xlim(0, 1.55 * top)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("busy at line rate, share of the operation's time (dark: mean, light: busiest)")
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1.0])
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)


def _draw_matrix(axes: Axes, use: NetworkUse) -> AxesImage:
    shown = np.where(use.matrix_bytes > 0, use.matrix_bytes, np.nan)
    image = axes.imshow(shown, cmap=HEATMAP, interpolation="nearest", aspect="equal", vmin=0.0)
    what = "rank" if use.block_ranks == 1 else f"block of {use.block_ranks} ranks"
    axes.set_title("Bytes over the busiest link's network", fontsize=9)
    axes.set_xlabel(f"to {what}")
    axes.set_ylabel(f"from {what}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    return image
