"""`epsim trace fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import print_json, table_output, write_csv

if TYPE_CHECKING:
    from workloads.routing.spec import RoutingStatistics


@click.command(
    epilog="""
\b
Examples:
  epsim trace fit small-moe -o small.toml
  epsim trace fit chat.npz code.npz -o my-model.toml
  epsim run dsv3-decode-h800 --set routing.statistics=my-model.toml
"""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="STATS", help="TOML file to write."
)
@click.option("--model", help="What was recorded, for npz files that don't say so.")
@click.option("--experts", type=click.IntRange(min=1), help="Routed experts, for npz files that don't say so.")
@click.option("--source", default="", help="Where the recording is from, for npz files that don't say so.")
@click.option("--licence", default="", help="Its terms, for npz files that don't say so.")
@click.option(
    "--default-for", multiple=True, metavar="MODEL", help="Catalogue model to use this by default; repeatable."
)
@table_output
def fit(
    files: tuple[Path, ...],
    out: Path,
    model: str | None,
    experts: int | None,
    source: str,
    licence: str,
    default_for: tuple[str, ...],
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Fit routing statistics to recorded FILES: one task per file, named after it.

    Of each token's experts, everything is fitted; of tokens per expert, popularity alone. `epsim trace sample` draws
    routing of any size from STATS, and `routing.statistics = "STATS"` makes a scenario use them.
    """
    from simulator.errors import UserError
    from simulator.output import write_file
    from workloads.routing.fit_files import fit_files
    from workloads.routing.spec import to_toml

    if (model is None) != (experts is None):
        raise UserError("--model and --experts: give both, or neither where the files say what they are of")
    about = {"model": model, "routed_experts": experts, "source": source, "licence": licence} if model else {}
    found = fit_files(files, about).model_copy(update={"models": default_for})
    write_file(out, to_toml(found).encode())
    rows = figures(found)
    if csv_path:
        write_csv(rows, csv_path)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    _print(found, rows, out)


def figures(statistics: "RoutingStatistics") -> list[dict[str, Any]]:
    """Return one row per fitted figure: what it is, and its values over tasks or depth."""
    rows = [("common spread", [statistics.common_sigma], "log weights that all tasks share")]
    rows += [(f"spread of {task}", [sigma], "log weights of the task") for task, sigma in statistics.task_sigma.items()]
    rows += [
        ("spread of sequences", [statistics.sequence_sigma], "log weights of a sequence within its task"),
        ("cold experts", [statistics.cold], "factor on log weights below 0"),
        ("depth profile", list(statistics.depth_profile), "factor on all spreads, first to last layer"),
        ("persistence", list(statistics.persistence), "share of picks that repeat the previous token's"),
        ("link", list(statistics.link), "share of picks that follow from the layer before"),
    ]
    named = {"spread of sequences": "sequence_sigma", "cold experts": "cold"}
    return [
        {
            "figure": name,
            "value": " ".join(f"{value:.3g}" for value in values),
            "basis": "assumed" if named.get(name, name) in statistics.assumed else "fitted",
            "meaning": meaning,
        }
        for name, values, meaning in rows
    ]


def _print(statistics: "RoutingStatistics", rows: list[dict[str, Any]], out: Path) -> None:
    from reports.tables import console, facts_table

    terminal = console()
    title = f"{statistics.model}: {statistics.tokens:,} tokens, {statistics.sequences:,} sequences"
    terminal.print(facts_table(rows, title))
    for name, why in statistics.assumed.items():
        terminal.print(f"{name}: {why}", style="dim", soft_wrap=True)
    terminal.print(f"written: {out}", soft_wrap=True, highlight=False)
