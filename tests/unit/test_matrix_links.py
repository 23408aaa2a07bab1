"""A matrix of bytes loads links as the list of its flows does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import matrix_links
from simulator.cost.links import LinkLoads, link_loads
from simulator.cost.matrix_links import matrix_loads, uniform_loads
from topologies import catalogue
from topologies.build import network
from topologies.network import Network

CLUSTERS = {"h800-cluster": 64, "ascend-910b-1024": 48, "deepseek-h800-2048": 40, "cloudmatrix384": 24}


def built(name: str, chips: int) -> Network:
    spec = catalogue.cluster(name)
    return network(spec, catalogue.accelerator(spec.chip), {each.id: each for each in catalogue.fabrics()}, chips)


def by_name(loads: list[LinkLoads]) -> dict[str, float]:
    return {
        each.name(row): float(each.time_s[row, 0]) for each in loads for row in np.flatnonzero(each.size_bytes[:, 0])
    }


def flows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source, target = (side.ravel().astype(np.int32) for side in np.indices(matrix.shape))
    return source, target, matrix.ravel()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CLUSTERS)), st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from([2**21, 300]))
def test_matrix_and_flows_agree(name: str, seed: int, empty: float, cells: int) -> None:
    net = built(name, CLUSTERS[name])
    draw = np.random.default_rng(seed)
    matrix = draw.uniform(0, 1e9, (net.ranks, net.ranks)) * (draw.random((net.ranks, net.ranks)) >= empty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix_links, "CELLS", cells)
        found = by_name(matrix_loads(net, matrix))
    assert found == pytest.approx(by_name(link_loads(net, *flows(matrix))))


@pytest.mark.parametrize("name", sorted(CLUSTERS))
def test_uniform_exchange_agrees_with_its_matrix(name: str) -> None:
    net = built(name, CLUSTERS[name])
    whole = by_name(matrix_loads(net, np.full((net.ranks, net.ranks), 3e6)))
    folded = by_name(uniform_loads(net, 3e6))
    assert folded == pytest.approx({link: whole[link] for link in folded})
    assert max(folded.values()) == pytest.approx(max(whole.values()))
    assert {link for link in whole if "direct" not in link} == {link for link in folded if "direct" not in link}


@pytest.mark.parametrize("name", sorted(CLUSTERS))
@pytest.mark.parametrize("strided", [False, True])
def test_uniform_exchange_in_groups_agrees_with_its_flows(name: str, strided: bool) -> None:
    net = built(name, CLUSTERS[name])
    members = np.arange(net.ranks - 8, dtype=np.int32)  # the last ranks stay out of it
    groups = members.reshape(-1, 4).T.copy() if strided else members.reshape(4, -1)
    matrix = np.zeros((net.ranks, net.ranks))
    for group in groups:
        matrix[np.ix_(group, group)] = 3e6
    listed = by_name(link_loads(net, *flows(matrix)))
    folded = by_name(uniform_loads(net, 3e6, groups))
    assert folded == pytest.approx({link: listed[link] for link in folded})
    assert max(folded.values()) == pytest.approx(max(listed.values()))
