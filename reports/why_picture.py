"""The tree of a run's time as bars: how long each line takes, and how much of it physics asks for."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from reports.style import INK, MUTED, figure, headline, hide_spines, part_colour, save, style
from simulator import units
from simulator.why import Line, Why

WIDTH_IN = 9.5
LEAST_SHARE = 0.001  # lines below this are not drawn


def why_bars(why: Why, path: Path | str) -> Path:
    """Draw one bar per leaf of the tree under its group, solid as far as the speed of light asks for its time.

    Parameters
    ----------
    path
        PNG, SVG or PDF.
    """
    rows = _rows(why.tree)
    with style():
        drawn = figure(WIDTH_IN, 1.3 + 0.27 * len(rows))
        axes = drawn.subplots()
        for place, (line, is_group) in enumerate(rows):
            _draw(axes, place, line, is_group)
        axes.set_yticks(range(len(rows)), [("" if group else "    ") + line.what for line, group in rows])
        for label, (_, is_group) in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if is_group else "normal")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0.0, 1.28 * max(line.share for line, _ in rows))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_xlabel("share of the step or iteration")
        hide_spines(axes, "left")
        keys = [Patch(color=MUTED, label="at the speed of light"), Patch(color=MUTED, alpha=0.35, label="above it")]
        keys.append(Patch(facecolor="white", edgecolor=MUTED, hatch="////", label="waits and sums of unlike lines"))
        drawn.legend(handles=keys, loc="outside lower left", ncols=3, handlelength=1.2)
        headline(drawn, f"Why {units.seconds(why.step_s)}?", why.scenario)
        return save(drawn, path)


def _rows(tree: Line) -> list[tuple[Line, bool]]:
    rows = []
    for group in tree.lines:
        rows.append((group, True))
        rows += [(line, False) for line in group.lines if line.share >= LEAST_SHARE and len(group.lines) > 1]
    return [row for row in rows if row[0].share >= LEAST_SHARE]


def _draw(axes: Axes, place: int, line: Line, is_group: bool) -> None:
    colour, height = part_colour(line.part), 0.62 if is_group else 0.5
    if line.light is None:
        axes.barh(place, line.share, height, facecolor="white", edgecolor=colour, hatch="////")
    else:
        axes.barh(place, line.share, height, color=colour, alpha=0.35)
        axes.barh(place, line.share * min(line.light, 1.0), height, color=colour)
    text = f"{units.percent(line.share)}, {units.seconds(line.time_s)}"
    if line.limited_by and line.light:
        text += f" ({line.limited_by.split(',')[0]})"
    axes.annotate(
        text,
        (line.share, place),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=INK if is_group else MUTED,
    )
