"""`epsim topology`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json
from simulator.cli.topology_load import load
from simulator.cli.topology_simulate import simulate

if TYPE_CHECKING:
    import networkx as nx

    from topologies.catalogue.machine_file import Archipelago
    from topologies.network import Network


@click.group(epilog="\b\nExample:\n  epsim topology show cloudmatrix384")
def topology() -> None:
    """Look at a cluster's network."""


topology.add_command(load)
topology.add_command(simulate)


@topology.command(
    epilog="""
\b
Examples:
  epsim topology show cloudmatrix384
  epsim topology show cloudmatrix384 --plane vpc
  epsim topology show ascend-910b-1024 --chips 64 --draw out/910b.svg
  epsim topology show h800-cluster --chips 64 --graph ours.graphml
  epsim topology show h800-cluster --chips 512 --fault "nic 17" --fault "leaf 3 - spine 0 at 50 %"
"""
)
@click.argument("cluster")
@click.option("--chips", type=click.IntRange(min=1), help="Chips in use; default: the cluster's nominal size.")
@click.option("--island", metavar="NAME", help="One island of a machine file that has several; default: all.")
@click.option("--plane", metavar="NAME", help="Network that alone joins nodes: scale-out, or a side plane.")
@click.option("--fault", "faults", multiple=True, metavar="TEXT", help="Failed or degraded part; repeatable.")
@click.option("--draw", "picture", type=click.Path(), metavar="FILE", help="Picture to write; default out/NAME.png.")
@click.option(
    "--graph", "graph_path", type=click.Path(), metavar="FILE", help="Also write the graph (.graphml, .json)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(
    cluster: str,
    chips: int | None,
    island: str | None,
    plane: str | None,
    faults: tuple[str, ...],
    picture: str | None,
    graph_path: str | None,
    as_json: bool,
) -> None:
    """Print tiers, bisection, oversubscription and diameter of CLUSTER, a name or a file, and draw it.

    A file is a machine file (TOML), or a graph (GraphML, node-link JSON or TOML).
    """
    from reports.topology import draw_topology
    from simulator.output import write_file
    from topologies.build import damaged_graph, working_chips
    from topologies.catalogue.machine_file import archipelago, machine_parts
    from topologies.graph_formats import write_graph
    from topologies.metrics import bisection_bytes_per_s, count_parts, describe, diameter_hops, grids
    from topologies.reduction import reduce_graph

    islands = archipelago(cluster) if island is None else None
    if islands:
        name, stem, graph, notes = _joined(islands, chips, plane, faults, graph_path)
    else:
        spec, chip, fabrics = machine_parts(cluster, plane, island)
        name, stem = spec.name, spec.id
        graph, notes = damaged_graph(spec, chip, fabrics, chips or working_chips(spec, faults), faults)
        if graph_path:
            write_file(Path(graph_path), write_graph(graph, chip.id, Path(graph_path).suffix.lower()))
    network = reduce_graph(graph)
    path = draw(draw_topology, graph, path=Path(picture) if picture else Path("out") / f"{stem}.png")
    parts = count_parts(graph)
    figures = {
        "ranks": parts.ranks,
        "nodes": parts.nodes,
        "links": parts.links,
        "bisection_bytes_per_s": bisection_bytes_per_s(network, grids(graph)),
        "diameter_hops": diameter_hops(network),
    }
    if as_json:
        tiers = [asdict(tier) for tier in describe(network)]
        print_json({"cluster": stem, **figures, "tiers": tiers, "faults": list(notes), "picture": str(path)})
    else:
        _print(name, network, figures, notes, path)


def _joined(
    islands: "Archipelago", chips: int | None, plane: str | None, faults: Sequence[str], graph_path: str | None
) -> "tuple[str, str, nx.DiGraph[Any], tuple[str, ...]]":
    """Return name, file name, graph and notes of all islands together."""
    from simulator.errors import UserError
    from topologies.build import joined_graph

    options = {"--chips": chips, "--plane": plane, "--graph": graph_path}
    if given := [option for option, value in options.items() if value is not None]:
        raise UserError(f"{given[0]}: for one island only; add --island {' or '.join(islands.islands)}")
    graph, notes = joined_graph(islands, faults)
    return islands.name, islands.id, graph, notes


def _print(name: str, network: "Network", figures: Mapping[str, Any], notes: Sequence[str], picture: Path) -> None:
    from reports.tables import console, facts_table
    from simulator.units import bytes_per_s, count, ratio, seconds
    from topologies.metrics import describe

    rows = [
        {
            "tier": tier.tier,
            "fabric": network.planes[level.plane].fabric,
            "domains": count(tier.domains),
            "ranks each": count(tier.ranks_per_domain),
            "port": bytes_per_s(tier.port_bytes_per_s),
            "per pair": bytes_per_s(tier.pair_bytes_per_s),
            "uplink": bytes_per_s(tier.uplink_bytes_per_s),
            "oversub.": ratio(tier.oversubscription),
            "latency": seconds(tier.latency_s),
        }
        for tier, level in zip(describe(network), network.tiers, strict=True)
    ]
    terminal = console()
    nodes = f"{count(figures['nodes'])} node{'s' * (figures['nodes'] != 1)}"
    terminal.print(facts_table(rows, f"{name}: {count(figures['ranks'])} ranks on {nodes}"))
    terminal.print(
        f"bisection {bytes_per_s(figures['bisection_bytes_per_s'])} one way, diameter {figures['diameter_hops']} hops, "
        f"{count(figures['links'])} links; every bandwidth is per direction, port and pair per rank",
        highlight=False,
    )
    shown = [*notes[:8], f"... and {len(notes) - 8} more like these"] if len(notes) > 9 else notes
    for note in shown:
        terminal.print(note, highlight=False)
    terminal.print(f"drawn: {picture}", soft_wrap=True, highlight=False)
