"""`epsim place`."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json, slug, table_output, write_csv

if TYPE_CHECKING:
    from simulator.study.placing import Group, Judged
    from simulator.study.placing_source import Answer
    from workloads.placement import Policy

CHOICES = ("balanced", "eplb", "affinity")


@click.command(
    epilog="""
\b
Examples:
  epsim place small-moe --ranks 8 --redundant 8
  epsim place recorded.npz --ranks 32 --redundant 32
  epsim place recorded.npz --ranks 32 --policy affinity --ranks-per-node 8 -o out/placement
  epsim place deepseek-v2-lite-esft --model deepseek-v3 --ranks 32 --redundant 32 --every 4
  epsim place recorded.npz --ranks 32 --redundant 32 --placement ours.json
"""
)
@click.argument("trace")
@click.option("--ranks", type=click.IntRange(min=1, max=65_536), required=True, help="Ranks of the EP group.")
@click.option("--redundant", type=click.IntRange(min=0, max=100_000), default=0, help="Slots beyond one per expert.")
@click.option(
    "--policy",
    "policies",
    type=click.Choice(CHOICES),
    multiple=True,
    help="What to try; repeatable. Default: all that suit the input.",
)
@click.option("--ranks-per-node", type=click.IntRange(min=1), default=8, show_default=True, help="Ranks of a node.")
@click.option("--groups", type=click.IntRange(min=1), default=1, help="Expert groups that eplb keeps in one node.")
@click.option(
    "--holdout",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the tokens to judge by.",
)
@click.option("--in-time", is_flag=True, help="Judge by the last sequences, so that drift counts.")
@click.option(
    "--tokens-per-rank", type=click.IntRange(min=1, max=1_000_000), default=256, show_default=True, help="In a batch."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the random placement and the batches.")
@click.option("--model", metavar="NAME", help="Draw routing for this model (with statistics).")
@click.option("--placement", type=click.Path(), metavar="FILE", help="Also judge this placement (JSON, npz or npy).")
@click.option(
    "--every",
    type=click.IntRange(min=1, max=1_000_000),
    multiple=True,
    help="Also place anew every so many batches, by those before; repeatable.",
)
@click.option(
    "-o", "--out", type=click.Path(), metavar="DIR", help="Write the best placement as files of serving stacks."
)
@click.option("--dense-layers", type=click.IntRange(min=0), default=0, help="Dense layers that SGLang's files count.")
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture; default out/NAME-placement.png.")
@table_output
def place(
    trace: str,
    ranks: int,
    redundant: int,
    policies: tuple["Policy", ...],
    ranks_per_node: int,
    groups: int,
    holdout: float,
    in_time: bool,
    tokens_per_rank: int,
    seed: int,
    model: str | None,
    placement: str | None,
    every: tuple[int, ...],
    out: str | None,
    dense_layers: int,
    picture: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Place experts by one part of TRACE and judge by the other, beside contiguous and random placement.

    TRACE is a native trace (npz or Parquet, of tokens or counts) or a shipped one (small-moe), or routing statistics (a
    shipped name or a TOML file), which routing is drawn from. "held out" is the busiest rank's load over the mean,
    averaged over layers and batches.
    """
    from reports.placing import rank_load_maps
    from simulator.study.placing import Group
    from simulator.study.placing_source import Asked, judge

    group = Group(ranks, redundant, ranks_per_node, groups)
    asked = Asked(policies, every, placement, model, holdout, in_time, tokens_per_rank, seed, dense_layers)
    answer = judge(trace, group, asked)
    rows = [_row(judged) for judged in answer.placements]
    if csv_path:
        write_csv(rows, csv_path)
    path = Path(picture) if picture else Path("out") / f"{slug(Path(trace).stem)}-placement.png"
    drawn = draw(rank_load_maps, {each.name: each.rank_load for each in answer.placements}, path=path)
    written = _write(answer.placements, Path(out), dense_layers) if out is not None else []
    if as_json:
        document = {"placements": rows, "rebalanced": list(map(asdict, answer.rebalanced)), "remarks": answer.remarks}
        print_json({**document, "picture": str(drawn), "files": list(map(str, written))})
        return
    _print(rows, answer, [f"drawn: {drawn}", *(f"written: {file}" for file in written)], group)


def _row(judged: "Judged") -> dict[str, Any]:
    return {
        "placement": judged.name,
        "busiest_on_own_tokens": judged.fitted_imbalance,
        "busiest": judged.imbalance,
        "busiest_in_worst_layer": judged.worst_imbalance,
        "ranks_per_token": None if isnan(judged.ranks_per_token) else judged.ranks_per_token,
        "nodes_per_token": None if isnan(judged.nodes_per_token) else judged.nodes_per_token,
    }


def _write(found: list["Judged"], target: Path, dense_layers: int) -> list[Path]:
    """Write the placement with the least imbalance of those made by load."""
    from simulator.output import write_folder
    from simulator.study.placing import ALWAYS
    from workloads.placement_files.writers import ascend_table, eplb_maps, sglang_locations

    made = [judged for judged in found if judged.name not in {*ALWAYS, "file"}]
    best = min(made, key=lambda judged: judged.imbalance).placement
    contents = {
        "ascend.json": ascend_table(best),
        "sglang.json": sglang_locations(best, dense_layers),
        "eplb.npz": eplb_maps(best),
    }
    write_folder(target, contents)
    return [target / name for name in contents]


def _print(rows: list[dict[str, Any]], answer: "Answer", lines: list[str], group: "Group") -> None:
    from reports.tables import console, facts_table
    from reports.text import bullets

    names = {
        "busiest_on_own_tokens": "busiest, own tokens",
        "busiest": "held out",
        "busiest_in_worst_layer": "worst layer",
    }
    shown = [{names.get(key, key.replace("_", " ")): _text(value) for key, value in row.items()} for row in rows]
    terminal = console()
    title = f"Experts on {group.ranks} ranks in nodes of {group.ranks_per_node}, {group.redundant} redundant slots"
    terminal.print(facts_table(shown, title))
    if answer.rebalanced:
        again = [
            {"placed": each.name, "busiest": _text(each.imbalance), "experts moved": _text(each.moved_experts)}
            for each in answer.rebalanced
        ]
        terminal.print(facts_table(again, "Batch after batch (moved: to the rank that fetches most, of all layers)"))
    terminal.print(bullets("Remarks", answer.remarks))
    for line in lines:
        terminal.print(line, soft_wrap=True, highlight=False)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
