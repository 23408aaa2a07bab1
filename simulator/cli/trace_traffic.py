"""`epsim trace traffic`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import print_json, table_output, write_csv

if TYPE_CHECKING:
    from workloads.placement import Policy

POLICIES = ("contiguous", "random", "balanced", "eplb", "affinity")
_TITLE = "Copies per token; bytes that leave their rank (sent once per node: their node), mean over layers"
DTYPES = ("bf16", "fp16", "fp8", "int8", "fp4")


@click.command(
    epilog="""
\b
Examples:
  epsim trace traffic recorded.npz --ranks 32
  epsim trace traffic recorded.npz --ranks 32 --policy balanced --redundant 32 -o matrices.npz
  epsim trace traffic recorded.npz --ranks 32 --placement ours.json --tokens-per-rank 4096
"""
)
@click.argument("trace")
@click.option("--ranks", type=click.IntRange(1, 65_536), required=True, help="Ranks of the EP group.")
@click.option("--ranks-per-node", type=click.IntRange(min=1), default=8, show_default=True, help="Ranks of a node.")
@click.option("--policy", type=click.Choice(POLICIES), default="contiguous", show_default=True, help="How to place.")
@click.option("--redundant", type=click.IntRange(0, 100_000), default=0, help="Slots beyond one per expert.")
@click.option("--groups", type=click.IntRange(min=1), default=1, help="Expert groups that eplb keeps in one node.")
@click.option("--placement", type=click.Path(), metavar="FILE", help="A placement of yours (JSON, npz or npy) instead.")
@click.option(
    "--tokens-per-rank", type=click.IntRange(1, 1_000_000), default=256, show_default=True, help="In a batch."
)
@click.option("--dispatch", type=click.Choice(DTYPES), default="fp8", show_default=True, help="What dispatch sends.")
@click.option("--combine", type=click.Choice(DTYPES), default="bf16", show_default=True, help="What combine sends.")
@click.option("--hidden", type=click.IntRange(1, 1_000_000), help="Hidden size; default that of the trace's model.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the batch and of random placement.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Matrices to write: .npz.")
@table_output
def traffic(
    trace: str,
    ranks: int,
    ranks_per_node: int,
    policy: "Policy",
    redundant: int,
    groups: int,
    placement: str | None,
    tokens_per_rank: int,
    dispatch: str,
    combine: str,
    hidden: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Count what ranks and nodes send each other for one batch of TRACE, with and without de-duplication.

    Each rank brings sequences of its own. The matrices (npz) are dispatch bytes per layer, source rank and
    destination rank or node, and between nodes; combine sends the same copies back.
    """
    from simulator.errors import UserError
    from simulator.output import write_file
    from simulator.study.matrices import archive, batch_of, summary
    from simulator.study.placing import Group
    from workloads.routing.files import trace_file
    from workloads.routing.trace import read_trace

    if out is not None and out.suffix != ".npz":
        raise UserError(f"--out: {out}: must end in .npz")
    group = Group(ranks, redundant, ranks_per_node, groups)
    batch = batch_of(
        read_trace(trace_file(trace)), group, policy, placement, tokens_per_rank, seed, (dispatch, combine), hidden
    )
    rows = summary(batch)
    if out is not None:
        write_file(out, archive(batch))
    if csv_path:
        write_csv(rows, csv_path)
    if as_json:
        print_json({"traffic": rows, "matrices": None if out is None else str(out)})
        return
    how = f"{ranks} ranks in nodes of {ranks_per_node}, {tokens_per_rank:,} tokens each, {placement or policy}"
    _print(rows, how, out)


def _print(rows: list[dict[str, Any]], title: str, out: Path | None) -> None:
    from reports.tables import console, facts_table

    names = {
        "sent": "each token sent",
        "copies_per_token": "copies",
        "leaving_rank": "leaving rank",
        "leaving_node": "leaving node",
        "dispatch_bytes": "dispatch",
        "combine_bytes": "combine",
        "busiest_sender_bytes": "top sender",
        "busiest_receiver_bytes": "top receiver",
    }
    terminal = console()
    terminal.print(f"Traffic of an MoE layer: {title}", style="bold", soft_wrap=True)
    shown = [{names[key]: _text(key, value) for key, value in row.items()} for row in rows]
    terminal.print(facts_table(shown, _TITLE))
    if out is not None:
        terminal.print(f"written: {out}", soft_wrap=True, highlight=False)


def _text(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value / 1e6:,.2f} MB" if key.endswith("bytes") else f"{value:.2f}"
    return "-" if value is None else str(value)
