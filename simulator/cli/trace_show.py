"""`epsim trace show`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json, slug, table_output, write_csv

if TYPE_CHECKING:
    from workloads.routing.summary import Skew, Summary
    from workloads.routing.trace import Trace


@click.command(
    epilog="""
\b
Examples:
  epsim trace show recorded.npz
  epsim trace show recorded.parquet --draw out/routing.svg --csv out/layers.csv
"""
)
@click.argument("file", type=click.Path())
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture to write; default out/NAME.png.")
@table_output
def show(file: str, picture: str | None, as_json: bool, csv_path: str | None) -> None:
    """Print shape, skew, predictability and drift of the routing recorded in FILE, and draw its load.

    Two pictures are written: load per layer and expert, and (NAME-time) over time. --csv writes a row per layer.
    """
    from reports.heatmap import expert_heatmap
    from reports.routing import load_over_time
    from workloads.routing.summary import summarise
    from workloads.routing.trace import read_trace

    trace = read_trace(file)
    summary = summarise(trace)
    path = Path(picture) if picture else Path("out") / f"{slug(Path(file).stem)}.png"
    window = f"{int(summary.over_time[0, 0].sum()) // trace.top_k:,} tokens"
    pictures = [
        draw(expert_heatmap, summary.load, path=path, title=f"{trace.model}: load per expert"),
        draw(
            load_over_time,
            summary.over_time,
            window,
            path=path.with_stem(f"{path.stem}-time"),
            title=f"{trace.model}: load over time",
        ),
    ]
    if csv_path:
        write_csv(_layers(summary), csv_path)
    if as_json:
        print_json(_document(trace, summary, pictures))
    else:
        _print(file, trace, summary, pictures)


def _shape(trace: "Trace") -> dict[str, Any]:
    return {
        "model": trace.model,
        "phase": trace.phase,
        "tokens": trace.tokens,
        "sequences": int(trace.seq_lens.size),
        "moe_layers": trace.moe_layers,
        "routed_experts": trace.routed_experts,
        "top_k": trace.top_k,
        "source": trace.source,
        "licence": trace.licence,
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


def _document(trace: "Trace", summary: "Summary", pictures: list[Path]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **_shape(trace),
        "skew": [asdict(skew) for skew in summary.skew],
        "layers": _layers(summary),
        "drift": summary.drift.tolist(),
        "pictures": [str(path) for path in pictures],
    }


def _print(file: str, trace: "Trace", summary: "Summary", pictures: list[Path]) -> None:
    from reports.tables import console, facts_table
    from reports.text import pairs

    terminal = console()
    terminal.print(f"{file}: {trace.model}, {trace.phase}", style="bold", soft_wrap=True)
    terminal.print(pairs(_facts(trace), columns=3))
    for line in (f"source: {trace.source or 'not stated'}", f"licence: {trace.licence or 'not stated'}"):
        terminal.print(line, style="dim", soft_wrap=True)
    terminal.print()
    terminal.print(
        facts_table(
            [_skew_row(skew) for skew in summary.skew], "Busiest expert and EP rank over mean, by tokens in a batch"
        )
    )
    terminal.print(facts_table(_foreseen(trace, summary), "What can be foreseen"))
    for path in pictures:
        terminal.print(f"drawn: {path}", soft_wrap=True)


def _facts(trace: "Trace") -> list[tuple[str, str]]:
    return [
        ("tokens", f"{trace.tokens:,}"),
        ("sequences", f"{trace.seq_lens.size:,} of {trace.seq_lens.min():,} to {trace.seq_lens.max():,} tokens"),
        ("routing", f"{trace.moe_layers} layers x {trace.routed_experts} experts x top-{trace.top_k}"),
    ]


def _skew_row(skew: "Skew") -> dict[str, str]:
    return {
        "tokens": f"{skew.tokens:,}",
        "batches": f"{skew.batches:,}",
        "expert": f"{skew.expert_mean:.2f}",
        "p5": f"{skew.expert_p5:.2f}",
        "p95": f"{skew.expert_p95:.2f}",
        "uniform": f"{skew.uniform:.2f}",
        "entropy": f"{skew.entropy:.3f}",
        **{f"EP{ranks}": f"{value:.2f}" for ranks, value in skew.ranks.items()},
    }


def _foreseen(trace: "Trace", summary: "Summary") -> list[dict[str, str]]:
    """Return the shares over layers, each beside what it would be without memory."""
    chance = trace.top_k / trace.routed_experts
    rows = [("experts that the token before used", summary.temporal, f"{chance:.2f} by chance")]
    if len(summary.cross):
        popular = f"{summary.cross_popular.mean():.2f} from popularity"
        rows.append(("next layer's experts guessed from this layer's", summary.cross, popular))
    if len(summary.drift):
        apart = f"{summary.drift[-1]:.2f} from first to last"
        rows.append((f"load that moves in one of {len(summary.over_time)} windows", summary.drift[:1], apart))
    return [_share(what, values, beside) for what, values, beside in rows]


def _share(what: str, values: Any, beside: str) -> dict[str, str]:
    known = not any(map(math.isnan, values))
    figures = {"mean": values.mean(), "lowest": values.min(), "highest": values.max()}
    return {
        "share": what,
        **{name: f"{value:.2f}" if known else "-" for name, value in figures.items()},
        "compare": beside if known else "needs more sequences",
    }
