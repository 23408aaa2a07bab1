"""Which requests a command serves, and how they are counted: options that serving commands share."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from workloads.requests.table import Requests

Command = TypeVar("Command", bound=Callable[..., Any])
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


_OPTIONS = (
    click.option(
        "--requests", required=True, metavar="FILE|synthetic", help="Trace (Azure, BurstGPT, Mooncake, vLLM, SGLang)."
    ),
    click.option(
        "--duration",
        callback=_seconds,
        metavar="TIME",
        help="Only requests that arrive within this time; for example 10min.",
    ),
    click.option("--count", type=click.IntRange(1, 20_000_000), help="Requests: the first ones, or the trace again."),
    click.option(
        "--arrivals",
        type=click.Choice(["poisson", "gamma", "bursty", "even"]),
        default="poisson",
        help="Synthetic: how the gaps between requests are distributed.",
    ),
    click.option(
        "--gap-variation", type=float, default=2.0, help="Of gamma and bursty gaps: standard deviation / mean."
    ),
    click.option("--prompt-tokens", type=float, help="Synthetic: mean prompt; default: Azure's conversations."),
    click.option("--output-tokens", type=float, help="Synthetic: mean answer; default: Azure's conversations."),
    click.option("--length-variation", type=float, help="Synthetic: of lengths; 0: all equal; default: Azure's."),
    click.option("--seed", type=click.IntRange(min=0), help="Random seed, in place of the scenario's."),
    click.option(
        "--slo-ttft", callback=_seconds, metavar="TIME", help="Limit for the first token of a request in the goodput."
    ),
    click.option("--slo-tpot", callback=_seconds, metavar="TIME", help="Limit for the time per output token."),
    click.option("--warm-up", type=click.FloatRange(0, 0.9), default=0.1, help="Share of the time left out at first."),
    click.option("--drain", type=click.FloatRange(0, 0.9), default=0.1, help="Share of the time left out at the end."),
    click.option("--skip-bad-lines", is_flag=True, help="Leave bad lines and too long requests out, counted."),
)


def request_options(command: Command) -> Command:
    """Add the options for requests, service level and window."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def service_level(asked: dict[str, Any]) -> dict[str, float]:
    """Return the limits that were given."""
    return {f"{name}_s": asked[f"slo_{name}"] for name in ("ttft", "tpot") if asked[f"slo_{name}"]}


def asked_requests(asked: dict[str, Any], rate: float | None, seed: int) -> "tuple[Requests, tuple[str, ...]]":
    """Return the requests that were asked for, and what was left out of them."""
    from simulator.errors import UserError
    from workloads.requests.readers import read_requests

    if asked["requests"] == "synthetic":
        return _drawn(asked, rate, seed), ()
    lengths = [name for name in ("prompt_tokens", "output_tokens", "length_variation") if asked[name] is not None]
    if lengths:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in lengths)
        raise UserError(f"{names}: a trace has lengths of its own; use --requests synthetic, or leave them out")
    requests, notes = read_requests(asked["requests"], asked["skip_bad_lines"])
    if asked["count"]:
        requests = requests.repeated(asked["count"])
    if rate is not None:
        requests = requests.at_rate(rate)
    return (requests.before(asked["duration"]) if asked["duration"] else requests), notes


def _drawn(asked: dict[str, Any], rate: float | None, seed: int) -> "Requests":
    from simulator.errors import UserError
    from workloads.requests.synthetic import AZURE_OUTPUT, AZURE_PROMPT, Lengths, synthetic_requests

    duration = asked["duration"]
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
