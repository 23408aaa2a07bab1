"""Errors of single operations by fabric and library, as a picture beside the aims."""

from pathlib import Path

from reports.operations import Records, group_name
from reports.style import INK, MUTED, SERIES_COLOURS, figure, headline, hide_spines, save, style


def operations_picture(records: Records, path: Path | str) -> Path:
    """Draw the mean error of each group as a bar, that with its series left out as a mark, and its aim as a tick."""
    with style():
        drawn = figure(9.0, 1.4 + 0.24 * max(1, len(records)))
        axes = drawn.subplots()
        for place, record in enumerate(records):
            colour = SERIES_COLOURS[1] if record["met"] is False else SERIES_COLOURS[0]
            axes.barh(place, 100 * record["mean"], 0.62, color=colour, alpha=0.85)
            if record["left_out"] is not None:
                axes.plot(100 * record["left_out"], place, "D", color=INK, markersize=4)
            if record["aim"] is not None:
                axes.plot([100 * record["aim"]] * 2, [place - 0.42, place + 0.42], color=MUTED, linewidth=2)
        names = [f"{group_name(record)}: {record['operation']} ({record['rows']})" for record in records]
        axes.set_yticks(range(len(records)), names, fontsize=7.5)
        axes.set_ylim(len(records) - 0.4, -0.6)
        axes.set_xlabel("mean absolute error [%]")
        hide_spines(axes, "top", "right")
        headline(
            drawn,
            "Errors of single operations by fabric and library",
            "Bar: as calibrated. Diamond: own series left out of the fit. Line: aim; orange where missed.",
        )
        return save(drawn, path)
