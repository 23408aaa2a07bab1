import time

import numpy as np
import pytest

from workloads import placement
from workloads.errors import WorkloadError
from workloads.routing.destinations import destinations
from workloads.routing.inclusion import inclusion
from workloads.routing.load import balanced_counts, rank_tokens, sample_counts, slot_tokens
from workloads.routing.popularity import popularity
from workloads.routing.preferences import at_depth
from workloads.routing.spec import RoutingStatistics, load_statistics


@pytest.fixture(scope="module")
def statistics() -> RoutingStatistics:
    return load_statistics()


def test_chances_sum_to_top_k_for_every_task_and_layer(statistics: RoutingStatistics) -> None:
    model = popularity(statistics, 12, 128, 8, np.random.default_rng(0))
    assert model.mean.shape == (4, 12, 128)
    assert model.mean.sum(axis=-1) == pytest.approx(np.full((4, 12), 8))
    assert model.top_k == 8


def test_strength_goes_from_uniform_to_collapsed(statistics: RoutingStatistics) -> None:
    peaks = [
        popularity(statistics, 8, 64, 6, np.random.default_rng(0), strength=strength).expected.max()
        for strength in (0, 0.5, 1, 2, 10)
    ]
    assert peaks[0] == pytest.approx(6 / 64)
    assert peaks == sorted(peaks)


def test_preferences_do_not_depend_on_the_mix(statistics: RoutingStatistics) -> None:
    mixed = popularity(statistics, 8, 64, 6, np.random.default_rng(3))
    law = popularity(statistics, 8, 64, 6, np.random.default_rng(3), mix="law")
    assert law.tasks == ("law",)
    assert np.array_equal(law.mean[0], mixed.mean[mixed.tasks.index("law")])


def test_all_experts_in_use_when_top_k_is_all() -> None:
    assert (inclusion(np.arange(4.0)[None], np.ones(1), 4) == 1).all()


def test_depth_profile_is_taken_over_by_relative_depth(statistics: RoutingStatistics) -> None:
    profile = np.array(statistics.depth_profile)
    assert at_depth(statistics.depth_profile, 5) == pytest.approx(profile)
    assert at_depth(statistics.depth_profile, 61)[[0, 15, 30, 45, 60]] == pytest.approx(profile)
    assert at_depth(statistics.depth_profile, 1) == pytest.approx(profile[2:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mix": "poetry"}, "routing.mix: 'poetry'"),
        ({"strength": -1.0}, "routing.strength: -1.0"),
        ({"strength": float("nan")}, "routing.strength: nan"),
        ({"n_group": 7, "topk_group": 2}, "routing.n_group: 7"),
        ({"n_group": 32, "topk_group": 2}, "routing.top_k: 6: more than the 4"),
    ],
)
def test_contradictions_are_refused(
    statistics: RoutingStatistics, change: dict[str, str | float | int], message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        popularity(statistics, 2, 64, 6, np.random.default_rng(0), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(("tokens", "sequences"), [(1, 1), (3, 2), (64, 64), (8192, 1), (8192, 40), (1 << 20, 256)])
@pytest.mark.parametrize("strength", [0, 1, 5])
def test_tokens_are_conserved(statistics: RoutingStatistics, tokens: int, sequences: int, strength: float) -> None:
    rng = np.random.default_rng(1)
    model = popularity(statistics, 4, 64, 6, rng, strength=strength)
    counts = sample_counts(model, tokens, sequences, 5, rng)
    assert counts.dtype == np.int64
    assert (counts.sum(axis=-1) == 6 * tokens).all()
    assert counts.min() >= 0
    assert counts.max() <= tokens


def test_counts_have_the_expected_mean_and_the_binomial_noise_of_uniform_routing(statistics: RoutingStatistics) -> None:
    rng = np.random.default_rng(2)
    alone = statistics.model_copy(update={"persistence": (0.0,)})
    model = popularity(alone, 2, 64, 6, rng, strength=0)
    counts = sample_counts(model, 1000, 10, 4000, rng)
    assert counts.mean(axis=0) == pytest.approx(np.full((2, 64), 93.75), rel=0.02)
    # 1000 x p x (1 - p), less what the fixed sum takes away (1 / 64)
    assert counts.var(axis=0).mean() == pytest.approx(1000 * 0.09375 * 0.90625 * 63 / 64, rel=0.05)


def test_sequences_average_out(statistics: RoutingStatistics) -> None:
    rng = np.random.default_rng(3)
    model = popularity(statistics, 4, 64, 6, rng, mix="law")
    noise = {n: sample_counts(model, 100_000, n, 200, rng).var(axis=0).mean() for n in (4, 40, 100_000)}
    expected = {n: (1e10 * model.variance / n + 1e5 * model.mean * (1 - model.mean)).mean() for n in noise}
    for sequences, variance in noise.items():
        assert variance == pytest.approx(expected[sequences], rel=0.15)


def test_one_sequence_belongs_to_one_task(statistics: RoutingStatistics) -> None:
    rng = np.random.default_rng(4)
    model = popularity(statistics, 1, 64, 6, rng)
    counts = sample_counts(model, 100_000, 1, 40, rng)[:, 0] / 100_000
    likeness = np.asarray(np.corrcoef(np.vstack([counts, model.mean[:, 0]])))[:40, 40:]
    assert (np.sort(likeness, axis=1)[:, -1] > 0.9).all()


def test_same_seed_same_counts(statistics: RoutingStatistics) -> None:
    def run() -> np.ndarray:
        rng = np.random.default_rng(5)
        return sample_counts(popularity(statistics, 3, 64, 6, rng), 500, 5, 2, rng)

    assert np.array_equal(run(), run())


@pytest.mark.parametrize(("tokens", "sequences", "batches"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 3, 1)])
def test_empty_batches_are_refused(statistics: RoutingStatistics, tokens: int, sequences: int, batches: int) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(WorkloadError, match="each must be at least 1"):
        sample_counts(popularity(statistics, 1, 64, 6, rng), tokens, sequences, batches, rng)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(1, 256, 8), (4096, 256, 8), (1000, 60, 4), (7, 5, 5)])
