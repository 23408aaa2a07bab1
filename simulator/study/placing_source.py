"""What placements are judged on: a trace of tokens, recorded counts, or routing drawn from statistics."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError
from simulator.phase.statistics import statistics_file
from simulator.study.placing import BATCHES, Group, Judged, judge_counts, judge_trace
from simulator.study.rebalancing import Rebalanced, rebalanced
from workloads.models import load_model
from workloads.models.specs import Experts
from workloads.placement import Placement, Policy
from workloads.placement_files.readers import read_placement
from workloads.routing.counts import CountTrace, read_recorded
from workloads.routing.files import trace_file
from workloads.routing.load import sample_counts
from workloads.routing.measures import batch_load
from workloads.routing.popularity import popularity
from workloads.routing.spec import RoutingStatistics, load_statistics
from workloads.routing.trace import Trace

Counts = NDArray[np.int64]
DRAWN_STEPS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """How to judge.

    Parameters
    ----------
    policies
        Policies besides contiguous and random; none for all that suit the input.
    every
        Numbers of batches between placements, for the study of re-balancing.
    placement
        File of another placement to judge.
    model
        Model that routing is drawn for from statistics; None for the recorded one.
    dense_layers
        Layers without experts in front that its file may count, as SGLang's does.
    holdout, in_time, tokens_per_rank, seed
        As in `simulator.study.placing.judge_trace`.
    """

    policies: tuple[Policy, ...]
    every: tuple[int, ...]
    placement: str | None
    model: str | None
    holdout: float
    in_time: bool
    tokens_per_rank: int
    seed: int
    dense_layers: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Placements judged, placements made anew, and remarks on how."""

    placements: list[Judged]
    rebalanced: list[Rebalanced]
    remarks: list[str]


def judge(name: str, group: Group, asked: Asked) -> Answer:
    """Judge placements on recorded routing, or on routing drawn from statistics, and say what was done.

    Parameters
    ----------
    name
        Native trace (npz or Parquet, tokens or counts) or a shipped one's name, or routing statistics: a shipped name
        or a TOML file.

    Raises
    ------
    UserError, WorkloadError
        If a file or the group can't be used.
    """
    suited: tuple[Policy, ...] = ("balanced", "eplb") if group.groups > 1 else ("balanced",)
    if trace_file(name).is_file() and Path(name).suffix != ".toml":
        if asked.model is not None:
            raise UserError(
                f"--model {asked.model}: a trace is of its own model; leave it out, or draw from statistics"
            )
        recorded = read_recorded(name)
        if isinstance(recorded, Trace):
            suited += ("affinity",) if group.ranks % group.ranks_per_node == 0 else ()
            return _by_tokens(recorded, group, replace(asked, policies=asked.policies or suited))
        return _by_steps(recorded, group, replace(asked, policies=asked.policies or suited))
    statistics = load_statistics(statistics_file(name))
    experts, layers = _model(asked.model, statistics)
    counts = _drawn_counts(statistics, experts, layers, asked, group.ranks * asked.tokens_per_rank)
    of = f", for {asked.model}" if asked.model else ""
    remark = f"drawn from statistics of {statistics.model}{of}: {DRAWN_STEPS} batches of all its tasks"
    return _by_counts(counts, experts.top_k, group, replace(asked, policies=asked.policies or suited), remark)


def _by_tokens(trace: Trace, group: Group, asked: Asked) -> Answer:
    found = judge_trace(
        trace,
        group,
        asked.policies,
        holdout=asked.holdout,
        in_time=asked.in_time,
        tokens_per_rank=asked.tokens_per_rank,
        seed=asked.seed,
        given=_given(asked, group, trace.moe_layers),
    )
    tokens = group.ranks * asked.tokens_per_rank
    kept = "the last" if asked.in_time else "other"
    remarks = [
        f"judged on {kept} sequences of {trace.model}, {asked.holdout:.0%} of all: {BATCHES} batches of {tokens:,} "
        "tokens"
    ]
    if not asked.every:
        return Answer(found, [], remarks)
    load = batch_load(trace, tokens)
    remarks.append(f"placed anew: {len(load)} batches of {tokens:,} tokens in the order of the trace")
    return Answer(found, _again(load, group, asked), remarks)


def _by_steps(recorded: CountTrace, group: Group, asked: Asked) -> Answer:
    if not recorded.in_order and (asked.every or asked.in_time):
        raise UserError("--every, --in-time: the steps of this recording are in no order of time; leave them out")
    remark = f"judged on the last {asked.holdout:.0%} of {recorded.steps} recorded steps of {recorded.model}"
    return _by_counts(recorded.counts, recorded.top_k, group, asked, remark)


def _by_counts(counts: NDArray[Any], top_k: int, group: Group, asked: Asked, remark: str) -> Answer:
    found = judge_counts(
        counts,
        top_k,
        group,
        asked.policies,
        holdout=asked.holdout,
        seed=asked.seed,
        given=_given(asked, group, counts.shape[1]),
    )
    independent = "which experts a token uses together is not known: ranks and nodes per token take them as independent"
    return Answer(found, _again(counts, group, asked) if asked.every else [], [remark, independent])


def _given(asked: Asked, group: Group, moe_layers: int) -> Placement | None:
    """Return the placement of the MoE layers alone, if one is given."""
    if asked.placement is None:
        return None
    found = read_placement(asked.placement, group.ranks)
    if len(found.slot_expert) == moe_layers + asked.dense_layers:
        return Placement(found.slot_expert[asked.dense_layers :], found.experts)
    return found


def _again(load: NDArray[Any], group: Group, asked: Asked) -> list[Rebalanced]:
    """Study re-balancing with the first policy that looks at the load alone."""
    usable = [policy for policy in asked.policies if policy in {"balanced", "eplb"}]
    if not usable:
        raise UserError("--every: needs a policy that looks at the load alone; add --policy balanced")
    return rebalanced(load, group, usable[0], asked.every)


def _drawn_counts(statistics: RoutingStatistics, experts: Experts, layers: int, asked: Asked, tokens: int) -> Counts:
    """Return ``[steps, layers, experts]`` tokens per expert, all tasks in equal parts."""
    model = popularity(
        statistics,
        layers,
        experts.routed_experts,
        experts.top_k,
        np.random.default_rng([asked.seed, 2]),
        n_group=experts.n_group,
        topk_group=experts.topk_group,
    )
    sequences = max(1, round(tokens * statistics.sequences / statistics.tokens))
    return sample_counts(model, tokens, sequences, DRAWN_STEPS, np.random.default_rng([asked.seed, 3]))


def _model(name: str | None, statistics: RoutingStatistics) -> tuple[Experts, int]:
    """Return the experts and MoE layers of the model that is placed: the recorded one if none is named."""
    if name is None:
        recorded = Experts(routed_experts=statistics.experts, top_k=statistics.top_k, expert_ffn=1)
        return recorded, statistics.layers
    found = load_model(name)
    if found.experts is None:
        raise UserError(f"--model {name}: has no routed experts to place")
    return found.experts, found.moe_layers
