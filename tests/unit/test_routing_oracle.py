"""Closed forms of inclusion and of de-duplicated copies against tokens drawn one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads import placement
from workloads.routing.destinations import destinations
from workloads.routing.inclusion import inclusion

TOKENS = 20_000
SHAPES = [(64, 6, 1, 1), (256, 8, 1, 1), (256, 8, 8, 4), (160, 6, 8, 3)]


def draw_tokens(
    log_weight: NDArray[np.float64], top_k: int, n_group: int, topk_group: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Gumbel top-k, within the groups of the highest single score."""
    score = log_weight + rng.gumbel(size=(TOKENS, log_weight.size))
    if topk_group < n_group:
        best = score.reshape(TOKENS, n_group, -1).max(axis=2)
        least = np.sort(best, axis=1)[:, -topk_group]
        score = np.where(np.repeat(best >= least[:, None], log_weight.size // n_group, axis=1), score, -np.inf)
    return np.argpartition(-score, top_k - 1, axis=1)[:, :top_k]


def reached(chosen: NDArray[np.int64], place: NDArray[np.int64], places: int) -> NDArray[np.float64]:
    hit = np.zeros((TOKENS, places), dtype=bool)
    np.put_along_axis(hit, place[chosen], True, axis=1)
    return np.asarray(hit.mean(axis=0))


@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.2])
@pytest.mark.parametrize(("experts", "top_k", "n_group", "topk_group"), SHAPES)
def test_inclusion_is_that_of_drawn_tokens(
    experts: int, top_k: int, n_group: int, topk_group: int, sigma: float
) -> None:
    rng = np.random.default_rng(7)
    log_weight = sigma * rng.standard_normal(experts)
    drawn = np.bincount(draw_tokens(log_weight, top_k, n_group, topk_group, rng).ravel(), minlength=experts) / TOKENS
    chance = inclusion(log_weight[None], np.ones(1), top_k, n_group, topk_group)[0]
    assert chance.sum() == pytest.approx(top_k)
    noise = np.sqrt(drawn * (1 - drawn) / TOKENS)
    # Poissonisation is good to 3 % of an expert's chance; the rest is sampling
    assert (np.abs(chance - drawn) <= 0.03 * chance + 5 * noise + 1e-4).all()


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.2])
@pytest.mark.parametrize(("experts", "top_k", "n_group", "topk_group"), SHAPES)
def test_copies_are_those_of_drawn_tokens(
    experts: int, top_k: int, n_group: int, topk_group: int, sigma: float, scattered: bool
) -> None:
    rng = np.random.default_rng(11)
    chosen = draw_tokens(sigma * rng.standard_normal(experts), top_k, n_group, topk_group, rng)
    counts = np.bincount(chosen.ravel(), minlength=experts).reshape(1, 1, -1)
    mean_error, worst_error = (0.045, 0.10) if n_group > topk_group else (0.01, 0.04)
    if sigma == 0 and n_group == 1:
        mean_error, worst_error = 0.002, 0.015
    for ranks in (2, 8, 32):
        held = placement.random(1, experts, ranks, rng) if scattered else placement.contiguous(1, experts, ranks)
        rank = np.empty(experts, dtype=np.int64)
        rank[held.slot_expert[0].ravel()] = np.repeat(np.arange(ranks), held.slots)
        copies = destinations(counts, held, TOKENS, 2, n_group=n_group, topk_group=topk_group)
        for got, place, places in ((copies.to_rank, rank, ranks), (copies.to_node, rank // 2, ranks // 2)):
            true = reached(chosen, place, places)
            assert got[0, 0].sum() / TOKENS == pytest.approx(true.sum(), rel=mean_error)
            assert got[0, 0] / TOKENS == pytest.approx(true, rel=worst_error)


def test_a_token_reaches_no_more_nodes_than_its_groups() -> None:
    counts = np.full((1, 1, 256), 8 * 4096 // 256)
    copies = destinations(counts, placement.contiguous(1, 256, 64), 4096, 8, n_group=8, topk_group=4)
    assert copies.to_node.sum() == pytest.approx(4 * 4096, rel=1e-3)
