"""`epsim serve`."""

import sys
from pathlib import Path
from typing import Any

import click

from simulator.cli.options import folder, print_json, settings, slug, write_csv
from simulator.cli.request_options import asked_requests, request_options, service_level


@click.command(
    epilog="""
\b
Examples:
  epsim serve dsv3-serve-h800 --requests synthetic --rate 100 --count 2000
  epsim serve dsv3-serve-h800 --requests azure.csv --rate 300 --slo-ttft 2s --slo-tpot 50ms
  epsim serve dsv3-serve-h800 --requests mooncake.jsonl --set serving.router=cache-aware
  epsim serve dsv3-decode-h800 --requests synthetic --rate 50 --output-tokens 200 --json
"""
)
@click.argument("scenario")
@settings
@request_options
@click.option("--rate", type=float, metavar="PER_S", help="Mean arrival rate; a trace's gaps are scaled to it.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the results; default out/NAME-DIGEST.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--csv", "csv_path", type=click.Path(), metavar="FILE", help="Also write the service levels as CSV.")
def serve(scenario: str, overrides: tuple[str, ...], **asked: Any) -> None:
    """Serve requests by the instances of SCENARIO and count what they see.

    SCENARIO decodes; its [serving] section says how many instances there are, and which scenario computes prompts.
    The result, a table of all requests (Parquet), and pictures of latencies and load are written to a folder.
    """
    from rich.console import Console

    from reports.serving import latency_curves, load_timeline
    from reports.serving_tables import level_rows, serving_tables
    from reports.tables import console
    from simulator.cli.options import draw
    from simulator.output import write_folder
    from simulator.scenario_file import load_scenario
    from simulator.serve.frames import load_frame, request_frame
    from simulator.serve.serve import serve as run

    own = (f"seed={asked['seed']}",) if asked["seed"] is not None else ()
    loaded = load_scenario(scenario, (*overrides, *own))
    requests, notes = asked_requests(asked, asked["rate"], loaded.seed)
    quiet = asked["as_json"] or not sys.stderr.isatty()
    with Console(stderr=True, quiet=quiet).status(f"{len(requests):,} requests"):
        window = (asked["warm_up"], 1.0 - asked["drain"])
        served = run(loaded, requests, service_level(asked), window, asked["skip_bad_lines"], notes)
    result = served.result
    target = folder(asked["out"], Path("out") / f"{slug(loaded.name)}-{result.digest}")
    frame, load = request_frame(served.log), load_frame(served)
    data = (result.model_dump_json(indent=2) + "\n").encode()
    write_folder(target, {"result.json": data, "requests.parquet": frame.to_parquet(index=False)})
    draw(latency_curves, frame, result, path=target / "latency.png")
    draw(load_timeline, load, result, path=target / "load.png")
    if asked["csv_path"]:
        write_csv(level_rows(result), asked["csv_path"])
    if asked["as_json"]:
        print_json(result.model_dump(mode="json"))
        return
    terminal = console()
    for table in serving_tables(result):
        terminal.print(table)
    written = "result.json, requests.parquet, latency.png, load.png"
    terminal.print(f"written to {target}: {written}", soft_wrap=True, highlight=False)
