"""`epsim trace sample`."""

from pathlib import Path

import click


@click.command(
    epilog="""
\b
Examples:
  epsim trace sample deepseek-v2-lite-esft --tokens 20000 -o sampled.npz
  epsim trace sample gpt-oss-20b-decode --layers 36 --experts 128 --tokens 9000 -o big.npz
  epsim trace sample olmoe-1b-7b --schedule github,book --tokens 50000 -o shift.npz
"""
)
@click.argument("stats")
@click.option("--tokens", type=click.IntRange(min=1), required=True, help="Tokens in all.")
@click.option("--layers", type=click.IntRange(min=1), help="MoE layers; default as recorded.")
@click.option("--experts", type=click.IntRange(min=1), help="Routed experts; default as recorded.")
@click.option("--top-k", type=click.IntRange(min=1), help="Experts per token; default as recorded.")
@click.option("--groups", type=click.IntRange(min=1), default=1, help="Expert groups of group-limited routing.")
@click.option("--topk-groups", type=click.IntRange(min=1), default=1, help="Groups that a token may use.")
@click.option("--sequence-tokens", type=click.IntRange(min=1), help="Tokens per sequence; default as recorded.")
@click.option("--mix", default="mixed", help="'mixed' (tasks in equal parts), 'broad' (very many topics), or one task.")
@click.option("--schedule", metavar="TASK,TASK,...", help="Tasks one after another in equal parts, instead of --mix.")
@click.option("--strength", type=float, default=1.0, help="Skew: 0 uniform, 1 as recorded, 4 nearly collapsed.")
@click.option(
    "--drift",
    type=float,
    default=0.0,
    help="How far the load moves from one part to the next: log weights correlate by 1 - drift.",
)
@click.option("--drift-parts", type=click.IntRange(min=2), default=8, help="Parts that drift sets apart.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="OUT", help="npz or Parquet file.")
def sample(
    stats: str,
    tokens: int,
    layers: int | None,
    experts: int | None,
    top_k: int | None,
    groups: int,
    topk_groups: int,
    sequence_tokens: int | None,
    mix: str,
    schedule: str | None,
    strength: float,
    drift: float,
    drift_parts: int,
    seed: int,
    out: Path,
) -> None:
    """Draw routing, token by token, from STATS (a shipped name or a TOML file), and write it as a native trace.

    Any number of layers, experts and experts per token will do: spreads carry over, the depth profile is stretched.
    """
    from simulator.phase.statistics import statistics_file
    from workloads.routing.draw import Drawing, draw_trace
    from workloads.routing.spec import load_statistics
    from workloads.routing.trace import write_trace

    statistics = load_statistics(statistics_file(stats))
    drawing = Drawing(
        layers=layers or statistics.layers,
        experts=experts or statistics.experts,
        top_k=top_k or statistics.top_k,
        n_group=groups,
        topk_group=topk_groups,
        sequence_tokens=sequence_tokens or max(1, min(4096, round(statistics.tokens / statistics.sequences))),
        mix=mix,
        schedule=tuple(schedule.split(",")) if schedule else (),
        strength=strength,
        drift=drift,
        drift_parts=drift_parts,
    )
    trace = draw_trace(statistics, drawing, tokens, seed)
    write_trace(trace, out)
    shape = f"{trace.moe_layers} layers x {trace.routed_experts} experts x top-{trace.top_k}"
    click.echo(f"written: {out}: {trace.tokens:,} tokens in {trace.seq_lens.size:,} sequences, {shape}")
