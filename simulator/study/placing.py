"""How good placements of experts are, on tokens that they were not made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from workloads.placement import Placement, Policy, Together, place, used_together
from workloads.routing.destinations import destinations
from workloads.routing.load import rank_tokens
from workloads.routing.trace import Trace
from workloads.traffic import held_out, own_sequences, tokens_per_expert, traffic

Floats = NDArray[np.float64]
BATCHES = 8
ALWAYS: tuple[Policy, ...] = ("contiguous", "random")


@dataclass(frozen=True, slots=True)
class Group:
    """The expert-parallel group that experts are placed on.

    Parameters
    ----------
    ranks, redundant
        Ranks, and slots beyond one per expert.
    ranks_per_node
        Consecutive ranks that form a node; the last may be smaller.
    groups
        Groups of consecutive experts that the router's limit counts; 1 for none.
    """

    ranks: int
    redundant: int
    ranks_per_node: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """One placement and what it does.

    Parameters
    ----------
    name
        The policy, or 'file' for a placement that was given.
    rank_load
        ``[layers, ranks]`` load over the mean on held-out tokens, averaged over batches.
    fitted_imbalance
        Busiest rank over the mean, averaged over layers, on the tokens that the placement was made from.
    imbalance, worst_imbalance
        The same on held-out batches: average over layers and batches, and the worst layer's average.
    ranks_per_token, nodes_per_token
        Ranks and nodes that a token's experts are on, averaged over layers and held-out tokens; NaN where it is
        not known how many experts a token uses.
    """

    name: str
    placement: Placement
    rank_load: Floats
    fitted_imbalance: float
    imbalance: float
    worst_imbalance: float
    ranks_per_token: float
    nodes_per_token: float


def judge_trace(
    trace: Trace,
    group: Group,
    policies: Sequence[Policy],
    *,
    holdout: float,
    in_time: bool,
    tokens_per_rank: int,
    seed: int,
    given: Placement | None = None,
) -> list[Judged]:
    """Place by one part of a trace's sequences and judge by the other; contiguous and random come first.

    Parameters
    ----------
    trace
        Recorded routing.
    policies
        Policies to judge besides.
    holdout
        Share of the tokens that placements are judged on.
    in_time
        Hold out the last sequences, so that drift counts; otherwise every so many.
    tokens_per_rank
        Tokens that each rank brings to a batch, from sequences of its own.
    seed
        Of the random placement and the batches.
    given
        Another placement to judge.

    Raises
    ------
    UserError, WorkloadError
        If the trace can't be split, or the group does not suit it.
    """
    seen, held = held_out(trace, holdout, in_time)
    load = tokens_per_expert(seen.experts, trace.routed_experts).astype(np.float64)
    together = used_together(seen.experts, trace.routed_experts) if "affinity" in policies else None
    rows = own_sequences(held, group.ranks, tokens_per_rank, held.tokens, BATCHES, np.random.default_rng([seed, 0]))
    batches = held.experts[rows.reshape(BATCHES, -1)]

    def copies(placement: Placement) -> tuple[Floats, float, float]:
        one = np.array([batches.shape[1]])
        found = [traffic(batch, one, placement, group.ranks_per_node) for batch in batches]
        per_token = [
            float(np.mean([getattr(each, name).sum() / one[0] / trace.moe_layers for each in found]))
            for name in ("to_rank", "to_node")
        ]
        return np.stack([each.routes[:, 0] for each in found]).astype(np.float64), per_token[0], per_token[1]

    return [
        _judged(name, placement, load, *copies(placement))
        for name, placement in _placed(load, group, policies, seed, together, given)
    ]


def judge_counts(
    counts: NDArray[Any],
    top_k: int,
    group: Group,
    policies: Sequence[Policy],
    *,
    holdout: float,
    seed: int,
    given: Placement | None = None,
) -> list[Judged]:
    """Place by the first steps of coarse counts and judge by the last; contiguous and random come first.

    What tokens use together is not known: nodes and ranks per token are estimated from independent experts.

    Parameters
    ----------
    counts
        ``[steps, layers, experts]`` tokens per expert.
    top_k
        Experts per token, 0 if not known.
    policies, holdout, seed, given
        As in `judge_trace`.

    Raises
    ------
    UserError, WorkloadError
        If there are fewer than two steps, or the group does not suit the counts.
    """
    steps = len(counts)
    first = round(steps * (1 - holdout))
    if not 0 < first < steps:
        raise UserError(
            f"--holdout {holdout:g}: of {steps} steps leaves none to place or to judge by; record more, or change it"
        )
    seen, held = counts[:first].sum(axis=0).astype(np.float64), counts[first:].astype(np.float64)
    routes = float(held.sum(axis=-1).mean())
    tokens = routes / max(top_k, 1)
    held = held * (routes / np.maximum(held.sum(axis=-1, keepdims=True), 1.0))

    def copies(placement: Placement) -> tuple[Floats, float, float]:
        if not top_k:
            return rank_tokens(held, placement), float("nan"), float("nan")
        found = destinations(np.minimum(held, tokens), placement, max(1, round(tokens)), group.ranks_per_node)
        per_token = [float(each.sum(axis=-1).mean() / tokens) for each in found]
        return rank_tokens(held, placement), per_token[0], per_token[1]

    return [
        _judged(name, placement, seen, *copies(placement))
        for name, placement in _placed(seen, group, policies, seed, None, given)
    ]


def _placed(
    load: Floats,
    group: Group,
    policies: Sequence[Policy],
    seed: int,
    together: Together | None,
    given: Placement | None,
) -> list[tuple[str, Placement]]:
    wanted = [*ALWAYS, *(policy for policy in policies if policy not in ALWAYS)]
    made: list[tuple[str, Placement]] = [
        (
            policy,
            place(
                policy,
                load,
                group.ranks,
                group.redundant,
                group.ranks_per_node,
                np.random.default_rng([seed, 1]),
                groups=group.groups,
                together=together,
            ),
        )
        for policy in wanted
    ]
    if given is None:
        return made
    if (len(given.slot_expert), given.ranks, given.experts) != (len(load), group.ranks, load.shape[1]):
        raise UserError(
            f"--placement: {len(given.slot_expert)} layers of {given.experts} experts on {given.ranks} ranks: the "
            f"trace has {len(load)} layers of {load.shape[1]}, and --ranks is {group.ranks}"
        )
    return [*made, ("file", given)]


def _judged(
    name: str, placement: Placement, load: Floats, ranks: Floats, ranks_per_token: float, nodes_per_token: float
) -> Judged:
    relative = ranks / np.maximum(ranks.mean(axis=-1, keepdims=True), 1e-300)
    own = rank_tokens(load[None], placement)[0]
    busiest = relative.max(axis=-1)
    return Judged(
        name,
        placement,
        relative.mean(axis=0),
        float((own.max(axis=-1) / np.maximum(own.mean(axis=-1), 1e-300)).mean()),
        float(busiest.mean()),
        float(busiest.mean(axis=0).max()),
        ranks_per_token,
        nodes_per_token,
    )
