"""Graphs in files: GraphML, node-link JSON, or the same tables as TOML.

The graph says ``chip`` (catalogue name), ``fabrics`` (catalogue names, one per plane; in GraphML with commas between)
and, if it likes, ``name`` and ``source``. A vertex says ``kind``: a ``rank`` also ``rank`` and ``node``, a ``nic`` or
``switch`` also ``tier``. A link says ``bytes_per_s`` (one direction), ``latency_s`` and, where there are several,
``plane``. An undirected graph is full duplex; parallel links add up. Ranks are numbered chip by chip.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import networkx as nx

from topologies.errors import TopologyError
from topologies.graph_formats import HELP, Rows, read_bytes, read_tables
from topologies.graph_tables import refuse

Graph = Any  # a networkx graph is no type at run time


def digest(path: Path) -> str:
    """Return the SHA-256 of a graph file.

    Raises
    ------
    TopologyError
        If it can't be read, or is too large to be a graph.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


@lru_cache(maxsize=4)
def read_graph(path: Path, sha256: str) -> "nx.DiGraph[int | str]":
    """Return the graph of a file, as `topologies.generators.build_graph` makes them; not to be changed.

    Besides ``name`` and ``planes``, whose ports are left to be filled in, the graph keeps ``chip``, ``fabrics``,
    ``source``.

    Parameters
    ----------
    path
        A ``.graphml``, ``.json`` or ``.toml`` file.
    sha256
        What the file is, from `digest`: a changed file is another graph.

    Raises
    ------
    TopologyError
        One line per problem; many of one kind are cut short.
    """
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TopologyError(f"{path.name}: changed while it was read; try again")
    try:
        return _build(*read_tables(data, path.suffix.lower()))
    except TopologyError as error:
        raise TopologyError(*(f"{path.name}: {line}" for line in error.problems)) from None


def is_graph_table(table: Mapping[str, Any]) -> bool:
    """Whether a TOML table describes a graph (else it describes a machine)."""
    return "nodes" in table or "links" in table


def _build(about: Mapping[str, Any], nodes: Rows, links: Rows, directed: bool) -> "nx.DiGraph[int | str]":
    fabrics = about.get("fabrics", ())
    fabrics = [name.strip() for name in fabrics.split(",")] if isinstance(fabrics, str) else fabrics
    if not isinstance(about.get("chip"), str) or not fabrics or not all(isinstance(name, str) for name in fabrics):
        raise TopologyError(f"graph: needs 'chip' and 'fabrics' (one per plane), catalogue names; {HELP}")
    if nodes and not any("kind" in row for row in nodes):
        raise TopologyError(f"no vertex says its 'kind' (rank, nic or switch): written for another tool? {HELP}")
    graph: nx.DiGraph[int | str] = nx.DiGraph(
        name=str(about.get("name", "")), chip=about["chip"], fabrics=tuple(fabrics), source=str(about.get("source", ""))
    )
    names = _add_vertices(graph, nodes)
    _add_links(graph, names, links, directed, len(fabrics))
    return graph


def _add_vertices(graph: Graph, nodes: Rows) -> dict[Any, Any]:
    """Add vertices, ranks under their numbers; return what each is called in the graph, by its id in the file."""
    names: dict[Any, Any] = {}
    problems: list[str] = []
    sizes: dict[Any, int] = {}
    whole = {"rank", "node"}
    for row in sorted(nodes, key=lambda row: row["rank"] if isinstance(row.get("rank"), int) else -1):
        name, kind = row.get("id"), row.get("kind")
        if not isinstance(name, str | int) or name in names:
            problems.append(f"vertex {name!r}: {'appears twice' if name in names else 'needs an id'}; name each once")
        elif kind == "rank" and not all(type(row.get(key)) is int and row[key] >= 0 for key in whole):
            problems.append(f"vertex {name!r}: a rank needs 'rank' and 'node', whole numbers from 0; set them")
        elif kind == "rank" and row["rank"] in graph:
            problems.append(f"vertex {name!r}: rank {row['rank']} is there twice; number ranks 0, 1, 2, ...")
        elif kind == "rank":
            names[name] = row["rank"]
            rail = sizes.get(row["node"], 0)
            sizes[row["node"]] = rail + 1
            graph.add_node(row["rank"], kind="rank", rank=row["rank"], node=row["node"], rail=rail)
        elif kind not in {"nic", "switch"} or not isinstance(row.get("tier"), str):
            problems.append(f"vertex {name!r}: kind {kind!r}: use 'rank', or 'nic' or 'switch' with a 'tier' name")
        else:
            names[name] = str(name) if not isinstance(name, int) else f"{row['tier']} {name}"
            graph.add_node(names[name], kind=kind, tier=row["tier"])
    ranks = sum(sizes.values())
    if not problems and any(rank not in graph for rank in range(ranks)):
        problems.append(f"vertices: ranks are not numbered 0 to {ranks - 1}; number them so")
    if not problems and sorted(sizes) != list(range(len(sizes))):
        problems.append("vertices: nodes are not numbered 0, 1, 2, ...; number them so")
    refuse(problems)
    return names


def _add_links(graph: Graph, names: Mapping[Any, Any], links: Rows, directed: bool, planes: int) -> None:
    """Add links, parallel ones as one; each switch and NIC belongs to the plane of its links."""
    problems: list[str] = []
    for row in links:
        ends = row.get("source"), row.get("target")
        place = f"link {ends[0]!r} - {ends[1]!r}"
        unknown = [end for end in ends if not isinstance(end, str | int) or end not in names]
        plane = row.get("plane", 0 if planes == 1 else None)
        rate, latency = (_number(row.get(key)) for key in ("bytes_per_s", "latency_s"))
        if unknown:
            problems.append(f"{place}: {unknown[0]!r} is no vertex; correct the name")
        elif ends[0] == ends[1]:
            problems.append(f"{place}: a link to itself; remove it")
        elif rate is None or latency is None:
            problems.append(f"{place}: needs bytes_per_s and latency_s, numbers; set them")
        elif type(plane) is not int or not 0 <= plane < planes:
            problems.append(f"{place}: plane {plane!r}: one of 0 to {planes - 1}, as in 'fabrics'; set it")
        elif not (0 < rate < float("inf") and 0 <= latency < float("inf")):
            problems.append(f"{place}: bytes_per_s must be positive, latency_s at least 0, both finite")
        else:
            low, high = names[ends[0]], names[ends[1]]
            for pair in [(low, high)] if directed else [(low, high), (high, low)]:
                problems += _add_link(graph, pair, rate, latency, plane, place)
    refuse(problems)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _add_link(
    graph: Graph, pair: tuple[Any, Any], bytes_per_s: float, latency_s: float, plane: int, place: str
) -> list[str]:
    for end in pair:
        found = graph.nodes[end]
        if found["kind"] != "rank" and found.setdefault("plane", plane) != plane:
            return [
                f"{place}: plane {plane}, but {end!r} has links of plane {found['plane']}; planes meet in ranks only"
            ]
    if graph.has_edge(*pair):
        edge = graph.edges[pair]
        if edge["plane"] != plane:
            return [f"{place}: in planes {edge['plane']} and {plane}; ranks can have one direct link"]
        edge["bytes_per_s"] += bytes_per_s
        edge["latency_s"] = max(edge["latency_s"], latency_s)
    else:
        graph.add_edge(*pair, bytes_per_s=bytes_per_s, latency_s=latency_s, plane=plane)
    return []
