"""Bytes between ranks and nodes of one batch of recorded tokens under a placement."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.cost.expert_parallel import token_bytes
from simulator.errors import UserError
from simulator.study.placing import Group
from workloads.errors import WorkloadError
from workloads.models import load_model
from workloads.placement import Placement, Policy, place, used_together
from workloads.placement_files.readers import read_placement
from workloads.routing.trace import Trace
from workloads.traffic import Traffic, held_out, own_sequences, tokens_per_expert, traffic

LOADED: tuple[Policy, ...] = ("balanced", "eplb", "affinity")  # look at the load: placed by other tokens than served
SENT = {"routes": "once per expert", "to_rank": "once per rank", "to_node": "once per node"}


@dataclass(frozen=True, slots=True)
class Batch:
    """What every rank of a group sends.

    Parameters
    ----------
    counted
        Copies, whose sources are the ranks.
    tokens_per_expert
        ``[layers, experts]``.
    tokens_per_rank
        Tokens that each rank brings.
    dispatch_bytes, combine_bytes
        Of one copy, scales included.
    """

    counted: Traffic
    tokens_per_expert: NDArray[np.int64]
    tokens_per_rank: int
    dispatch_bytes: float
    combine_bytes: float


def batch_of(
    trace: Trace,
    group: Group,
    policy: Policy,
    given: str | None,
    tokens_per_rank: int,
    seed: int,
    dtypes: tuple[str, str],
    hidden: int | None,
) -> Batch:
    """Count the copies of one batch in which every rank has sequences of its own.

    Parameters
    ----------
    trace
        Recorded routing.
    group, policy
        Where experts are placed; a policy that looks at the load sees one half of the sequences, the other is served.
    given
        File of a placement instead.
    tokens_per_rank, seed
        Tokens that each rank brings; what they and a random placement are drawn from.
    dtypes
        Of what dispatch and combine send.
    hidden
        Hidden size [elements]; that of the trace's model in the catalogue if None.

    Raises
    ------
    UserError, WorkloadError
        If the group or the placement does not suit the trace, or the hidden size is not known.
    """
    width = hidden or _hidden(trace.model)
    seen, served = held_out(trace, 0.5, False) if given is None and policy in LOADED else (trace, trace)
    placement = read_placement(given, group.ranks) if given else _placed(seen, group, policy, seed)
    if placement.ranks != group.ranks:
        raise UserError(f"--placement: on {placement.ranks} ranks, but --ranks is {group.ranks}")
    rows = own_sequences(served, group.ranks, tokens_per_rank, served.tokens, 1, np.random.default_rng([seed, 0]))
    ids = served.experts[rows.ravel()]
    counted = traffic(ids, np.full(group.ranks, tokens_per_rank), placement, group.ranks_per_node)
    dispatch, combine = (token_bytes(width, dtype) for dtype in dtypes)
    return Batch(counted, tokens_per_expert(ids, trace.routed_experts), tokens_per_rank, dispatch, combine)


def summary(batch: Batch) -> list[dict[str, Any]]:
    """Return a row per way of sending: copies per token and bytes per rank, averaged over layers."""
    return [_row(batch, name, sent) for name, sent in SENT.items()]


def archive(batch: Batch) -> bytes:
    """Return the matrices as npz: dispatch bytes [layers, source ranks, ranks or nodes]; combine sends them back."""
    counted, file = batch.counted, io.BytesIO()
    matrices = {
        f"dispatch_bytes_{sent.replace(' ', '_')}": getattr(counted, name) * batch.dispatch_bytes
        for name, sent in SENT.items()
    }
    np.savez_compressed(
        file,
        **matrices,
        dispatch_bytes_between_nodes=counted.between_nodes * batch.dispatch_bytes,
        tokens_per_expert=batch.tokens_per_expert,
        dispatch_bytes_per_copy=batch.dispatch_bytes,
        combine_bytes_per_copy=batch.combine_bytes,
    )
    return file.getvalue()


def _row(batch: Batch, name: str, sent: str) -> dict[str, Any]:
    copies: NDArray[np.int32] = getattr(batch.counted, name)
    layers, ranks, places = copies.shape
    node = np.arange(ranks) // batch.counted.ranks_per_node
    own = node if name == "to_node" else np.arange(ranks)
    place_node = np.arange(places) if name == "to_node" else node
    leaves = copies * (np.arange(places) != own[:, None])
    leaves_node = copies * (place_node != node[:, None])
    tokens = ranks * batch.tokens_per_rank * layers
    out, into = leaves.sum(axis=2), leaves.sum(axis=1)
    return {
        "sent": sent,
        "copies_per_token": float(copies.sum() / tokens),
        "leaving_rank": None if name == "to_node" else float(leaves.sum() / tokens),
        "leaving_node": float(leaves_node.sum() / tokens),
        "dispatch_bytes": float(leaves.sum() / layers * batch.dispatch_bytes),
        "combine_bytes": float(leaves.sum() / layers * batch.combine_bytes),
        "busiest_sender_bytes": float(out.max(axis=1).mean() * batch.dispatch_bytes),
        "busiest_receiver_bytes": float(into.max(axis=1).mean() * batch.dispatch_bytes),
    }


def _placed(trace: Trace, group: Group, policy: Policy, seed: int) -> Placement:
    load = tokens_per_expert(trace.experts, trace.routed_experts).astype(np.float64)
    together = used_together(trace.experts, trace.routed_experts) if policy == "affinity" else None
    rng = np.random.default_rng([seed, 1])
    return place(
        policy, load, group.ranks, group.redundant, group.ranks_per_node, rng, groups=group.groups, together=together
    )


def _hidden(model: str) -> int:
    try:
        return load_model(model).hidden
    except WorkloadError as error:
        raise UserError(f"{error.problems[0]}: state its hidden size with --hidden") from error
