"""Placements made anew from the load before."""

import numpy as np
import pytest

from simulator.errors import UserError
from simulator.study.placing import Group
from simulator.study.rebalancing import rebalanced

GROUP = Group(ranks=8, redundant=8, ranks_per_node=4)


def moving(half: int) -> np.ndarray:
    """40 batches of 2 layers x 32 experts; the load is another one after `half` batches."""
    rng = np.random.default_rng(0)
    load = [rng.lognormal(sigma=1.5, size=(2, 32)) * 1000 for _ in range(2)]
    return np.stack([load[batch >= half] for batch in range(40)]).round().astype(np.int64)


def test_a_load_that_stays_needs_one_placement() -> None:
    found = {row.name: row for row in rebalanced(moving(40), GROUP, "balanced", [2, 8])}
    once = found["balanced, once"].imbalance
    assert once < found["contiguous"].imbalance
    for name in ("balanced, every 2", "balanced, every 8", "balanced, knowing each batch"):
        assert found[name].imbalance == pytest.approx(once)
    assert found["balanced, every 2"].moved_experts == 0


def test_a_load_that_moves_is_followed_the_sooner_the_oftener() -> None:
    found = {row.name: row for row in rebalanced(moving(20), GROUP, "balanced", [2, 8])}
    imbalance = [found[f"balanced, {how}"].imbalance for how in ("knowing each batch", "every 2", "every 8", "once")]
    assert imbalance == sorted(imbalance)
    assert imbalance[0] < 0.9 * imbalance[3]
    # at most all slots of a rank, in both layers, and only when the load moves
    for every in (2, 8):
        moved = found[f"balanced, every {every}"].moved_experts
        assert moved is not None
        assert 0 < moved < 2 * 5


def test_too_few_batches_are_refused() -> None:
    with pytest.raises(UserError, match="--every 39: of 40 batches"):
        rebalanced(moving(20), GROUP, "balanced", [39])
