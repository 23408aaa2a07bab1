"""`epsim scale`."""

import sys
from pathlib import Path
from typing import Any

import click

from simulator.cli.options import chip_counts, draw, folder, print_json, settings, slug, table_output, write_csv


@click.command(
    epilog="""
\b
Examples:
  epsim scale dsv3-scaling-h800 --chips 256,512,...,2048
  epsim scale dsv3-scaling-910b --chips 512,1024,...,4096 --weak
  epsim scale dsv3-train-h800 --chips 1024,2048 --strong --csv strong.csv
"""
)
@click.argument("scenario")
@click.option("--chips", "sizes", required=True, metavar="N1,N2,...", help="Sizes; 256,512,...,4096 is filled in.")
@click.option("--strong/--weak", default=True, help="Same global batch, or one that grows with the chips.")
@settings
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; default: one per core.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the pictures; default out/scale-NAME.")
@table_output
def scale(
    scenario: str,
    sizes: str,
    strong: bool,
    overrides: tuple[str, ...],
    jobs: int | None,
    out: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Scale training of SCENARIO: efficiency at each size, and which part of the time grows.

    TP, PP, EP and CP stay, data parallelism grows. Strong scaling keeps the scenario's global batch; weak scaling
    keeps its sequences per chip. Efficiency is tokens/s per chip over that of the smallest size that runs.
    """
    import pandas as pd

    from reports.plots import scaling_curve
    from reports.scaling_growth import scaling_table
    from reports.scaling_parts import growth_picture
    from reports.tables import console
    from simulator.errors import UserError

    kind = "strong" if strong else "weak"
    rows = _rows(scenario, overrides, sizes, strong, jobs, quiet=as_json)
    if not any(row["feasible"] for row in rows):
        raise UserError(*(f"{row['cluster.chips']} chips: {row['reason']}" for row in rows))
    target = folder(out, Path("out") / slug(f"scale-{Path(scenario).stem}-{kind}"))
    if csv_path:
        write_csv(rows, csv_path)
    title = f"{scenario}: {kind} scaling"
    frame = pd.DataFrame(rows)
    pictures = [
        draw(scaling_curve, frame, path=target / "scaling.png", title=title, axis="cluster.chips", series="series"),
        draw(growth_picture, rows, path=target / "parts.png", title=title),
    ]
    if as_json:
        print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
        return
    console().print(scaling_table(rows, title))
    for picture in pictures:
        console().print(f"drawn: {picture}", soft_wrap=True, highlight=False)


def _rows(
    scenario: str, overrides: tuple[str, ...], sizes: str, strong: bool, jobs: int | None, quiet: bool
) -> list[dict[str, Any]]:
    import os

    from rich.console import Console
    from rich.progress import track

    from simulator.study.scaling import scaling_rows, with_growth

    chips = chip_counts(sizes)
    made = track(
        scaling_rows(scenario, overrides, chips, "strong" if strong else "weak", jobs or os.cpu_count() or 1),
        total=len(chips),
        description=f"{len(chips)} sizes",
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    return with_growth(list(made))
