"""`epsim sweep`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, folder, print_json, settings, slug

if TYPE_CHECKING:
    import pandas as pd


@click.command(
    epilog="""
\b
Examples:
  epsim sweep dsv3-scaling-h800 --over cluster.chips=256,512,...,2048
  epsim sweep dsv3-decode-h800 --over plan.expert=32,64 --over workload.batch_per_rank=32,128
  epsim sweep dsv3-decode-h800 dsv3-decode-910b --over plan.expert=32,64,128,256
"""
)
@click.argument("scenarios", nargs=-1, required=True)
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="KEY=V1,V2,...",
    help="Values; 64,128,...,2048 is filled in. Repeatable.",
)
@settings
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; default: one per core.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the results; default out/sweep-NAME.")
@click.option("--title", default="", help="Title of the picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def sweep(
    scenarios: tuple[str, ...],
    over: tuple[str, ...],
    overrides: tuple[str, ...],
    jobs: int | None,
    out: str | None,
    title: str,
    as_json: bool,
) -> None:
    """Vary values of one or more SCENARIOS and draw the scaling curve.

    The first --over is the axis of the picture; every scenario and every setting of the others is a curve. Points that
    can't be run are rows with their reason. Rows are written as CSV and Parquet, the curve as PNG and SVG.
    """
    from reports.plots import scaling_curve
    from reports.tables import console, sweep_table
    from simulator.study.sweep import parse_over

    axes = parse_over(over)
    target = folder(out, Path("out") / slug("sweep-" + "-".join(Path(name).stem for name in scenarios)))
    frame = _frame(scenarios, overrides, axes, jobs, quiet=as_json)
    _write(frame, target)
    axis = axes[0][0]
    heading = title or f"{', '.join(scenarios)}: over {axis}"
    for suffix in ("png", "svg"):
        draw(scaling_curve, frame, path=target / f"scaling.{suffix}", title=heading, axis=axis, series="label")
    if as_json:
        print_json([{key: _plain(value) for key, value in row.items()} for row in frame.to_dict("records")])
        return
    terminal = console()
    shown = ["label", axis] if len(scenarios) > 1 or len(axes) > 1 else [axis]
    terminal.print(sweep_table(frame, axes=shown, title=heading))
    terminal.print(
        f"written to {target}: scaling.png, scaling.svg, rows.csv, rows.parquet", soft_wrap=True, highlight=False
    )


def _frame(
    scenarios: tuple[str, ...],
    overrides: tuple[str, ...],
    axes: list[tuple[str, list[str]]],
    jobs: int | None,
    quiet: bool,
) -> "pd.DataFrame":
    import os

    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from simulator.study.sweep import grid, run_points, with_efficiency

    total = len(scenarios) * len(grid(axes))
    points = run_points(scenarios, overrides, axes, jobs or os.cpu_count() or 1)
    rows: list[dict[str, Any]] = list(
        track(
            points,
            total=total,
            description=f"{total} points",
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
            transient=True,
        )
    )
    return pd.DataFrame(with_efficiency(rows, axes[0][0]))


def _write(frame: "pd.DataFrame", folder: Path) -> None:
    from simulator.output import write_folder

    text = frame.to_csv(index=False, lineterminator="\n").encode()
    # A swept key may hold numbers and words, which Parquet columns can't mix.
    plain = frame.assign(**{name: frame[name].astype(str) for name in frame.columns if "." in name})
    write_folder(folder, {"rows.csv": text, "rows.parquet": plain.to_parquet(index=False)})


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN becomes null."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN differs from itself
