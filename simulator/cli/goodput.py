"""`epsim goodput`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import chip_counts, draw, folder, print_json, settings, slug, table_output, write_csv

if TYPE_CHECKING:
    from simulator.study.goodput import Outlook


@click.command(
    epilog="""
\b
Examples:
  epsim goodput dsv3-train-h800 --tokens 14.8e12
  epsim goodput dsv3-train-h800 --chips 512,1024,2048 --set reliability.fleet=rsc-1
  epsim goodput dsv3-train-h800 --intervals 300,900,3600 --set reliability.checkpoint=synchronous
  epsim goodput dsv3-train-h800 --set reliability.spare_nodes=0 --set reliability.elastic_nodes=4
"""
)
@click.argument("scenario")
@click.option(
    "--tokens", type=click.FloatRange(min=1.0, max=1e18), default=1e13, show_default=True, help="To train on."
)
@click.option("--chips", "sizes", metavar="N1,N2,...", help="Sizes to compare; 512,1024,...,8192 is filled in.")
@click.option("--intervals", metavar="S1,S2,...", help="Also simulate these checkpoint intervals [s].")
@click.option("--histories", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Runs to simulate.")
@settings
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the pictures; default out/goodput-NAME.")
@table_output
def goodput(
    scenario: str,
    tokens: float,
    sizes: str | None,
    intervals: str | None,
    histories: int,
    overrides: tuple[str, ...],
    out: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Days, chip-hours, energy and cost of training SCENARIO under failures, as a distribution over histories.

    Failures, detection, restart, checkpoints, spares and stragglers are the scenario's [reliability] table; `epsim
    schema` explains its keys.
    """
    from reports.tables import console
    from simulator.errors import UserError
    from simulator.study.goodput_curve import interval_points, read_numbers

    target = folder(out, Path("out") / slug(f"goodput-{Path(scenario).stem}"))
    other_s = read_numbers(intervals, "--intervals") if intervals is not None else []
    found, refused = _outlooks(scenario, overrides, _chips(scenario, overrides, sizes), tokens, histories, as_json)
    if not found:
        raise UserError(*(f"{row['chips']} chips: {row['reason']}" for row in refused))
    rows = [each.row() for each in found]
    points = [row for each in found for row in interval_points(each, other_s)]
    if csv_path:
        write_csv([*rows, *refused, *points], csv_path)
    pictures = _pictures(found, rows, points, target)
    if as_json:
        print_json({"sizes": [*rows, *refused], "intervals": points})
        return
    _print(found, [*rows, *refused], points)
    for picture in pictures:
        console().print(f"drawn: {picture}", soft_wrap=True, highlight=False)


def _chips(scenario: str, overrides: tuple[str, ...], sizes: str | None) -> list[int]:
    from simulator.phase.setup import setup
    from simulator.scenario_file import load_scenario

    if sizes is None:
        return [setup(load_scenario(scenario, overrides)).machine.chips]
    return chip_counts(sizes)


def _outlooks(
    scenario: str, overrides: tuple[str, ...], chips: list[int], tokens: float, histories: int, quiet: bool
) -> "tuple[list[Outlook], list[dict[str, Any]]]":
    from rich.console import Console
    from rich.progress import track

    from simulator.study.goodput_curve import outlooks

    made = track(
        outlooks(scenario, overrides, chips, tokens, histories),
        total=len(chips),
        description="simulating histories",
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    found, refused = [], []
    for each in made:
        if isinstance(each, tuple):
            refused.append({"chips": each[0], "reason": each[1]})
        else:
            found.append(each)
    return found, refused


def _pictures(
    found: "list[Outlook]", rows: list[dict[str, Any]], points: list[dict[str, Any]], target: Path
) -> list[Path]:
    from reports.goodput_curves import goodput_over_chips, goodput_over_interval
    from simulator.study.goodput_curve import interval_curve

    title = f"{found[0].scenario}: goodput"
    curves = [row for each in found for row in interval_curve(each)]
    pictures = [draw(goodput_over_interval, curves, [*rows, *points], path=target / "interval.png", title=title)]
    if len(rows) > 1:
        pictures.append(draw(goodput_over_chips, rows, path=target / "chips.png", title=title))
    return pictures


def _print(found: "list[Outlook]", rows: list[dict[str, Any]], points: list[dict[str, Any]]) -> None:
    from reports.goodput import goodput_report, goodput_table, interval_table
    from reports.tables import console

    terminal = console()
    if len(rows) == 1:
        terminal.print(goodput_report(rows[0], found[0].notes))
    else:
        terminal.print(goodput_table(rows))
    if points:
        terminal.print(interval_table(points))
