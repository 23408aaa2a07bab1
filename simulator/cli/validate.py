"""`epsim validate`."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, folder, print_json, slug, table_output, write_csv
from simulator.cli.validate_routing import validate_routing

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

Tables = list[tuple[str, list[dict[str, str]]]]
IDS_SHOWN = 3


@click.command(
    epilog="""
\b
Examples:
  epsim validate
  epsim validate training
  epsim validate decode --rows measured.csv --csv errors.csv
  epsim validate collectives --rows measured.csv --summary
  epsim validate serving --summary
  epsim validate --defaults
  epsim validate routing
  epsim validate reliability
  epsim validate scaling
"""
)
@click.argument("area", required=False)
@click.option("--rows", "rows_path", type=click.Path(), metavar="FILE", help="Your own measurements (CSV).")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the picture; default out/validate.")
@click.option("--summary", is_flag=True, help="Errors by group only.")
@click.option("--defaults", "show_defaults", is_flag=True, help="Explain what empty cells are taken to mean.")
@click.option("--traces", type=click.Path(), metavar="DIR", help="Recorded traces, with AREA routing.")
@table_output
def validate(
    area: str | None,
    rows_path: str | None,
    out: str | None,
    summary: bool,
    show_defaults: bool,
    traces: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Replay measurements of AREA: predicted, measured, error, evidence, source.

    AREA is training, scaling, reliability, inference or collectives, or a part of them: prefill, decode, serving,
    dispatch. Without FILE the published measurements that ship with epsim are replayed.

    AREA routing compares drawn with recorded routing: on sequences held out of the fit, where recorded traces are at
    hand (--traces, EPSIM_TRACES or ../shared/traces), else on figures stored with the shipped statistics.
    """
    target = folder(out, Path("out") / slug(f"validate-{area or ''}"))
    if area == "routing":
        validate_routing(traces, target, as_json, csv_path)
        return
    from reports.plots import operations_picture, validation_scatter
    from reports.tables import console, operations_table, serving_errors_table, training_errors_table
    from simulator.errors import UserError
    from simulator.validation.serving_groups import left_out_reasons, serving_errors
    from simulator.validation.summary import summarise
    from simulator.validation.training_groups import group_errors

    tables = _tables(area, rows_path)
    frame = _replayed(tables, as_json)
    rows = [{str(key): _plain(value) for key, value in row.items()} for row in frame.to_dict("records")]
    operations = summarise(row for row in rows if row["operation"])
    groups = group_errors(row for row in rows if row["chip"])
    serving = serving_errors(row for row in rows if row["system"])
    if summary and not operations and not groups and not serving:
        raise UserError("--summary: no row was predicted; validate another area")
    shown = [*operations, *groups, *serving] if summary else rows
    if csv_path:
        write_csv(shown, csv_path)
    pictures = [] if summary else [draw(validation_scatter, frame, path=target / "validation.png")]
    if operations:
        pictures.append(draw(operations_picture, operations, path=target / "operations.png"))
    if as_json:
        print_json(shown)
        return
    terminal = console()
    if not summary:
        _print_rows(frame, rows, show_defaults)
    if operations:
        terminal.print(operations_table(operations))
    if groups:
        terminal.print(training_errors_table(groups))
    if serving:
        terminal.print(serving_errors_table(serving, left_out_reasons(row for row in rows if row["system"])))
    if show_defaults:
        terminal.print(_defaults_table([name for name, _ in tables]))
    for picture in pictures:
        terminal.print(f"drawn: {picture}", soft_wrap=True, highlight=False)


def _print_rows(frame: "pd.DataFrame", rows: Sequence[Mapping[str, Any]], show_defaults: bool) -> None:
    from reports.tables import console, validation_table

    terminal = console()
    terminal.print(validation_table(frame))
    for block in _remarks(rows, show_defaults):
        terminal.print(block)


def _tables(area: str | None, rows_path: str | None) -> Tables:
    """Rows by area: the user's, or those shipped."""
    from simulator.errors import UserError
    from simulator.validation.tables import AREAS, area_of, load_rows, resolve_area, shipped_rows

    asked, column, values = resolve_area(area) if area else ("", "", ())
    if rows_path:
        rows = load_rows(rows_path)
        tables = [(area_of(rows, rows_path, asked), rows)]
    else:
        tables = [(name, shipped_rows(name)) for name in ([asked] if asked else AREAS)]
    if column:
        tables = [(name, [row for row in rows if row.get(column) in values]) for name, rows in tables]
    if not any(rows for _, rows in tables):
        raise UserError(f"{rows_path or area}: no rows of {area}; look at column {column}")
    return tables


def _replayed(tables: Tables, quiet: bool) -> "pd.DataFrame":
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from simulator.validation.replay import COLUMNS, replay_each

    found = track(
        (row for name, rows in tables for row in replay_each(rows, name)),
        total=sum(len(rows) for _, rows in tables),
        description="replaying measurements",
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    return pd.DataFrame(list(found), columns=list(COLUMNS))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN differs from itself


def _remarks(rows: Sequence[Mapping[str, Any]], show_defaults: bool) -> "list[RenderableType]":
    """Return what stands below the table: likely causes of large errors, and how empty cells were read."""
    from reports.text import bullets

    causes = _by_remark((row["id"], row["cause"]) for row in rows)
    used = _by_remark((row["id"], text) for row in rows for text in str(row["defaults"]).split("; "))
    if show_defaults:
        taken = [f"{text}: {', '.join(ids)}" for text, ids in used.items()]
    else:
        taken = ["; ".join(f"{text} ({len(ids)})" for text, ids in used.items())] if used else []
    blocks = {
        "Likely causes of errors beyond 25 %": [f"{text}: {_listed(ids)}" for text, ids in causes.items()],
        "Empty cells were taken as (rows; --defaults lists and explains them)": taken,
    }
    return [bullets(title, lines) for title, lines in blocks.items() if lines]


def _by_remark(remarks: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Ids by remark, in the order of their first row."""
    found: dict[str, list[str]] = {}
    for row_id, text in remarks:
        if text:
            found.setdefault(text, []).append(row_id)
    return found


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - IDS_SHOWN
    return ", ".join(ids[:IDS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _defaults_table(areas: Sequence[str]) -> "RenderableType":
    from reports.tables import facts_table
    from simulator.validation.cells import data

    rows = [
        {"area": name, "empty cell": column, "means": entry["value"], "because": entry["because"]}
        for name in areas
        for column, entry in data("defaults")[name].items()
    ]
    return facts_table(rows, "Empty cells")