def test_force_balanced_counts_differ_by_at_most_one(tokens: int, experts: int, top_k: int) -> None:
    counts = balanced_counts(tokens, 3, experts, top_k, batches=2)
    assert counts.shape == (2, 3, experts)
    assert (counts.sum(axis=-1) == tokens * top_k).all()
    assert np.ptp(counts, axis=-1).max() <= 1


def test_replicas_share_an_experts_tokens() -> None:
    held = placement.Placement(np.array([[[0, 1], [2, 0]]]), 3)
    counts = np.array([[[10, 4, 6]]])
    assert slot_tokens(counts, held)[0, 0].tolist() == [[5, 4], [6, 5]]
    assert rank_tokens(counts, held)[0, 0].tolist() == [9, 11]


def test_copies_with_one_expert_per_rank_are_its_tokens(statistics: RoutingStatistics) -> None:
    rng = np.random.default_rng(6)
    counts = sample_counts(popularity(statistics, 2, 64, 6, rng), 512, 8, 2, rng)
    copies = destinations(counts, placement.contiguous(2, 64, 64), 512, 64)
    assert copies.to_rank == pytest.approx(counts)
    assert copies.to_node == pytest.approx(np.full((2, 2, 1), 512))


def test_replicas_in_one_node_do_not_double_the_copies() -> None:
    counts = np.array([[[50, 10, 10, 10]]])
    held = placement.Placement(np.array([[[0, 1], [0, 2], [3, 0]]]), 4)
    assert destinations(counts, held, 100, 1).to_rank[0, 0].max() < 30
    alone = placement.Placement(np.array([[[0, 1, 2], [3, 0, 0]]]), 4)
    twice = destinations(counts, alone, 100, 1).to_rank[0, 0]
    assert twice[1] >= 100 / 3 - 1e-9
    assert twice[1] <= 100 / 3 + 10


def test_group_limit_copes_with_unused_groups() -> None:
    counts = np.zeros((1, 1, 16), dtype=np.int64)
    counts[..., [0, 1, 4, 5]] = 100
    copies = destinations(counts, placement.contiguous(1, 16, 4), 100, 1, n_group=4, topk_group=2)
    assert copies.to_rank[0, 0].tolist() == pytest.approx([100, 100, 0, 0])


def test_ranks_per_node_must_be_positive() -> None:
    with pytest.raises(WorkloadError, match="ranks_per_node 0"):
        destinations(balanced_counts(8, 1, 8, 2), placement.contiguous(1, 8, 4), 8, 0)


def test_a_training_step_of_deepseek_v3_is_drawn_in_time(statistics: RoutingStatistics) -> None:
    def seconds(batches: int) -> float:
        rng = np.random.default_rng(0)
        model = popularity(statistics, 58, 256, 8, rng, n_group=8, topk_group=4)
        start = time.process_time()
        sample_counts(model, 8192, 8, batches, rng)
        return time.process_time() - start

    assert min(seconds(120) for _ in range(3)) < 0.6
    assert min(seconds(1) for _ in range(3)) < 0.02
