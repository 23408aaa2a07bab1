"""Clusters of several kinds of chips: islands, each a cluster of its own, joined by a slower network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from pydantic import Field

from topologies.record import Record
from topologies.specs import Fabric

Graph = Any  # a networkx graph is no type at run time


class Island(Record):
    """One island of a machine file: its name, the cluster it is part of, and how many chips of that it has."""

    name: str = Field(pattern="^[a-z][a-z-]{0,30}$", description="small letters")
    cluster: str
    chips: int = Field(ge=1)


class Between(Record):
    """The network that joins islands.

    Every `chips_per_nic` chips of a node have one NIC of the fabric's port rate; an island's NICs share its uplink to
    the other islands, which is `oversubscription` times narrower than they are together.
    """

    fabric: str
    chips_per_nic: int = Field(default=1, ge=1)
    oversubscription: float = Field(default=1.0, ge=1.0)
    source: str = ""


class Shore(NamedTuple):
    """One island's graph, what its parts are called, and the ranks that share one NIC to the other islands."""

    name: str
    graph: "nx.DiGraph[Any]"
    ranks_per_nic: int
    nic_bytes_per_s: float


def join(name: str, shores: Sequence[Shore], fabric: Fabric, between: Between) -> "nx.DiGraph[int | str]":
    """Return the graph of islands and the network that joins them.

    Ranks and nodes are numbered on from island to island; other parts are called by the island and their own name, and
    planes are each island's own, the last one joining all.

    Parameters
    ----------
    name
        Of the whole.
    shores
        The islands.
    fabric, between
        The network that joins them; switches of an island stand as one.
    """
    joined: nx.DiGraph[int | str] = nx.DiGraph(name=name, planes=[])
    planes = joined.graph["planes"]
    firsts = [_add_island(joined, shore) for shore in shores]
    plane = len(planes)
    planes.append({"name": fabric.name, "fabric": fabric.id, "port_bytes_per_s": shores[0].nic_bytes_per_s})
    far = fabric.far_latency_s or fabric.near_latency_s
    switches = [f"island {index}" for index in range(len(shores))]
    joined.add_nodes_from(switches, kind="switch", tier="island", plane=plane)
    joined.add_node("between 0", kind="switch", tier="between", plane=plane)
    for switch, shore, first in zip(switches, shores, firsts, strict=True):
        nics = _add_nics(joined, shore, first, plane)
        for nic in nics:
            _link(joined, nic, switch, shore.nic_bytes_per_s, fabric.near_latency_s / 2, plane)
        uplink = len(nics) * shore.nic_bytes_per_s / between.oversubscription
        _link(joined, switch, "between 0", uplink, (far - fabric.near_latency_s) / 2, plane)
    return joined


def _add_island(joined: Graph, shore: Shore) -> int:
    """Add an island's graph under names of its own; return its first rank."""
    ranks = [d for _, d in joined.nodes(data=True) if d["kind"] == "rank"]
    planes = joined.graph["planes"]
    rank, node, plane = len(ranks), 1 + max((d["node"] for d in ranks), default=-1), len(planes)
    called = {v: v + rank if isinstance(v, int) else f"{shore.name} {v}" for v in shore.graph}
    for v, d in shore.graph.nodes(data=True):
        own = (
            {"rank": d["rank"] + rank, "node": d["node"] + node}
            if d["kind"] == "rank"
            else {"plane": d["plane"] + plane}
        )
        joined.add_node(called[v], **d | own)
    joined.add_edges_from(
        (called[u], called[v], d | {"plane": d["plane"] + plane}) for u, v, d in shore.graph.edges(data=True)
    )
    for found in shore.graph.graph["planes"]:
        kept = {key: value for key, value in found.items() if key != "grid"}
        planes.append(kept | {"name": f"{shore.name}: {found['name']}"})
    return rank


def _add_nics(joined: Graph, shore: Shore, first: int, plane: int) -> list[str]:
    """Give every so many ranks of a node a NIC to the other islands."""
    ranks = [(v + first, d["node"], d["rail"]) for v, d in shore.graph.nodes(data=True) if d["kind"] == "rank"]
    table = np.array(ranks, dtype=np.int64)
    keys = np.column_stack([table[:, 1], table[:, 2] // shore.ranks_per_nic])
    _, own = np.unique(keys, axis=0, return_inverse=True)
    names = [f"{shore.name} border nic {index}" for index in range(int(own.max()) + 1)]
    joined.add_nodes_from(names, kind="nic", tier="nic", plane=plane)
    for rank, nic in zip(table[:, 0].tolist(), own.ravel().tolist(), strict=True):
        _link(joined, rank, names[nic], shore.nic_bytes_per_s, 0.0, plane)
    return names


def _link(graph: Graph, low: Any, high: Any, bytes_per_s: float, latency_s: float, plane: int) -> None:
    for ends in ((low, high), (high, low)):
        graph.add_edge(*ends, bytes_per_s=bytes_per_s, latency_s=latency_s, plane=plane)
