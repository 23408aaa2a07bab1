"""`epsim serve-limit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json, settings, slug, table_output, write_csv

if TYPE_CHECKING:
    from simulator.study.serve_limit import Pools

SCALES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds(_: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Return the times [s] of an option such as `50ms,2s`."""
    return None if value is None else tuple(_one(text.strip(), param) for text in value.split(","))


def _one(text: str, param: click.Parameter) -> float:
    for unit, scale in SCALES.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * scale
    raise click.BadParameter(f"'{text[:40]}': not a time above zero with its unit; for example 50ms or 2s", param=param)


@click.command(
    epilog="""
\b
Examples:
  epsim serve-limit dsv3-decode-h800 --tpot 50ms
  epsim serve-limit dsv3-decode-h800 --tpot 30ms,50ms --set workload.sequence_tokens=2048
  epsim serve-limit dsv3-decode-h800 --prefill dsv3-prefill-h800 --tpot 50ms --ttft 5s
"""
)
@click.argument("scenario")
@click.option("--tpot", callback=seconds, required=True, metavar="TIME,...", help="Time per output token to keep.")
@click.option("--prefill", "prefill_name", metavar="SCENARIO", help="The pool that prefills, on any machine.")
@click.option("--ttft", callback=seconds, metavar="TIME", help="Time to first token to keep, KV transfer included.")
@click.option(
    "--percentile",
    type=click.FloatRange(1, 99.9),
    default=90.0,
    show_default=True,
    help="Share of the requests that must keep the TTFT.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Tokens that a request gets.",
)
@settings
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture; default out/NAME-limit.png.")
@table_output
def serve_limit(
    scenario: str,
    tpot: tuple[float, ...],
    prefill_name: str | None,
    ttft: tuple[float, ...] | None,
    percentile: float,
    output_tokens: int,
    overrides: tuple[str, ...],
    picture: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Find the largest batch and arrival rate that keep a service level.

    SCENARIO is of phase decode and keeps the TPOT, a prefill pool beside it the TTFT. Steady state: every sequence has
    the scenario's KV length, arrivals are Poisson. --set changes SCENARIO only.
    """
    from reports.plots import pareto
    from reports.tables import console, limit_table
    from simulator.errors import UserError
    from simulator.scenario_file import load_scenario
    from simulator.study.serve_limit import pools

    if ttft and len(ttft) > 1:
        raise UserError("--ttft: several values; give one, and several of --tpot")
    asked = load_scenario(scenario, overrides)
    feeding = load_scenario(prefill_name, ()) if prefill_name else None
    found = pools(asked, feeding, list(tpot), ttft[0] if ttft else None, output_tokens, percentile / 100)
    rows = [_row(each) for each in found]
    if csv_path:
        write_csv(rows, csv_path)
    target = Path(picture) if picture else Path("out") / f"{slug(asked.name)}-limit.png"
    if len(rows) > 1:
        draw(pareto, rows, path=target)
    if as_json:
        print_json(rows)
        return
    terminal = console()
    terminal.print(limit_table(rows))
    if len(rows) > 1:
        terminal.print(f"written to {target}", soft_wrap=True, highlight=False)


def _row(found: "Pools") -> dict[str, Any]:
    limit, prefill = found.decode, found.prefill
    row: dict[str, Any] = {
        "scenario": limit.scenario,
        "chips": limit.chips,
        "tpot_level_s": limit.level_s,
        "tpot_s": limit.reached_s,
        "batch_per_rank": limit.batch_per_rank,
        "kv_tokens": limit.context,
        "requests_per_s": limit.requests_per_s,
        "tokens_per_s_per_chip": limit.tokens_per_s_per_chip,
        "bound_by": limit.bound_by,
    }
    if prefill is None:
        return row
    return row | {
        "prefill": prefill.scenario,
        "prefill_chips": prefill.chips,
        "ttft_s": prefill.reached_s,
        "prefill_requests_per_s": prefill.requests_per_s,
        "prefill_bound_by": prefill.bound_by,
        "kv_transfer_s": found.transfer_s,
        "prefill_per_decode": found.prefill_per_decode,
        "tokens_per_s_per_chip_of_both": found.tokens_per_s_per_chip,
    }
