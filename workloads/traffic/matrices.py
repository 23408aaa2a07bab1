"""Who sends how many token copies to whom, counted token by token."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.placement import EMPTY, Placement

Counts = NDArray[np.int32]
Ids = NDArray[np.integer[Any]]
CHUNK_ROUTES = 32_768  # what is in work at once stays in the processor's cache


@dataclass(frozen=True)
class Traffic:
    """Token copies of one batch of an EP group; those that stay on their rank are on the diagonal.

    Parameters
    ----------
    routes
        ``[layers, sources, ranks]`` one per token and expert: the rows that each rank computes.
    to_rank
        ``[layers, sources, ranks]`` one per token and rank that it needs.
    to_node
        ``[layers, sources, nodes]`` one per token and node that it needs.
    ranks_per_node
        Consecutive ranks that form a node; the last may be smaller.
    """

    routes: Counts
    to_rank: Counts
    to_node: Counts
    ranks_per_node: int

    @property
    def between_nodes(self) -> NDArray[np.int64]:
        """``[layers, nodes, nodes]`` one per token and node that it needs; sources must be the ranks."""
        starts = np.arange(0, self.to_node.shape[1], self.ranks_per_node)
        return np.add.reduceat(self.to_node, starts, axis=1, dtype=np.int64)


def traffic(experts: Ids, source_tokens: Ids, placement: Placement, ranks_per_node: int) -> Traffic:
    """Count the copies that dispatch sends, and combine brings back.

    Parameters
    ----------
    experts
        ``[tokens, layers, top_k]`` expert ids, the tokens of a source one after another.
    source_tokens
        ``[sources]`` tokens of each source: rank by rank, or a single number for all of them together.
    placement
        Where the experts are; tokens use the replicas of an expert in turn.
    ranks_per_node
        Consecutive ranks that form a node; the last may be smaller.

    Raises
    ------
    WorkloadError
        If the placement is of another model, or the sources' tokens are not those of the batch.
    """
    _check(experts, source_tokens, placement, ranks_per_node)
    tokens, layers, top_k = experts.shape
    sources, ranks = len(source_tokens), placement.ranks
    nodes = -(-ranks // ranks_per_node)
    source = np.repeat(np.arange(sources), source_tokens)
    routes = np.zeros((layers, sources, ranks), dtype=np.int32)
    # no two experts of a token share a rank that has one slot
    to_rank = np.zeros_like(routes) if placement.slots > 1 else routes
    to_node = np.zeros((layers, sources, nodes), dtype=np.int32)
    step = max(1, CHUNK_ROUTES // top_k)
    tables = _Tables(placement)
    per_node = tables.rank.dtype.type(min(ranks_per_node, ranks))
    narrow = np.min_scalar_type(nodes)  # with room for the number that means none
    for start in range(0, tokens, step):
        rows = slice(start, min(start + step, tokens))
        first, last = source[rows.start], source[rows.stop - 1] + 1
        local = (source[rows] - first).astype(np.int64)
        for layer in range(layers):
            rank = tables.ranks_of(np.ascontiguousarray(experts[rows, layer].T), layer, start)
            routes[layer, first:last] += _tally(rank, local, last - first, ranks)
            if to_rank is not routes:
                to_rank[layer, first:last] += _tally(_once(rank, ranks), local, last - first, ranks)
            node = (rank // per_node).astype(narrow)
            to_node[layer, first:last] += _tally(_once(node, nodes), local, last - first, nodes)
    return Traffic(routes, to_rank, to_node, ranks_per_node)


def serving_ranks(experts: Ids, placement: Placement) -> Ids:
    """Return ``[tokens, layers, top_k]`` the rank that serves each choice; replicas take turns by token."""
    tables = _Tables(placement)
    rank = np.empty(experts.shape, dtype=np.int32)
    for layer in range(experts.shape[1]):
        rank[:, layer] = tables.ranks_of(np.ascontiguousarray(experts[:, layer].T), layer, 0).T
    return rank


class _Tables:
    """Rank of each expert's first slot, and of the others where there are replicas."""

    def __init__(self, placement: Placement) -> None:
        held = placement.slot_expert.reshape(len(placement.slot_expert), -1)
        slots = np.argsort(held, axis=1, kind="stable") // placement.slots
        empty = (held == EMPTY).sum(axis=1, keepdims=True)  # these are sorted first
        self.replicas = placement.replicas
        self.first = empty + np.cumsum(self.replicas, axis=1) - self.replicas
        self.rank = slots.astype(np.min_scalar_type(placement.ranks))
        self.only = np.take_along_axis(self.rank, self.first, axis=1)

    def ranks_of(self, ids: Ids, layer: int, start: int) -> Ids:
        """Return the rank that serves each choice ``[top_k, tokens]``, of tokens that count from `start`."""
        if self.replicas[layer].max() == 1:
            return np.asarray(self.only[layer].take(ids, mode="clip"))
        index = ids.astype(np.int64)
        turn = (start + np.arange(ids.shape[1])) % self.replicas[layer][index]
        return np.asarray(self.rank[layer][self.first[layer][index] + turn])


def _once(place: Ids, none: int) -> Ids:
    """Replace by `none` all but the first of equal places in a column of ``[top_k, tokens]``."""
    once = place.copy()
    for later in range(1, len(place)):
        again = place[0] == place[later]
        for earlier in range(1, later):
            again |= place[earlier] == place[later]
        np.copyto(once[later], none, where=again)
    return once


def _tally(place: Ids, source: NDArray[np.int64], sources: int, places: int) -> NDArray[np.int64]:
    """Count ``[sources, places]`` of ``[top_k, tokens]``, places beyond the last left out."""
    key = place if sources == 1 else place + source * (places + 1)
    counts = np.bincount(key.ravel(), minlength=sources * (places + 1))
    return counts[: sources * (places + 1)].reshape(sources, places + 1)[:, :places]


def _check(experts: Ids, source_tokens: Ids, placement: Placement, ranks_per_node: int) -> None:
    layers = len(placement.slot_expert)
    found = []
    if experts.shape[1] != layers:
        found.append(f"placement: {layers} layers: the trace has {experts.shape[1]}")
    if experts.min() < 0 or experts.max() >= placement.experts:
        found.append(f"placement: of {placement.experts} experts: the trace uses {experts.min()} to {experts.max()}")
    if min(source_tokens) < 0 or sum(source_tokens) != len(experts):
        found.append(f"traffic: sources of {sum(source_tokens)} tokens: the batch has {len(experts)}")
    if ranks_per_node < 1:
        found.append(f"placement: ranks_per_node {ranks_per_node}: must be at least 1")
    if found:
        raise WorkloadError(*found)
