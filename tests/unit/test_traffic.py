"""Copies between ranks and nodes against a count token by token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import placement
from workloads.errors import WorkloadError
from workloads.placement import EMPTY, Placement
from workloads.routing.trace import Trace
from workloads.traffic import Traffic, matrices, own_sequences, traffic


def by_hand(experts: np.ndarray, source_tokens: np.ndarray, held: Placement, ranks_per_node: int) -> Traffic:
    """One token, layer and expert after another; replicas in turn."""
    layers, sources, nodes = experts.shape[1], len(source_tokens), -(-held.ranks // ranks_per_node)
    routes = np.zeros((layers, sources, held.ranks), dtype=int)
    to_rank, to_node = routes.copy(), np.zeros((layers, sources, nodes), dtype=int)
    source = np.repeat(np.arange(sources), source_tokens)
    for token, sets in enumerate(experts):
        for layer, chosen in enumerate(sets):
            ranks = []
            for expert in chosen:
                slots = np.flatnonzero(held.slot_expert[layer].ravel() == expert)
                ranks.append(int(slots[token % len(slots)]) // held.slots)
            for rank in ranks:
                routes[layer, source[token], rank] += 1
            for rank in set(ranks):
                to_rank[layer, source[token], rank] += 1
            for node in {rank // ranks_per_node for rank in ranks}:
                to_node[layer, source[token], node] += 1
    return Traffic(routes, to_rank, to_node, ranks_per_node)


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Placement, int]:
    """A batch, and any placement that holds every expert: replicas, empty slots, more ranks than experts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    experts = draw(st.integers(2, 12))
    layers, ranks = draw(st.integers(1, 3)), draw(st.integers(1, 16))
    slots = -(-experts // ranks) + draw(st.integers(0, 2))
    spare = ranks * slots - experts
    held = np.stack(
        [
            rng.permutation(np.concatenate([np.arange(experts), rng.integers(EMPTY, experts, spare)]))
            for _ in range(layers)
        ]
    )
    tokens = np.array(draw(st.lists(st.integers(0, 9), min_size=1, max_size=5)))
    tokens[0] += 1
    top_k = draw(st.integers(1, min(experts, 4)))
    ids = rng.permuted(np.tile(np.arange(experts), (tokens.sum(), layers, 1)), axis=2)[..., :top_k]
    return ids.astype(np.uint8), tokens, Placement(held.reshape(layers, ranks, slots), experts), draw(st.integers(1, 6))


@settings(max_examples=60, deadline=None)
@given(batches(), st.sampled_from([1, 8, 65_536]))
def test_traffic_is_that_counted_by_hand(batch: tuple[np.ndarray, np.ndarray, Placement, int], routes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices, "CHUNK_ROUTES", routes)
        found = traffic(*batch)
    expected = by_hand(*batch)
    assert np.array_equal(found.routes, expected.routes)
    assert np.array_equal(found.to_rank, expected.to_rank)
    assert np.array_equal(found.to_node, expected.to_node)


@settings(max_examples=60, deadline=None)
@given(batches())
def test_every_route_leaves_and_returns_once(batch: tuple[np.ndarray, np.ndarray, Placement, int]) -> None:
    experts, source_tokens, held, _ = batch
    found = traffic(*batch)
    top_k = experts.shape[2]
    assert (found.routes.sum(axis=2) == source_tokens * top_k).all()  # leaves its source, and so comes back to it
    for layer, used in enumerate(experts.swapaxes(0, 1)):  # arrives where its expert is
        holders = [set(np.flatnonzero((held.slot_expert[layer] == expert).any(axis=1))) for expert in np.unique(used)]
        assert set(np.flatnonzero(found.routes[layer].sum(axis=0))) <= set().union(*holders)
    assert (found.to_rank <= found.routes).all()
    assert ((found.to_rank > 0) == (found.routes > 0)).all()
    assert (found.to_rank <= source_tokens[:, None]).all()
    assert (found.to_node <= source_tokens[:, None]).all()
    nodes = np.add.reduceat(found.to_rank, np.arange(0, held.ranks, found.ranks_per_node), axis=2)
    assert (found.to_node <= nodes).all()
    assert ((found.to_node > 0) == (nodes > 0)).all()


def test_nodes_of_sources_add_up() -> None:
    rng = np.random.default_rng(0)
    experts = rng.permuted(np.tile(np.arange(16), (40, 2, 1)), axis=2)[..., :3]
    found = traffic(experts, np.full(8, 5), placement.contiguous(2, 16, 8), 3)
    assert found.between_nodes.shape == (2, 3, 3)
    assert np.array_equal(found.between_nodes[:, 2], found.to_node[:, 6:].sum(axis=1))
    assert found.between_nodes.sum() == found.to_node.sum()


@pytest.mark.parametrize(
    ("sources", "layers", "message"),
    [([3, 3], 1, "sources of 6 tokens: the batch has 5"), ([5], 2, "2 layers: the trace has 1")],
)
def test_contradictions_are_refused(sources: list[int], layers: int, message: str) -> None:
    experts = np.zeros((5, 1, 1), dtype=np.uint8)
    with pytest.raises(WorkloadError, match=message):
        traffic(experts, np.array(sources), placement.contiguous(layers, 4, 2), 2)


def test_experts_that_have_no_place_are_refused() -> None:
    with pytest.raises(WorkloadError, match="of 4 experts: the trace uses 1 to 7"):
        traffic(np.array([[[1, 7]]]), np.array([1]), placement.contiguous(1, 4, 2), 2)


def recorded(lengths: list[int]) -> Trace:
    """Every token uses the expert that its sequence is numbered by."""
    ids = np.repeat(np.arange(len(lengths)), lengths)[:, None, None]
    return Trace(ids, np.array(lengths), len(lengths), "numbered")


def test_ranks_serve_whole_sequences_of_their_own() -> None:
    trace = recorded([4, 2, 6, 3, 5, 4])
    drawn = own_sequences(trace, 3, 8, 4096, 5, np.random.default_rng(0))
    assert drawn.shape == (5, 3, 8)
    starts = np.cumsum(trace.seq_lens) - trace.seq_lens
    for batch in drawn:
        for rows in batch:
            breaks = np.flatnonzero(np.diff(rows) != 1) + 1
            firsts = rows[np.concatenate([[0], breaks])]
            assert np.isin(firsts, starts).all()  # every run starts where a sequence does
    assert not np.array_equal(drawn[0], drawn[1])


def test_decode_takes_one_token_of_each_sequence() -> None:
    trace = recorded([10] * 40)
    drawn = own_sequences(trace, 4, 10, 1, 3, np.random.default_rng(0))
    sequence = trace.experts[drawn, 0, 0].reshape(3, -1)
    assert (np.sort(sequence, axis=1) == np.arange(40)).all()  # all are used before any comes again
    assert np.unique(drawn % 10).size > 3  # at positions of all kinds


def test_empty_batches_are_refused() -> None:
    with pytest.raises(WorkloadError, match="tokens per rank 0"):
        own_sequences(recorded([3]), 1, 0, 1, 1, np.random.default_rng(0))
