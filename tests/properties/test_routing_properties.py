import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import placement
from workloads.routing.destinations import destinations
from workloads.routing.load import rank_tokens, sample_counts, slot_tokens
from workloads.routing.popularity import popularity
from workloads.routing.replay import resample, trace_counts, trace_destinations
from workloads.routing.spec import load_statistics
from workloads.routing.trace import Trace

STATISTICS = load_statistics()


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Experts, top_k, n_group and topk_group that go together."""
    n_group = draw(st.integers(1, 8))
    size = draw(st.integers(1, 12))
    topk_group = draw(st.integers(1, n_group))
    return n_group * size, draw(st.integers(1, size * topk_group)), n_group, topk_group


@st.composite
def placements(draw: st.DrawFn, layers: int, experts: int) -> placement.Placement:
    redundant = draw(st.integers(0, experts))
    total = experts + redundant
    ranks = draw(st.sampled_from([ranks for ranks in range(1, total + 1) if total % ranks == 0]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    policy = draw(st.sampled_from(["contiguous", "random", "balanced"]))
    if policy == "contiguous":
        return placement.contiguous(layers, experts, ranks, redundant)
    if policy == "random":
        return placement.random(layers, experts, ranks, rng, redundant)
    return placement.balanced(rng.lognormal(size=(layers, experts)), ranks, redundant)


@settings(max_examples=60, deadline=None)
@given(
    shape=groups(),
    tokens=st.integers(1, 3000),
    share=st.floats(0, 1),
    strength=st.sampled_from([0.0, 0.3, 1.0, 4.0, 10.0]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_tokens_and_copies_are_conserved(
    shape: tuple[int, int, int, int], tokens: int, share: float, strength: float, seed: int, data: st.DataObject
) -> None:
    experts, top_k, n_group, topk_group = shape
    rng = np.random.default_rng(seed)
    model = popularity(STATISTICS, 2, experts, top_k, rng, strength=strength, n_group=n_group, topk_group=topk_group)
    counts = sample_counts(model, tokens, max(1, round(share * tokens)), 3, rng)
    assert (counts.sum(axis=-1) == tokens * top_k).all()
    assert 0 <= counts.min() <= counts.max() <= tokens

    held = data.draw(placements(2, experts))
    rows = rank_tokens(counts, held)
    np.testing.assert_allclose(rows.sum(axis=-1), tokens * top_k)
    per_node = data.draw(st.integers(1, held.ranks + 1))
    copies = destinations(counts, held, tokens, per_node, n_group=n_group, topk_group=topk_group)
    slack = 1e-9 * tokens * top_k
    busiest = slot_tokens(counts, held).max(axis=-1)
    assert (copies.to_rank <= np.minimum(rows, tokens) + slack).all()
    assert (copies.to_rank >= busiest - slack).all()
    nodes = np.arange(0, held.ranks, per_node)
    assert copies.to_node.shape[-1] == nodes.size
    assert (copies.to_node <= np.minimum(np.add.reduceat(rows, nodes, axis=-1), tokens) + slack).all()
    assert (copies.to_node >= np.maximum.reduceat(busiest, nodes, axis=-1) - slack).all()


@settings(max_examples=40, deadline=None)
@given(
    lens=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    tokens=st.integers(1, 200),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_replay_conserves_tokens(lens: list[int], tokens: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.random((sum(lens), 2, 10)).argsort(axis=-1)[..., :3]
    trace = Trace(ids, np.array(lens), 10, "drawn")
    drawn = resample(trace, tokens, 4, rng)
    counts = trace_counts(trace, drawn)
    assert (counts.sum(axis=-1) == 3 * tokens).all()
    assert counts.max() <= tokens
    held = data.draw(placements(2, 10))
    copies = trace_destinations(trace, drawn, held, data.draw(st.integers(1, 4)))
    for arrived in copies:
        assert arrived.max() <= tokens
        assert (arrived.sum(axis=-1) >= tokens).all()
        assert (arrived.sum(axis=-1) <= 3 * tokens).all()


@settings(max_examples=30, deadline=None)
@given(
    experts=st.integers(2, 40),
    ranks=st.integers(1, 40),
    extra=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_balanced_keeps_within_one_slot_of_even(experts: int, ranks: int, extra: int, seed: int) -> None:
    redundant = -experts % ranks + extra * ranks
    load = np.random.default_rng(seed).lognormal(size=(2, experts))
    held = placement.balanced(load, ranks, redundant)
    per_replica = load / held.replicas
    per_slot = np.take_along_axis(per_replica, held.slot_expert.reshape(2, -1), axis=1)
    of_rank = per_slot.reshape(held.slot_expert.shape).sum(axis=-1)
    # longest processing time first: no rank leads another of equal slots by more than one slot's load at each step
    assert (of_rank.max(axis=1) <= of_rank.mean(axis=1) + per_slot.max(axis=1) + 1e-9).all()
    # water filling: the busiest replica could not have been split below an expert that was split
    split = np.where(held.replicas > 1, load / np.maximum(held.replicas - 1, 1), np.inf).min(axis=1)
    assert (per_replica.max(axis=1) <= split + 1e-9).all()
