"""`epsim serve`."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import folder, print_json, settings, slug, write_csv

if TYPE_CHECKING:
    from workloads.requests.table import Requests

_TIME = re.compile(r"^\s*([0-9.]+(?:e-?[0-9]+)?)\s*(us|ms|s|min|h)?\s*$")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}


def _seconds(_: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return seconds of a time such as `50ms`, `2s` or `10 min`."""
    if text is None:
        return None
    found = _TIME.match(text)
    try:
        seconds = float(found.group(1)) * _SECONDS[found.group(2)] if found else 0.0
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} is not a positive time; give for example 50ms, 2s or 10min", param=option)
    return seconds


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
@click.option(
    "--requests", required=True, metavar="FILE|synthetic", help="Trace (Azure, BurstGPT, Mooncake, vLLM, SGLang)."
)
@click.option("--rate", type=float, metavar="PER_S", help="Mean arrival rate; a trace's gaps are scaled to it.")
@click.option(
    "--duration",
    callback=_seconds,
    metavar="TIME",
    help="Only requests that arrive within this time; for example 10min.",
)
@click.option("--count", type=click.IntRange(1, 20_000_000), help="Requests: the first ones, or the trace again.")
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "gamma", "bursty", "even"]),
    default="poisson",
    help="Synthetic: how the gaps between requests are distributed.",
)
@click.option("--gap-variation", type=float, default=2.0, help="Of gamma and bursty gaps: standard deviation / mean.")
@click.option("--prompt-tokens", type=float, help="Synthetic: mean prompt; default: Azure's conversations.")
@click.option("--output-tokens", type=float, help="Synthetic: mean answer; default: Azure's conversations.")
@click.option("--length-variation", type=float, help="Synthetic: of lengths; 0: all equal; default: Azure's.")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed, in place of the scenario's.")
@click.option(
    "--slo-ttft", callback=_seconds, metavar="TIME", help="Limit for the first token of a request in the goodput."
)
@click.option("--slo-tpot", callback=_seconds, metavar="TIME", help="Limit for the time per output token.")
@click.option("--warm-up", type=click.FloatRange(0, 0.9), default=0.1, help="Share of the time left out at first.")
@click.option("--drain", type=click.FloatRange(0, 0.9), default=0.1, help="Share of the time left out at the end.")
@click.option("--skip-bad-lines", is_flag=True, help="Leave bad lines and too long requests out, counted.")
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
    requests, notes = _requests(asked, loaded.seed)
    slo = {f"{name}_s": asked[f"slo_{name}"] for name in ("ttft", "tpot") if asked[f"slo_{name}"]}
    quiet = asked["as_json"] or not sys.stderr.isatty()
    with Console(stderr=True, quiet=quiet).status(f"{len(requests):,} requests"):
        window = (asked["warm_up"], 1.0 - asked["drain"])
        served = run(loaded, requests, slo, window, asked["skip_bad_lines"], notes)
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


def _requests(asked: dict[str, Any], seed: int) -> "tuple[Requests, tuple[str, ...]]":
    from simulator.errors import UserError
    from workloads.requests.readers import read_requests

    if asked["requests"] == "synthetic":
        return _drawn(asked, seed), ()
    lengths = [name for name in ("prompt_tokens", "output_tokens", "length_variation") if asked[name] is not None]
    if lengths:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in lengths)
        raise UserError(f"{names}: a trace has lengths of its own; use --requests synthetic, or leave them out")
    requests, notes = read_requests(asked["requests"], asked["skip_bad_lines"])
    if asked["count"]:
        requests = requests.repeated(asked["count"])
    if asked["rate"]:
        requests = requests.at_rate(asked["rate"])
    return (requests.before(asked["duration"]) if asked["duration"] else requests), notes


def _drawn(asked: dict[str, Any], seed: int) -> "Requests":
    from simulator.errors import UserError
    from workloads.requests.synthetic import AZURE_OUTPUT, AZURE_PROMPT, Lengths, synthetic_requests

    rate, duration = asked["rate"], asked["duration"]
    if rate is None:
        raise UserError("--rate: missing; synthetic requests need a mean arrival rate per second")
    count = asked["count"] or (round(rate * duration) if duration else 10_000)
    prompt, output = (
        Lengths(
            mean if asked[name] is None else asked[name],
            variation if asked["length_variation"] is None else asked["length_variation"],
            longest if asked[name] is None else round(100 * asked[name]),
        )
        for name, (mean, variation, longest) in (("prompt_tokens", AZURE_PROMPT), ("output_tokens", AZURE_OUTPUT))
    )
    variation = asked["gap_variation"]
    drawn = synthetic_requests(rate, count, prompt, output, seed, asked["arrivals"], variation)
    return drawn.before(duration) if duration else drawn
