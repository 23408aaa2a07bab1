"""`epsim validate routing`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.cli.options import draw, print_json, write_csv

_SKEW = "DeepSeek-R1 on EP32: busiest over mean, less 1 (+32 slots: redundant)"

if TYPE_CHECKING:
    import pandas as pd


def validate_routing(traces: str | None, target: Path, as_json: bool, csv_path: str | None) -> None:
    """Print and draw how drawn routing compares with recorded routing."""
    from reports.plots import validation_scatter
    from reports.tables import console, facts_table
    from simulator.validation.recordings import traces_folder
    from simulator.validation.routing import averages
    from simulator.validation.skew import published_skew

    found = traces_folder(traces)
    rows = _compared(found, quiet=as_json)
    if csv_path:
        write_csv(rows, csv_path)
    mean = averages(rows)
    title = "Drawn against recorded routing"
    picture = draw(validation_scatter, _frame(mean), path=target / "validation.png", title=title)
    skew = published_skew()
    if as_json:
        print_json({"fidelity": rows, "published_skew": skew})
        return
    terminal = console()
    terminal.print(facts_table([_shown(row) for row in mean], f"{title}, averaged over tasks"))
    within = [row["within"] for row in mean if row["within"] is not None]
    terminal.print(f"{sum(within)} of {len(within)} within their bounds; --csv and --json have every task")
    terminal.print(
        "held out: fitted to one half of the sequences, judged on the other, both ways; OLMoE: loads, not held out"
        if found
        else "recorded: as stored with the shipped statistics; --traces DIR judges on held-out sequences",
        soft_wrap=True,
    )
    terminal.print(facts_table([_skew_row(row) for row in skew], _SKEW))
    terminal.print("routing.mix = 'translation', or routing.strength = 2.9, reaches what was published", soft_wrap=True)
    terminal.print(f"drawn: {picture}", soft_wrap=True, highlight=False)


def _compared(traces: Path | None, quiet: bool) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from simulator.validation.routing import fidelity

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    hidden = quiet or not sys.stderr.isatty()
    rows = []
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        shown = progress.add_task("drawing routing")
        for row in fidelity(traces):
            rows.append(row)
            progress.update(shown, description=f"drawing routing; done: {row['statistics']}, {row['task']}")
    return rows


def _frame(rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    columns = [
        {
            "id": f"{row['statistics']} {row['measure']}",
            "area": row["statistics"],
            "predicted": row["drawn"],
            "measured": row["recorded"],
            "unit": "share" if row["error_is"] == "difference" else "ratio",
            "evidence": "D",
        }
        for row in rows
    ]
    return pd.DataFrame(columns, columns=["id", "area", "predicted", "measured", "unit", "evidence"])


def _skew_row(row: dict[str, Any]) -> dict[str, str]:
    figures = ("busiest_expert", "busiest_rank", "busiest_rank_redundant", "busiest_rank_redundant_batch")
    names = ("expert", "rank", "+32 slots", "by one batch")
    shown = {name: f"{row[figure]:.2f}" if figure in row else "" for name, figure in zip(names, figures, strict=True)}
    strength = "" if row["strength"] is None else f"{row['strength']:g}"
    return {"routing": row["routing"], "mix": row["mix"], "strength": strength, **shown}


def _shown(row: dict[str, Any]) -> dict[str, str]:
    relative = row["error_is"] == "relative"
    bound = row["bound"]
    return {
        "statistics": row["statistics"],
        "measure": row["measure"].replace("_", " "),
        "recorded": f"{row['recorded']:.3f}",
        "drawn": f"{row['drawn']:.3f}",
        "error": f"{row['error']:+.1%}" if relative else f"{row['error']:+.3f}",
        "bound": "" if bound is None else f"{bound:.0%}" if relative else f"{bound:.2f}",
        "": "" if row["within"] is None else "within" if row["within"] else "MISSED",
    }
