"""What holds for flows on any network: bounds, conservation, and what more capacity or traffic can do."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.flow_links import flow_links
from simulator.cost.links import busiest_links
from simulator.cost.max_min import max_min_rates
from simulator.engine.flows import Transfer, simulate_flows
from topologies import catalogue
from topologies.build import network
from topologies.network import Network
from topologies.reduction import reduce_graph

CLUSTERS = {"h800-cluster": 16, "ascend-910b-1024": 16, "deepseek-h800-2048": 24, "cloudmatrix384": 8}
SHAPES = ["torus", "hypercube", *CLUSTERS]


def net_of(shape: str) -> Network:
    if shape in CLUSTERS:
        spec = catalogue.cluster(shape)
        fabrics = {each.id: each for each in catalogue.fabrics()}
        return network(spec, catalogue.accelerator(spec.chip), fabrics, CLUSTERS[shape])
    plain = nx.grid_graph((3, 4), periodic=True) if shape == "torus" else nx.hypercube_graph(3)
    graph = nx.convert_node_labels_to_integers(plain).to_directed()
    graph.graph["planes"] = [{"name": "Net", "fabric": "net", "port_bytes_per_s": 1e9}]
    nx.set_node_attributes(graph, {v: {"kind": "rank", "rank": v, "node": v, "rail": 0} for v in graph})
    nx.set_edge_attributes(graph, {edge: {"bytes_per_s": 1e9, "latency_s": 1e-6, "plane": 0} for edge in graph.edges})
    return reduce_graph(graph)


def drawn(net: Network, seed: int, flows: int) -> Transfer:
    draw = np.random.default_rng(seed)
    source, target = draw.integers(0, net.ranks, (2, flows)).astype(np.int32)
    return Transfer(source, target, draw.choice([1e6, 3e6, 7e7], flows))


def bound_s(net: Network, flows: Transfer) -> float:
    links = busiest_links(net, flows.source, flows.target, flows.size_bytes)
    return max((link.time_s for link in links), default=0.0)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([0.0, 0.05, 0.3]))
def test_no_run_beats_the_busiest_link(shape: str, seed: int, count: int, resolution: float) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, count)
    found = simulate_flows(net, [flows], resolution=resolution)
    bound = bound_s(net, flows)
    assert found.bound_s[0] == pytest.approx(bound)
    assert found.end_s[0] >= bound * (1 - 1e-9)
    assert found.end_s[0] == pytest.approx(found.finish_s[0].max())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))
def test_without_contention_a_flow_takes_the_bound(shape: str, seed: int) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, 1)
    assert simulate_flows(net, [flows]).end_s[0] == pytest.approx(bound_s(net, flows))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_uniform_all_to_all_takes_the_bound(shape: str) -> None:
    """All flows are alike, so that fair sharing keeps the busiest link full to the end."""
    net = net_of(shape)
    source, target = (side.ravel().astype(np.int32) for side in np.indices((net.ranks, net.ranks)))
    flows = Transfer(source, target, np.full(source.size, 1e6))
    assert simulate_flows(net, [flows]).end_s[0] == pytest.approx(bound_s(net, flows))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1), st.floats(1.0, 8.0))
def test_all_links_wider_by_a_factor_is_faster_by_it(shape: str, seed: int, factor: float) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, 20)
    planes = tuple(
        replace(
            plane,
            port_bytes_per_s=plane.port_bytes_per_s * factor,
            routes=plane.routes and replace(plane.routes, bytes_per_s=plane.routes.bytes_per_s * factor),
        )
        for plane in net.planes
    )
    tiers = tuple(
        replace(
            tier, uplink_bytes_per_s=tier.uplink_bytes_per_s * factor, pair_bytes_per_s=tier.pair_bytes_per_s * factor
        )
        for tier in net.tiers
    )
    wider = simulate_flows(replace(net, planes=planes, tiers=tiers), [flows])
    before = simulate_flows(net, [flows])
    np.testing.assert_allclose(wider.finish_s[0] * factor, before.finish_s[0], rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_another_flow_never_raises_the_smallest_rate(shape: str, seed: int, count: int, more: int) -> None:
    """What max-min sharing does promise: times of single flows may move either way when others come and go."""
    net = net_of(shape)
    flows = drawn(net, seed, count + more)
    links = flow_links(net, flows.source, flows.target)
    moving = (links.link < links.capacity_bytes_per_s.size).any(axis=0)
    few = np.flatnonzero(moving[:count])
    if few.size:
        all_of_them = max_min_rates(links.link, links.share, links.capacity_bytes_per_s)
        share = None if links.share is None else links.share[:, few]
        alone = max_min_rates(links.link[:, few], share, links.capacity_bytes_per_s)
        assert all_of_them[moving].min() <= alone.min() * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1), st.floats(0.0, 0.9))
def test_background_on_every_link_alike_slows_all_flows_by_its_share(shape: str, seed: int, taken: float) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, 12)
    links = flow_links(net, flows.source, flows.target)
    some = (links.link < links.capacity_bytes_per_s.size).any(axis=0)
    rest = max_min_rates(links.link, links.share, links.capacity_bytes_per_s * (1 - taken))
    whole = max_min_rates(links.link, links.share, links.capacity_bytes_per_s)
    np.testing.assert_allclose(rest[some], whole[some] * (1 - taken), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))
def test_bytes_in_are_bytes_out(shape: str, seed: int) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, 40)
    links = flow_links(net, flows.source, flows.target)
    on_links = links.bytes_on_links(flows.size_bytes)
    away = flows.source != flows.target
    for kind in links.kinds:
        own = on_links[kind.first : kind.first + kind.capacity_bytes_per_s.size]
        if kind.routes is not None:
            sent = np.bincount(kind.routes.source, own, len(kind.routes.names))
            received = np.bincount(kind.routes.target, own, len(kind.routes.names))
            given_off = np.bincount(flows.source[away], flows.size_bytes[away], len(kind.routes.names))
            taken_in = np.bincount(flows.target[away], flows.size_bytes[away], len(kind.routes.names))
            np.testing.assert_allclose(sent - received, given_off - taken_in, atol=1e-3)
    ports = [kind for kind in links.kinds if " port " in kind.name]
    for out, back in zip(ports[::2], ports[1::2], strict=True):
        moved = [on_links[kind.first : kind.first + net.ranks].sum() for kind in (out, back)]
        assert moved[0] == pytest.approx(moved[1])
    if ports:
        assert sum(on_links[kind.first : kind.first + net.ranks].sum() for kind in ports) == pytest.approx(
            2 * flows.size_bytes[away].sum()
        )


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["torus", "h800-cluster", "cloudmatrix384"]), st.integers(0, 2**32 - 1))
def test_order_of_flows_does_not_matter(shape: str, seed: int) -> None:
    net = net_of(shape)
    flows = drawn(net, seed, 30)
    order = np.random.default_rng(seed).permutation(30)
    mixed = Transfer(flows.source[order], flows.target[order], flows.size_bytes[order])
    before, after = (simulate_flows(net, [each]).finish_s[0] for each in (flows, mixed))
    np.testing.assert_allclose(after, before[order], rtol=1e-9)
