"""`epsim trace show`."""

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json, slug, table_output, write_csv
from simulator.cli.trace_log import show_log

_SKEW_TITLE = "Busiest expert and EP rank over mean, by tokens in a batch"

if TYPE_CHECKING:
    from workloads.routing.counts import CountTrace
    from workloads.routing.summary import Skew, Summary
    from workloads.routing.trace import Trace


@click.command(
    epilog="""
\b
Examples:
  epsim trace show small-moe
  epsim trace show recorded.npz
  epsim trace show serve.log
  epsim trace show recorded.parquet --draw out/routing.svg --csv out/layers.csv
"""
)
@click.argument("file", type=click.Path())
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture to write; default out/NAME.png.")
@table_output
def show(file: str, picture: str | None, as_json: bool, csv_path: str | None) -> None:
    """Print shape, skew, predictability and drift of the routing recorded in FILE, and draw its load.

    FILE is a native trace, a shipped one (small-moe), or a log of vLLM (.log, .txt), of which the balancedness of EPLB
    steps is printed. Two pictures are written: load per layer and expert, and over time (NAME-time) if there is any.
    --csv writes a row per layer.
    """
    if Path(file).suffix in (".log", ".txt"):
        show_log(file, as_json, csv_path)
        return
    from rich.console import Console

    from reports.heatmap import expert_heatmap
    from reports.routing import load_over_time
    from workloads.routing.counts import read_recorded
    from workloads.routing.summary import summarise

    trace = read_recorded(file)
    with Console(stderr=True).status("measuring the trace") if sys.stderr.isatty() and not as_json else nullcontext():
        summary = summarise(trace)
    path = Path(picture) if picture else Path("out") / f"{slug(Path(file).stem)}.png"
    routes = int(summary.over_time[0, 0].sum())
    window = f"{routes // trace.top_k:,} tokens" if trace.top_k else f"{routes:,} routes"
    pictures = [draw(expert_heatmap, summary.load, path=path, title=f"{trace.model}: load per expert")]
    if len(summary.over_time) > 1:
        later, title = path.with_stem(f"{path.stem}-time"), f"{trace.model}: load over time"
        pictures.append(draw(load_over_time, summary.over_time, window, path=later, title=title))
    if csv_path:
        write_csv(_layers(summary), csv_path)
    if as_json:
        print_json(_document(trace, summary, pictures))
    else:
        _print(file, trace, summary, pictures)


def _shape(trace: "Trace | CountTrace") -> dict[str, Any]:
    from workloads.routing.trace import Trace

    return {
        "model": trace.model,
        "phase": trace.phase,
        "tokens": trace.tokens if isinstance(trace, Trace) else None,
        "sequences": int(trace.seq_lens.size) if isinstance(trace, Trace) else None,
        "steps": None if isinstance(trace, Trace) else trace.steps,
        "moe_layers": trace.moe_layers,
        "routed_experts": trace.routed_experts,
        "top_k": trace.top_k or None,
        "gate_weights": isinstance(trace, Trace) and trace.gate_weights is not None,
        "source": trace.source,
        "licence": trace.licence,
        "digest": trace.digest,
    }


def _layers(summary: "Summary") -> list[dict[str, Any]]:
    """Return one row per layer; what looks at the layer after is empty for the last."""
    columns = {
        "busiest_over_mean": summary.busiest,
        "entropy": summary.entropy,
        "temporal_share": summary.temporal,
        "cross_layer_share": summary.cross,
        "cross_layer_popular_share": summary.cross_popular,
    }
    return [
        {"layer": layer, **{name: _number(values, layer) for name, values in columns.items()}}
        for layer in range(len(summary.busiest))
    ]


def _number(values: Any, index: int) -> float | None:
    return float(values[index]) if index < len(values) and not math.isnan(values[index]) else None


def _document(trace: "Trace | CountTrace", summary: "Summary", pictures: list[Path]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **_shape(trace),
        "skew": [
            {**asdict(skew), "uniform": None if math.isnan(skew.uniform) else skew.uniform} for skew in summary.skew
        ],
        "layers": _layers(summary),
        "drift": summary.drift.tolist(),
        "pictures": [str(path) for path in pictures],
    }


def _print(file: str, trace: "Trace | CountTrace", summary: "Summary", pictures: list[Path]) -> None:
    from reports.tables import console, facts_table
    from reports.text import pairs

    terminal = console()
    terminal.print(f"{file}: {trace.model}, {trace.phase}", style="bold", soft_wrap=True)
    terminal.print(pairs(_facts(trace), columns=3))
    for what in ("source", "licence", "digest"):
        terminal.print(f"{what}: {getattr(trace, what) or 'not stated'}", style="dim", soft_wrap=True)
    terminal.print()
    terminal.print(facts_table([_skew_row(skew) for skew in summary.skew], _SKEW_TITLE))
    terminal.print(facts_table(_foreseen(trace, summary), "What can be foreseen"))
    for path in pictures:
        terminal.print(f"drawn: {path}", soft_wrap=True)


def _facts(trace: "Trace | CountTrace") -> list[tuple[str, str]]:
    from workloads.routing.trace import Trace

    per_token = f"top-{trace.top_k}" if trace.top_k else "top-k not stated"
    routing = ("routing", f"{trace.moe_layers} layers x {trace.routed_experts} experts x {per_token}")
    if not isinstance(trace, Trace):
        order = "" if trace.in_order else ", order not known"
        return [("steps", f"{trace.steps:,} (tokens per expert only{order})"), routing]
    return [
        ("tokens", f"{trace.tokens:,}"),
        ("sequences", f"{trace.seq_lens.size:,} of {trace.seq_lens.min():,} to {trace.seq_lens.max():,} tokens"),
        routing,
    ]


def _skew_row(skew: "Skew") -> dict[str, str]:
    return {
        "tokens": f"{skew.tokens:,}",
        "batches": f"{skew.batches:,}",
        "expert": f"{skew.expert_mean:.2f}",
        "p5": f"{skew.expert_p5:.2f}",
        "p95": f"{skew.expert_p95:.2f}",
        "uniform": "-" if math.isnan(skew.uniform) else f"{skew.uniform:.2f}",
        "entropy": f"{skew.entropy:.3f}",
        **{f"EP{ranks}": f"{value:.2f}" for ranks, value in skew.ranks.items()},
    }


def _foreseen(trace: "Trace | CountTrace", summary: "Summary") -> list[dict[str, str]]:
    """Return the shares over layers, each beside what it would be without memory."""
    chance = f"{trace.top_k / trace.routed_experts:.2f} by chance"
    rows = [("experts that the token before used", summary.temporal, chance)]
    if len(summary.cross):
        popular = f"{summary.cross_popular.mean():.2f} from popularity"
        rows.append(("next layer's experts guessed from this layer's", summary.cross, popular))
    if len(summary.drift):
        apart = f"{summary.drift[-1]:.2f} from first to last"
        rows.append((f"load that moves in one of {len(summary.over_time)} windows", summary.drift[:1], apart))
    return [_share(what, values, beside, trace) for what, values, beside in rows]


def _share(what: str, values: Any, beside: str, trace: "Trace | CountTrace") -> dict[str, str]:
    from workloads.routing.trace import Trace

    known = not any(map(math.isnan, values))
    figures = {"mean": values.mean(), "lowest": values.min(), "highest": values.max()}
    lacking = "needs more sequences" if isinstance(trace, Trace) else "needs each token's experts"
    return {
        "share": what,
        **{name: f"{value:.2f}" if known else "-" for name, value in figures.items()},
        "compare": beside if known else lacking,
    }
