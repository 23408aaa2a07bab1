"""`epsim serve-sweep`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from simulator.cli.options import draw, folder, print_json, settings, slug
from simulator.cli.request_options import asked_requests, request_options, service_level


@click.command(
    epilog="""
\b
Examples:
  epsim serve-sweep dsv3-serve-h800 --requests synthetic --count 2000 --rates 100,200,400
  epsim serve-sweep dsv3-serve-h800 dsv3-serve-cloudmatrix384 --requests azure.csv --rates 50,100
"""
)
@click.argument("scenarios", nargs=-1, required=True)
@settings
@request_options
@click.option("--rates", required=True, metavar="R1,R2,...", help="Mean arrival rates; each is a run of its own.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the results; default out/serve-sweep-NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--csv", "csv_path", type=click.Path(), metavar="FILE", help="Also write the rows as CSV.")
def serve_sweep(scenarios: tuple[str, ...], overrides: tuple[str, ...], **asked: Any) -> None:
    """Serve the same requests at several rates: throughput against TPOT, a curve for each of SCENARIOS.

    Rows and the picture (Pareto) are written to a folder; hollow points are rates that are too high to keep up with.
    """
    import pandas as pd
    from rich.console import Console
    from rich.progress import track

    from reports.serving import serving_pareto
    from reports.serving_tables import sweep_rows_table
    from reports.tables import console
    from simulator.cli.options import write_csv
    from simulator.output import write_folder

    rates = _rates(asked["rates"])
    quiet = asked["as_json"] or not sys.stderr.isatty()
    runs = _rows(scenarios, overrides, asked, rates)
    shown = Console(stderr=True)
    rows = list(track(runs, "serving", len(rates) * len(scenarios), console=shown, disable=quiet, transient=True))
    target = folder(asked["out"], Path("out") / slug("serve-sweep-" + "-".join(Path(name).stem for name in scenarios)))
    frame = pd.DataFrame(rows)
    write_folder(target, {"rows.csv": frame.to_csv(index=False, lineterminator="\n").encode()})
    draw(serving_pareto, frame, f"{asked['requests']}: throughput against TPOT", path=target / "pareto.png")
    if asked["csv_path"]:
        write_csv(rows, asked["csv_path"])
    if asked["as_json"]:
        print_json(rows)
        return
    terminal = console()
    terminal.print(sweep_rows_table(rows))
    terminal.print(f"written to {target}: rows.csv, pareto.png", soft_wrap=True, highlight=False)


def _rates(text: str) -> list[float]:
    from simulator.errors import UserError

    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise UserError(f"--rates {text}: not numbers separated by commas; for example 50,100,200") from None


def _rows(
    scenarios: tuple[str, ...], overrides: tuple[str, ...], asked: dict[str, Any], rates: list[float]
) -> Iterator[dict[str, Any]]:
    from simulator.scenario_file import load_scenario
    from simulator.serve.serve import serve
    from simulator.serve.statistics import sweep_row

    own = (f"seed={asked['seed']}",) if asked["seed"] is not None else ()
    window = (asked["warm_up"], 1.0 - asked["drain"])
    for name in scenarios:
        loaded = load_scenario(name, (*overrides, *own))
        for rate in rates:
            requests, notes = asked_requests(asked, rate, loaded.seed)
            served = serve(loaded, requests, service_level(asked), window, asked["skip_bad_lines"], notes)
            yield {"label": Path(name).stem, "rate": rate, **sweep_row(served.result)}
