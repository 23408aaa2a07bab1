"""`epsim validate routing`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.cli.options import draw, print_json, write_csv

if TYPE_CHECKING:
    import pandas as pd


def validate_routing(traces: str | None, target: Path, as_json: bool, csv_path: str | None) -> None:
    """Print and draw how drawn routing compares with recorded routing."""
    from reports.plots import validation_scatter
    from reports.tables import console, facts_table
    from simulator.validation.recordings import traces_folder
    from simulator.validation.routing import averages

    found = traces_folder(traces)
    rows = _compared(found, quiet=as_json)
    if csv_path:
        write_csv(rows, csv_path)
    mean = averages(rows)
    title = "Drawn against recorded routing"
    picture = draw(validation_scatter, _frame(mean), path=target / "validation.png", title=title)
    if as_json:
        print_json(rows)
        return
    terminal = console()
    terminal.print(facts_table([_shown(row) for row in mean], f"{title}, averaged over tasks"))
    within = [row["within"] for row in mean if row["within"] is not None]
    terminal.print(f"{sum(within)} of {len(within)} within their bounds; --csv and --json have every task")
    terminal.print(
        "held out: fitted to one half of the sequences, judged on the other, both ways"
        if found
        else "recorded figures are those stored with the shipped statistics; --traces DIR judges on held-out sequences",
        soft_wrap=True,
    )
    terminal.print(f"drawn: {picture}", soft_wrap=True, highlight=False)


def _compared(traces: Path | None, quiet: bool) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    from simulator.validation.routing import fidelity

    shown = track(
        fidelity(traces),
        description="drawing routing",
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    return list(shown)


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
