from itertools import permutations

import numpy as np
import pytest

from workloads import placement
from workloads.errors import WorkloadError
from workloads.routing.load import rank_tokens


def load_of_ranks(held: placement.Placement, load: np.ndarray) -> np.ndarray:
    return rank_tokens(load[None], held)[0]


def test_contiguous_keeps_the_order() -> None:
    held = placement.contiguous(2, 8, 4)
    assert held.slot_expert[1].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert (held.ranks, held.slots) == (4, 2)
    assert (held.replicas == 1).all()


@pytest.mark.parametrize(("experts", "ranks", "redundant"), [(256, 32, 32), (256, 288, 32), (64, 8, 0), (8, 12, 16)])
def test_every_policy_fills_equal_slots_and_keeps_every_expert(experts: int, ranks: int, redundant: int) -> None:
    rng = np.random.default_rng(0)
    load = rng.lognormal(size=(3, experts))
    for held in (
        placement.contiguous(3, experts, ranks, redundant),
        placement.random(3, experts, ranks, rng, redundant),
        placement.balanced(load, ranks, redundant),
    ):
        assert held.slot_expert.shape == (3, ranks, (experts + redundant) // ranks)
        assert (held.replicas >= 1).all()
        assert (held.replicas.sum(axis=1) == experts + redundant).all()


def test_random_draws_each_layer_afresh() -> None:
    held = placement.random(2, 64, 8, np.random.default_rng(0))
    assert not np.array_equal(held.slot_expert[0], held.slot_expert[1])


def test_the_busiest_expert_is_replicated() -> None:
    load = np.array([[1.0, 9.0, 1.0, 1.0], [1.0, 1.0, 1.0, 9.0]])
    assert placement.balanced(load, 3, 2).replicas.tolist() == [[1, 3, 1, 1], [1, 1, 1, 3]]


def test_balanced_is_near_the_best_of_all_packings() -> None:
    rng = np.random.default_rng(1)
    load = rng.lognormal(size=(20, 6))
    got = load_of_ranks(placement.balanced(load, 3), load).max(axis=1)
    orders = np.array(list(permutations(range(6))))
    best = load[:, orders].reshape(20, len(orders), 3, 2).sum(axis=-1).max(axis=-1).min(axis=1)
    assert (got >= best - 1e-12).all()
    # Graham's bound for longest processing time first on 3 machines is 4/3 - 1/9
    assert (got <= best * (4 / 3 - 1 / 9)).all()


def test_balanced_beats_random_and_contiguous() -> None:
    rng = np.random.default_rng(2)
    load = rng.lognormal(size=(10, 256))
    peak = {
        name: (load_of_ranks(held, load).max(axis=1) / (load.sum(axis=1) / 32)).mean()
        for name, held in {
            "contiguous": placement.contiguous(10, 256, 32),
            "random": placement.random(10, 256, 32, rng),
            "packed": placement.balanced(load, 32),
            "replicated": placement.balanced(load, 32, 32),
        }.items()
    }
    assert peak["replicated"] < 1.01 < peak["packed"] < peak["random"]
    assert peak["packed"] < peak["contiguous"]


@pytest.mark.parametrize(
    ("experts", "ranks", "redundant", "message"),
    [
        (256, 36, 0, r"does not fill the ranks evenly; try redundant_experts = 32, EP = 32 or 64"),
        (256, 32, 10, r"redundant_experts = 0, redundant_experts = 32"),
        (64, 72, 0, r"more ranks than expert slots; try redundant_experts = 8, EP = 64"),
        (0, 1, 0, "must be positive"),
        (8, 4, -4, "must be positive"),
    ],
)
def test_uneven_slots_are_refused_with_a_remedy(experts: int, ranks: int, redundant: int, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        placement.contiguous(1, experts, ranks, redundant)


def test_absurd_ranks_are_refused_quickly() -> None:
    with pytest.raises(WorkloadError, match="more ranks"):
        placement.contiguous(1, 256, 10**12)


@pytest.mark.parametrize(
    ("slot_expert", "message"),
    [
        (np.array([[[0, 1], [2, 4]]]), "expert 0 to 4: must be 0 to 3"),
        (np.array([[[0, -2], [2, 3]]]), "expert -2 to 3: must be 0 to 3"),
        (np.array([[[0, 1], [2, 2]]]), "expert 3 has no slot"),
        (np.array([[0.5]]), "must be integers"),
        (np.empty((0, 1, 1), dtype=int), "must be integers"),
    ],
)
def test_broken_tables_are_refused(slot_expert: np.ndarray, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        placement.Placement(slot_expert, 4)
