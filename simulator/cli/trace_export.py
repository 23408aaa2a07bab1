"""`epsim trace export`."""

from pathlib import Path

import click

# as in workloads.routing.exporters.EXPORTS, which is not imported for the help alone; a test compares them
KINDS = ("native", "sglang", "eplb-weight", "mindspeed", "routed-experts", "llama-csv")


@click.command(
    epilog="""
\b
KIND is one of
  native          the same trace as .npz or .parquet
  sglang          logical_count for SGLang's --init-expert-location (.json)
  eplb-weight     tokens per layer and expert for DeepSeek EPLB (.npy)
  mindspeed       token_collects_all.json of MindSpeed-RL
  routed-experts  each token's experts, an array per sequence (.npz)
  llama-csv       llama.cpp layer,expert rows (.csv)

\b
Examples:
  epsim trace export sglang recorded.npz -o load.json --dense-layers 3
  epsim trace export native recorded.npz -o recorded.parquet
"""
)
@click.argument("kind", type=click.Choice(KINDS), metavar="KIND")
@click.argument("file", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), metavar="FILE", help="File to write.")
@click.option(
    "--dense-layers",
    type=click.IntRange(0, 1024),
    default=0,
    show_default=True,
    help="Layers without experts in front, for tools that count them.",
)
def export(kind: str, file: str, out: str, dense_layers: int) -> None:
    """Write the routing recorded in FILE for another tool."""
    from simulator.output import write_file
    from workloads.routing.counts import read_recorded, write_recorded
    from workloads.routing.exporters import EXPORTS

    trace = read_recorded(file)
    if kind == "native":
        write_recorded(trace, out)
    else:
        write_file(Path(out), EXPORTS[kind][0](trace, dense_layers))
    click.echo(f"{out}: {kind} of {trace.model}")
