"""Placement policies, held-out traces, group limits and capacity as a scenario asks for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simulator.errors import UserError
from simulator.phase.routed import Routed, route
from simulator.run import run
from simulator.scenario import Routing, Scenario
from workloads.errors import WorkloadError
from workloads.models.specs import Experts
from workloads.placement import balanced
from workloads.placement_files.writers import ascend_table
from workloads.routing.load import capped
from workloads.routing.trace import Trace, write_trace

Small = Callable[..., Scenario]
EXPERTS = Experts(routed_experts=64, top_k=6, expert_ffn=1408)


def routed(tokens: int = 4096, sequences: int = 8, experts: Experts = EXPERTS, **keys: object) -> Routed:
    return route(Routing.model_validate(keys), experts, 3, 16, 8, tokens, sequences, 4, 0)


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """Two halves in time: 20 sequences that prefer some experts, then 20 that prefer others."""
    rng = np.random.default_rng(0)
    score = np.concatenate([np.tile(rng.normal(0, 1.5, 64), (1000, 3, 1)) for _ in range(2)])
    ids = np.argsort(-(score + rng.gumbel(size=score.shape)), axis=2)[..., :6]
    path = tmp_path / "recorded.npz"
    write_trace(Trace(ids, np.full(40, 50), 64, "of two halves"), path)
    return str(path)


def test_eplb_balances_better_than_order_and_keeps_groups_in_nodes() -> None:
    grouped = Experts(routed_experts=64, top_k=6, expert_ffn=1408, n_group=8, topk_group=2)
    plain = routed(experts=grouped)
    packed = routed(experts=grouped, placement="eplb", redundant_experts=16)
    assert packed.imbalance < plain.imbalance
    # two groups of eight, four groups to a node of two nodes: no token needs more than both, many need one
    spread = routed(experts=grouped, placement="balanced", redundant_experts=16)
    assert packed.copies.to_node.sum() < 0.95 * spread.copies.to_node.sum()


def test_a_placement_of_yesterday_is_worse_than_one_of_today(recorded: str) -> None:
    trace = {"kind": "trace", "trace": recorded, "placement": "balanced", "redundant_experts": 16}
    known, stale = routed(1000, 20, **trace), routed(1000, 20, holdout=0.5, **trace)
    contiguous = routed(1000, 20, kind="trace", trace=recorded, holdout=0.5)
    assert stale.imbalance > 1.2 * known.imbalance
    assert contiguous.imbalance > known.imbalance


def test_affinity_needs_a_trace(recorded: str) -> None:
    with pytest.raises(WorkloadError, match="only counts are known"):
        routed(placement="affinity")
    trace = {"kind": "trace", "trace": recorded}
    near, far = (routed(1000, 20, placement=policy, **trace) for policy in ("affinity", "balanced"))
    assert near.copies.to_node.sum() < far.copies.to_node.sum()


def test_decode_takes_a_token_of_each_sequence(recorded: str) -> None:
    """Tokens of many sequences mix the halves of the trace; whole sequences of one half do not."""
    mixed = routed(400, 400, kind="trace", trace=recorded)
    whole = routed(400, 4, kind="trace", trace=recorded)
    assert mixed.rank_tokens.sum() == whole.rank_tokens.sum() == 4 * 3 * 400 * 6
    assert mixed.imbalance < whole.imbalance
    assert (mixed.copies.to_rank <= mixed.rank_tokens + 1e-9).all()


def test_fewer_groups_per_token_reach_fewer_nodes() -> None:
    free, limited = routed(), routed(groups=8, groups_per_token=1)
    # four groups of eight experts to a node: one group is on one node
    assert limited.copies.to_node.sum() == pytest.approx(4096 * 3 * 4, rel=0.02)
    assert free.copies.to_node.sum() > 1.8 * 4096 * 3 * 4
    assert limited.rank_tokens.sum() == free.rank_tokens.sum()


def test_capacity_drops_what_is_above_it() -> None:
    counts = np.array([[[10, 1, 0, 1]]])
    assert capped(counts, 1.0).tolist() == [[[3, 1, 0, 1]]]
    assert capped(counts, 1.1).tolist() == [[[4, 1, 0, 1]]]
    assert capped(counts, 4.0).tolist() == counts.tolist()
    free, tight = routed(), routed(capacity_factor=1.25)
    assert tight.slot_tokens.max() == np.ceil(1.25 * 4096 * 6 / 64)
    assert free.dropped == 0 < tight.dropped < 0.5
    assert tight.slot_tokens.sum() == pytest.approx((1 - tight.dropped) * free.slot_tokens.sum())
    assert (tight.copies.to_rank <= free.copies.to_rank + 1e-9).all()
    assert (tight.copies.to_rank <= tight.rank_tokens + 1e-9).all()
    roomy = routed(capacity_factor=64.0)
    assert roomy.dropped == 0
    assert np.array_equal(roomy.copies.to_node, free.copies.to_node)


def test_a_run_says_what_was_asked(small: Small) -> None:
    result = run(small("decode", "routing.capacity_factor=1.5", "routing.groups=8", "routing.groups_per_token=3"))
    said = " ".join(result.assumptions)
    assert "capacity factor 1.5" in said
    assert "a token may use 3 of 8 expert groups" in said
    free = run(small("decode"))
    assert result.step_s < free.step_s


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"groups": 7}, "routing.groups = 7: does not divide 64"),
        ({"groups": 32, "groups_per_token": 2}, "hold 4 experts, a token uses 6"),
        ({"groups": 8, "groups_per_token": 9}, "more than the 8 groups"),
        ({"groups": 8, "groups_per_token": 2, "kind": "trace", "trace": "x.npz"}, "what its router chose"),
    ],
)
def test_limits_that_can_not_be_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        routed(**keys)


def test_holdout_needs_a_trace(small: Small) -> None:
    with pytest.raises(UserError, match=r"routing\.holdout = 0\.5: routing\.kind = 'fitted' has no trace"):
        run(small("decode", "routing.holdout=0.5"))


def test_drift_makes_a_placement_stale() -> None:
    keys = {"placement": "balanced", "redundant_experts": 16}
    imbalance = [routed(drift=drift, **keys).imbalance for drift in (0.0, 0.2, 0.6)]
    assert imbalance[0] < imbalance[1] < imbalance[2]
    # placed anew within the interval, load is on average half as stale
    often = routed(drift=0.6, rebalance_interval=10, **keys)
    assert imbalance[0] < often.imbalance < imbalance[2]
    assert 0 < often.moved < 3 * 5  # layers x slots


def test_nothing_moves_without_drift() -> None:
    assert routed(placement="eplb", rebalance_interval=10).moved == 0


@pytest.mark.parametrize("phase", ["training", "prefill", "decode"])
def test_rebalancing_costs_what_it_moves(small: Small, phase: str) -> None:
    keys = ("routing.placement=balanced", "routing.drift=0.5")
    seldom, often = (run(small(phase, *keys, f"routing.rebalance_interval={n}")) for n in (10**6, 10))
    added = often.breakdown_s["overhead"] - seldom.breakdown_s["overhead"]
    assert often.step_s - seldom.step_s == pytest.approx(added)
    assert added > 0
    assert any("one rank fetches" in note for note in often.assumptions)


def test_a_trace_of_two_halves_moves_experts(recorded: str) -> None:
    keys = {"kind": "trace", "trace": recorded, "placement": "affinity", "rebalance_interval": 10}
    assert routed(1000, 20, holdout=0.5, **keys).moved > routed(1000, 20, **keys).moved == 0


def test_bias_balancing_takes_away_the_common_skew() -> None:
    free = routed(mix="law")
    trained = routed(mix="law", balancing="bias", bias_update_speed=0.01, bias_steps=1000)
    mixed = routed(mix="mixed", balancing="bias", bias_update_speed=0.01, bias_steps=1000)
    assert routed(mix="law", balancing="bias", bias_steps=0).imbalance == pytest.approx(free.imbalance, rel=0.01)
    assert mixed.imbalance < free.imbalance
    assert trained.imbalance < free.imbalance


def test_bias_is_told(small: Small) -> None:
    said = " ".join(run(small("decode", "routing.balancing=bias")).assumptions)
    assert "what-if: bias of 0.001 in" in said


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("routing.drift=0.5", "does not drift"),
        ("routing.balancing=bias", "no weights that a bias could shift"),
        ("routing.rebalance_interval=5", "does not look at the load"),
    ],
)
def test_what_balanced_routing_does_not_have_is_refused(small: Small, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(small("decode", "routing.kind=balanced", setting))


def test_a_placement_made_elsewhere_is_used(small: Small, tmp_path: Path) -> None:
    load = np.random.default_rng(0).lognormal(size=(3, 64))
    made = balanced(load, 16, 16)
    path = tmp_path / "ours.json"
    path.write_bytes(ascend_table(made))
    found = routed(placement_file=str(path))
    assert found.slot_tokens.shape == (4, 3, 16, 5)
    held = [found.slot_tokens[:, :, rank] for rank in range(16)]
    counts = routed().slot_tokens.reshape(4, 3, 64)  # in order, one slot each
    for rank, tokens in enumerate(held):
        share = np.take_along_axis(counts / made.replicas, made.slot_expert[None, :, rank].repeat(4, axis=0), axis=2)
        assert tokens == pytest.approx(share)
    result = run(small("decode", f"routing.placement_file={path}"))
    assert any(f"placement of {path}" in note for note in result.assumptions)
    with pytest.raises(UserError, match="64 experts on 16 ranks; the scenario has 3 MoE layers of 64 on 8 ranks"):
        run(small("decode", f"routing.placement_file={path}", "plan.expert=8"))
    with pytest.raises(UserError, match="says where all replicas are"):
        run(small("decode", f"routing.placement_file={path}", "routing.redundant_experts=16"))
    with pytest.raises(WorkloadError, match=r"nowhere\.json"):
        run(small("decode", "routing.placement_file=nowhere.json"))
