"""How every picture looks, and how it is written: same input, same bytes."""

import io
import math
import os
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from simulator.result import PART_LABELS, PARTS

# One colour per part of the time, in families that stay apart for colour-blind readers and in print: blues for work on
# the chip, oranges for expert-parallel traffic, purples and rose for other traffic, green and greys for waiting.
PART_COLOURS = {
    "compute": "#2F5BC0",
    "memory": "#8FC1F2",
    "dispatch": "#E03C14",
    "combine": "#F5A069",
    "tensor_parallel": "#71146C",
    "context_parallel": "#B3589A",
    "pipeline": "#BFA3A8",
    "data_parallel": "#B86AD0",
    "optimizer": "#F0C11F",
    "imbalance_wait": "#17522D",
    "bubble": "#E4E8ED",
    "overhead": "#686E75",
}
PART_SHORT = {
    "compute": "compute",
    "memory": "memory",
    "dispatch": "dispatch",
    "combine": "combine",
    "tensor_parallel": "TP comm",
    "context_parallel": "CP comm",
    "pipeline": "PP comm",
    "data_parallel": "DP comm",
    "optimizer": "optimizer",
    "imbalance_wait": "imbalance",
    "bubble": "bubble",
    "overhead": "overhead",
}
UNKNOWN_COLOUR = "#9A9A9A"
INFEASIBLE_COLOUR = "#EDEDED"
INK = "#22262B"
MUTED = "#6B7178"
SERIES_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#56B4E9", "#E69F00", "#7A5C00", "#444444")
SERIES_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
HEATMAP = "cividis"
FORMATS = ("png", "svg", "pdf")
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "grid.color": "#DFE3E8",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 7.0,
    "hatch.linewidth": 0.6,
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    "svg.hashsalt": "epsim",
    "svg.fonttype": "path",
}


FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "SimHei",
    "PingFang SC",
)


@contextmanager
def style() -> Iterator[None]:
    """Draw with this module's settings only, whatever the user's matplotlibrc says.

    A name in a script that DejaVu Sans lacks is drawn with a font of the system if there is one, else as boxes: a
    picture is no reason to print warnings about glyphs.
    """
    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]
    with matplotlib.style.context(["default", {**_SETTINGS, "font.family": families}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that lays itself out [inch]."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def headline(drawn: Figure, title: str, subtitle: str = "") -> None:
    """Set a bold title over the whole figure, folded where long, with one muted line below it."""
    folded = textwrap.fill(title, 88)
    height_in = float(drawn.get_size_inches()[1])
    drawn.suptitle(
        folded + ("\n" if subtitle else ""), x=0.012, ha="left", fontsize=11.5, fontweight="bold", linespacing=1.3
    )
    if subtitle:
        lines = folded.count("\n") + 1
        below_in = 0.06 + 0.215 * lines
        drawn.text(0.012, 1.0 - below_in / height_in, subtitle, ha="left", va="top", fontsize=8.5, color=MUTED)


def part_colour(part: object) -> str:
    """Return the colour of a part of the time, grey for one that is not known."""
    return PART_COLOURS.get(str(part), UNKNOWN_COLOUR)


def part_short(part: object) -> str:
    """Return a name of a part that fits into a small cell."""
    return PART_SHORT.get(str(part), str(part).replace("_", " "))


def part_label(part: str) -> str:
    """Return the full name of a part."""
    return PART_LABELS.get(part, part.replace("_", " "))


def ordered_parts(present: set[str]) -> list[str]:
    """Return the parts that occur, in the fixed order of `PARTS`."""
    return [part for part in PARTS if part in present]


def ink_on(colour: str) -> str:
    """Return black or white, whichever reads better on a colour `#rrggbb` (relative luminance, ITU-R BT.709)."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5 else INK


def log_text(value: float) -> str:
    """Return the label of a tick on a logarithmic axis, without idle zeros: `0.05`, `500`, `50 k`, `2 M`."""
    if value < 1e4:
        return f"{value:,.0f}" if value >= 1.0 else f"{value:g}"
    power = min(4, math.floor(math.log10(value) / 3 + 1e-9))
    return f"{value / 1000**power:g} {' kMBT'[power]}"


def hide_spines(axes: Axes, *sides: str) -> None:
    """Hide sides of the frame."""
    for side in sides:
        axes.spines[side].set_visible(False)


def save(drawn: Figure, path: Path | str) -> Path:
    """Write a figure as PNG, SVG or PDF by its suffix: deterministic bytes, and whole or not at all.

    Raises
    ------
    ValueError
        If the suffix is none of `FORMATS`.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"{target}: unknown picture format '{target.suffix}'; use one of .{', .'.join(FORMATS)}")
    buffer = io.BytesIO()
    drawn.savefig(buffer, format=kind, metadata=_METADATA[kind])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
