"""Placements made anew from the load of some time ago, and what moving the experts takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.study.placing import Group
from workloads.placement import Placement, Policy, aligned, contiguous, fetched, place
from workloads.routing.load import rank_tokens

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """How even the load of ranks is under one way to re-balance.

    Parameters
    ----------
    name
        What was done.
    every
        Batches between placements; None where there is but one, or one for each batch.
    imbalance
        Busiest rank over the mean, averaged over layers and batches.
    moved_experts
        Experts of all layers that the rank which fetches most is sent at a re-balancing, on average; None where
        nothing moves.
    """

    name: str
    every: int | None
    imbalance: float
    moved_experts: float | None


def rebalanced(load: NDArray[Any], group: Group, policy: Policy, every: Sequence[int]) -> list[Rebalanced]:
    """Serve batches one after another, with experts placed anew by the batches before.

    All ways are judged on the same batches: those after as many as the longest interval has. Beside them stand experts
    in order, experts placed once, by the batches before the judged ones, and, as a bound that no one can reach, experts
    placed by each batch itself.

    Parameters
    ----------
    load
        ``[batches, layers, experts]`` tokens per expert, in order of time.
    policy
        How experts are placed; one that looks at the load alone.
    every
        Numbers of batches between placements; each placement sees as many batches before it.

    Raises
    ------
    UserError, WorkloadError
        If there are too few batches, or the group does not suit them.
    """
    warm = max(every)
    if len(load) < warm + 2:
        raise UserError(
            f"--every {warm}: of {len(load)} batches leaves none to judge by; use smaller batches (--tokens-per-rank) "
            "or a smaller number"
        )
    judged = load[warm:].astype(np.float64)

    def made(seen: Floats) -> Placement:
        rng = np.random.default_rng(0)
        return place(policy, seen, group.ranks, group.redundant, group.ranks_per_node, rng, groups=group.groups)

    nodes = max(1, group.ranks // group.ranks_per_node) if policy == "eplb" else 1
    layers, experts = load.shape[1:]
    in_order = contiguous(layers, experts, group.ranks, group.redundant)
    once = made(load[:warm].sum(axis=0).astype(np.float64))
    found = [
        Rebalanced("contiguous", None, _imbalance(judged, in_order), None),
        Rebalanced(f"{policy}, once", None, _imbalance(judged, once), None),
    ]
    for interval in every:
        now, moved, ratios = once, [], []
        for start in range(0, len(judged), interval):
            seen = load[warm + start - interval : warm + start].sum(axis=0).astype(np.float64)
            new = aligned(now, made(seen), nodes)
            moved.append(int(fetched(now, new).sum(axis=0).max()))
            now = new
            part = judged[start : start + interval]
            ratios.append(_imbalance(part, now) * len(part))
        known = float(np.mean(moved[1:])) if len(moved) > 1 else float(moved[0])
        found.append(Rebalanced(f"{policy}, every {interval:,}", interval, sum(ratios) / len(judged), known))
    ideal = float(np.mean([_imbalance(batch[None], made(batch)) for batch in judged]))
    return [*found, Rebalanced(f"{policy}, knowing each batch", None, ideal, None)]


def _imbalance(load: Floats, placement: Placement) -> float:
    ranks = rank_tokens(load, placement)
    return float((ranks.max(axis=-1) / np.maximum(ranks.mean(axis=-1), 1e-300)).mean())
