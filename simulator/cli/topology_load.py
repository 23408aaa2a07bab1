"""`epsim topology load`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simulator.cli.options import draw, print_json, settings, slug, table_output, write_csv

if TYPE_CHECKING:
    from simulator.network_use import KindUse, PairUse


@click.command(
    epilog="""
\b
Examples:
  epsim topology load dsv3-train-h800 --phase dispatch
  epsim topology load dsv3-train-h800 --phase pipeline --top 20 --csv out/links.csv
  epsim topology load dsv3-decode-cloudmatrix384 --phase combine --json
"""
)
@click.argument("scenario")
@settings
@click.option("--phase", "operation", default="dispatch", help="dispatch (default), combine, pipeline or gradients.")
@click.option("--top", type=click.IntRange(1, 10_000), default=10, help="How many of the busiest links; default 10.")
@click.option(
    "--pairs", type=click.IntRange(1, 1000), default=3, help="Pairs of ranks named per link; default 3 (all in JSON)."
)
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture to write; default out/NAME.png.")
@table_output
def load(
    scenario: str,
    overrides: tuple[str, ...],
    operation: str,
    top: int,
    pairs: int,
    picture: str | None,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Show which links one operation of SCENARIO loads: the busiest, what they carry, and which ranks send it.

    Bytes are counted on every link that the flows of all groups take; utilisation is the time that they take at line
    rate over the predicted time of the operation.
    """
    from reports.network_use import draw_network_use, network_use_table
    from reports.tables import console
    from simulator.phase.network_use import network_use
    from simulator.scenario_file import load_scenario

    asked = load_scenario(scenario, overrides)
    use = network_use(asked, operation, top, pairs)
    rows = [
        {**{key: value for key, value in asdict(link).items() if key != "pairs"}, "pairs": _pairs(link.pairs)}
        for link in use.links
    ]
    if csv_path:
        write_csv(rows, csv_path)
    default = Path("out") / f"{slug(asked.name)}-{operation}-links.png"
    path = draw(draw_network_use, use, path=Path(picture) if picture else default)
    if as_json:
        figures = {
            name: getattr(use, name)
            for name in ("scenario", "operation", "cluster", "ranks", "time_s", "bound_s", "sent_bytes", "note")
        }
        links = [asdict(link) for link in use.links]
        print_json({**figures, "links": links, "kinds": [_kind(kind) for kind in use.kinds], "picture": str(path)})
        return
    terminal = console()
    terminal.print(network_use_table(use))
    terminal.print(f"drawn: {path}", soft_wrap=True, highlight=False)


def _pairs(pairs: "tuple[PairUse, ...]") -> str:
    return " ".join(f"{pair.source}->{pair.target}:{pair.size_bytes:.0f}" for pair in pairs)


def _kind(kind: "KindUse") -> dict[str, object]:
    used = kind.utilisation
    return {
        "kind": kind.kind,
        "fabric": kind.fabric,
        "links": int(used.size),
        "busiest": float(used.max(initial=0.0)),
        "mean": float(used.mean()),
    }
