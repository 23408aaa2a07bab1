"""Graphs as bytes: GraphML, node-link JSON and the same tables as TOML, read into rows and written."""

import io
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import networkx as nx

from topologies.errors import TopologyError

MAX_FILE_BYTES = 64_000_000
HELP = "the README shows the format"

Rows = Sequence[Mapping[str, Any]]


class Tables(NamedTuple):
    """What a file says: about the graph, its vertices, its links, and whether links have a direction."""

    about: Mapping[str, Any]
    nodes: Rows
    links: Rows
    directed: bool


def read_tables(data: bytes, suffix: str) -> Tables:
    """Return what the contents of a file say.

    Raises
    ------
    TopologyError
        If they are not in the format that the suffix stands for.
    """
    return {".graphml": _from_graphml, ".json": _from_json, ".toml": _from_toml}[suffix](data)


def write_graph(graph: "nx.DiGraph[Any]", chip: str, suffix: str) -> bytes:
    """Return a graph as the contents of a file that `topologies.graph_file.read_graph` reads.

    Parameters
    ----------
    graph
        As `topologies.generators.build_graph` makes it.
    chip
        Catalogue name of its chip.
    suffix
        ``.graphml`` or ``.json``.

    Raises
    ------
    TopologyError
        If the suffix is none of the two.
    """
    planes = graph.graph["planes"]
    about = {"name": graph.graph["name"], "chip": chip, "fabrics": ",".join(plane["fabric"] for plane in planes)}
    order = {v: index for index, v in enumerate(graph)}
    half = [(u, v, d) for u, v, d in graph.edges(data=True) if order[u] < order[v]]
    if suffix == ".json":
        nodes = [{"id": str(v)} | dict(d) for v, d in graph.nodes(data=True)]
        links = [{"source": str(u), "target": str(v)} | d for u, v, d in half]
        table = {"directed": False, "multigraph": False, "graph": about, "nodes": nodes, "links": links}
        return (json.dumps(table, indent=1) + "\n").encode()
    if suffix != ".graphml":
        raise TopologyError(f"graph file: '{suffix}': not a format; use .graphml or .json")
    plain: nx.Graph[str] = nx.Graph(**about)
    plain.add_nodes_from((str(v), d) for v, d in graph.nodes(data=True))
    plain.add_edges_from((str(u), str(v), d) for u, v, d in half)
    return ("\n".join(nx.generate_graphml(plain)) + "\n").encode()


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file.

    Raises
    ------
    TopologyError
        If it can't be read, or is too large to be a graph.
    """
    if "\0" in str(path):
        raise TopologyError(f"{str(path)[:60]!r}: not a path; correct it")
    try:
        if path.is_dir():
            raise TopologyError(f"{path}: a directory; give a graph file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TopologyError(f"{path}: over {MAX_FILE_BYTES // 1_000_000} MB; is this a graph?")
        return path.read_bytes()
    except OSError as error:
        raise TopologyError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None


def _from_graphml(data: bytes) -> Tables:
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise TopologyError("declares a document type or entities, which a graph needs not; remove the declaration")
    try:
        found = nx.read_graphml(io.BytesIO(data))
    except (ParseError, nx.NetworkXException, KeyError, ValueError, TypeError, AttributeError, LookupError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise TopologyError(f"not valid GraphML: {line[:120]}") from None
    nodes = [{"id": v} | d for v, d in found.nodes(data=True)]
    links = [dict(d) | {"source": u, "target": v} for u, v, d in found.edges(data=True)]
    return Tables(found.graph, nodes, links, found.is_directed())


def _from_json(data: bytes) -> Tables:
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TopologyError(f"not valid JSON: {str(error)[:120]}") from None
    return _from_table(table)


def _from_toml(data: bytes) -> Tables:
    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TopologyError(f"not valid TOML: {str(error).splitlines()[0][:120]}") from None
    about = {key: value for key, value in table.items() if key not in {"nodes", "links", "directed"}}
    return _from_table({"graph": about} | table)


def _from_table(table: Any) -> Tables:
    links = table.get("links", table.get("edges")) if isinstance(table, dict) else None
    if links is None or "nodes" not in table:
        raise TopologyError(f"has no 'nodes' and 'links': not a node-link graph; {HELP}")
    for what, rows in (("nodes", table["nodes"]), ("links", links)):
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TopologyError(f"{what}: must be a list of tables; {HELP}")
    about = table.get("graph", {})
    if not isinstance(about, dict):
        raise TopologyError(f"graph: must be a table of chip, fabrics and name; {HELP}")
    return Tables(about, table["nodes"], links, table.get("directed", False) is True)
