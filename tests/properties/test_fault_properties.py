"""Whatever fails, what is left is a network that carries no more than before, or a refusal that says why."""

from typing import Any

import networkx as nx
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from topologies.build import damaged_graph
from topologies.catalogue.machine_file import machine_parts
from topologies.errors import TopologyError
from topologies.reduction import reduce_graph

CLUSTERS = {
    "h800-cluster": 32, "deepseek-h800-2048": 32, "ascend-910b-1024": 16, "cloudmatrix384": 16, "torus-example": 24,
    "dragonfly-example": 40, "atlas-950-superpod": 70, "meta-24k-roce": 40,
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn, nodes: bool) -> tuple[str, tuple[str, ...]]:
    name = draw(st.sampled_from(sorted(CLUSTERS)))
    graph = damaged_graph(*machine_parts(name), CLUSTERS[name]).graph
    called = {v: f"rank {v}" if isinstance(v, int) else v.replace("node ", "node switch ") for v in graph}
    parts = [text for v, text in called.items() if not isinstance(v, int)]
    links = [f"{called[u]} - {called[v]}" for u, v in graph.edges]
    share = st.sampled_from(["", "", " at 50 %", " at 10 %"])
    broken = st.one_of(
        st.builds(str.__add__, st.sampled_from(parts or links), share),
        st.builds(str.__add__, st.sampled_from(links), share),
    )
    if nodes:
        broken = st.one_of(broken, st.builds("node {}".format, st.integers(0, 3)))
    return name, tuple(draw(st.lists(broken, min_size=1, max_size=6, unique=True)))


def flow_bytes_per_s(graph: Any, ranks: int) -> float:
    """Most that the first half of the ranks can send to the other at once."""
    joined: Any = nx.DiGraph()
    for u, v, d in graph.edges(data=True):
        tail, head = (("source" if end < ranks // 2 else "sink") if isinstance(end, int) else end for end in (u, v))
        known = joined.get_edge_data(tail, head, {"capacity": 0.0})["capacity"]
        joined.add_edge(tail, head, capacity=known + d["bytes_per_s"])
    return float(nx.maximum_flow_value(joined, "source", "sink"))


@settings(max_examples=60, deadline=None)
@given(cases(nodes=False))
def test_damage_never_adds_capacity(case: tuple[str, tuple[str, ...]]) -> None:
    name, faults = case
    parts, chips = machine_parts(name), CLUSTERS[name]
    try:
        hurt = damaged_graph(*parts, chips, faults).graph
    except TopologyError:
        assume(False)
    whole = damaged_graph(*parts, chips).graph
    ranks = sum(isinstance(v, int) for v in whole)
    assert flow_bytes_per_s(hurt, ranks) <= flow_bytes_per_s(whole, ranks) * (1 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(cases(nodes=True))
def test_what_is_left_is_a_network_or_a_refusal_in_lines(case: tuple[str, tuple[str, ...]]) -> None:
    name, faults = case
    parts, chips = machine_parts(name), CLUSTERS[name]
    try:
        reduced = reduce_graph(damaged_graph(*parts, chips, faults).graph)
    except TopologyError as error:
        assert all(line.startswith("cluster.faults: ") or line.startswith("... ") for line in error.problems)
        return
    assert reduced.ranks == chips * parts.chip.ranks_per_chip
    ranks = np.arange(reduced.ranks, dtype=np.int32)
    meeting = reduced.meeting_tier(ranks[:, None], ranks[None, :])
    assert ((meeting >= 0) | np.eye(reduced.ranks, dtype=bool)).all()
    assert all(np.isfinite(plane.port_bytes_per_s).all() for plane in reduced.planes)
