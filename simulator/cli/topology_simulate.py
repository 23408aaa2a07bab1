"""`epsim topology simulate`."""

import sys
from contextlib import nullcontext
from dataclasses import asdict

import click

from simulator.cli.options import print_json, settings, table_output, write_csv


@click.command(
    epilog="""
\b
Examples:
  epsim topology simulate dsv3-decode-cloudmatrix384
  epsim topology simulate dsv3-train-h800 --phase dispatch --phase pipeline --phase gradients
  epsim topology simulate dsv3-train-h800 --set 'cluster.faults=["nic 17 at 50 %"]' --json
"""
)
@click.argument("scenario")
@settings
@click.option(
    "--phase",
    "operations",
    multiple=True,
    default=("dispatch",),
    help="dispatch (default), combine, pipeline or gradients; repeatable: all start at once.",
)
@click.option(
    "--top", type=click.IntRange(1, 10_000), default=5, help="How many ranks, flows and links to list; default 5."
)
@table_output
def simulate(
    scenario: str,
    overrides: tuple[str, ...],
    operations: tuple[str, ...],
    top: int,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Simulate operations of SCENARIO flow by flow: how far skew and shared links keep them above their bound.

    Flows share links at line rate by max-min fairness, without latency. Every EP group dispatches a drawn micro-batch
    and layer of its own, from the least to the most uneven; faults and traffic of others are the scenario's. --csv
    writes a row per operation.
    """
    from rich.console import Console

    from reports.network_run import network_run_table
    from reports.tables import console
    from simulator.phase.network_run import network_run
    from simulator.scenario_file import load_scenario

    asked = load_scenario(scenario, overrides)
    with Console(stderr=True).status("simulating flows") if sys.stderr.isatty() and not as_json else nullcontext():
        run = network_run(asked, operations, top)
    if csv_path:
        write_csv([asdict(each) for each in run.operations], csv_path)
    if as_json:
        print_json(asdict(run))
    else:
        console().print(network_run_table(run))
