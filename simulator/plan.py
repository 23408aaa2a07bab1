"""A parallel plan laid over ranks: which rank holds what, and which ranks talk to each other.

Ranks are numbered TP fastest, then CP, then DP, then PP (Megatron-LM's default order), so TP groups sit inside a node
and an EP group is a run of neighbouring ranks of one pipeline stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.errors import UserError

# Larger steps are not what anyone runs, and take minutes to lay out.
MAX_CHUNKS = 200_000
ContextExchange = Literal["ring", "all-to-all"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A plan that tiles the ranks.

    Parameters
    ----------
    tensor, data, pipeline, expert
        Sizes of the TP, DP, PP and EP groups, in ranks.
    micro_batches
        Micro-batches per step and DP replica (1 outside training).
    stage_layers
        ``[pipeline * virtual_stages]`` transformer layers of each model part; rank r of the pipeline holds parts r,
        r + pipeline, and so on; folded, parts r and 2 pipeline - 1 - r.
    virtual_stages
        Parts per rank.
    folded
        Whether a rank's second part is counted from the model's other end.
    expert_tensor
        Ranks that split the matrices of each expert (ETP): neighbours, each EP rank being so many.
    context, context_exchange
        Size of the CP group, whose ranks hold a share of each sequence, and how these attend to each other.
    """

    tensor: int
    data: int
    pipeline: int
    expert: int
    micro_batches: int
    stage_layers: tuple[int, ...]
    virtual_stages: int = 1
    folded: bool = False
    context: int = 1
    context_exchange: ContextExchange = "ring"
    expert_tensor: int = 1

    @property
    def ranks(self) -> int:
        """All ranks."""
        return self.tensor * self.context * self.data * self.pipeline

    @property
    def stage_ranks(self) -> int:
        """Ranks of one pipeline stage."""
        return self.tensor * self.context * self.data

    @property
    def dense_copies(self) -> int:
        """Ranks that hold the same weights outside the routed experts: those of a TP rank over CP and DP."""
        return self.context * self.data

    @property
    def expert_groups(self) -> int:
        """EP groups on one stage: replicas of its experts."""
        return self.stage_ranks // self.expert_shards

    @property
    def expert_shards(self) -> int:
        """Ranks that hold the routed experts of a stage once: EP x ETP."""
        return self.expert * self.expert_tensor

    def parts_of(self, stage: int) -> Sequence[int]:
        """Return the model parts that a rank of a stage holds."""
        if self.folded:
            return stage, len(self.stage_layers) - 1 - stage
        return range(stage, self.pipeline * self.virtual_stages, self.pipeline)

    def layers_of(self, part: int) -> range:
        """Return the transformer layers of a model part, numbered over the model."""
        first = sum(self.stage_layers[:part])
        return range(first, first + self.stage_layers[part])

    def _grid(self) -> NDArray[np.int32]:
        return np.arange(self.ranks, dtype=np.int32).reshape(self.pipeline, -1, self.tensor)

    def tensor_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, tensor]`` ranks."""
        return self._grid().reshape(-1, self.tensor)

    def data_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, dense_copies]`` ranks that hold the same weights outside the routed experts."""
        return self._grid().transpose(0, 2, 1).reshape(-1, self.dense_copies)

    def context_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, context]`` ranks."""
        grid = self._grid().reshape(-1, self.context, self.tensor)
        return grid.transpose(0, 2, 1).reshape(-1, self.context)

    def expert_rank_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, expert]`` ranks that dispatch to each other; with ETP those of one shard."""
        grid = self._grid().reshape(-1, self.expert, self.expert_tensor)
        return grid.transpose(0, 2, 1).reshape(-1, self.expert)

    def expert_tensor_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, expert_tensor]`` ranks that split the same experts."""
        return self._grid().reshape(-1, self.expert_tensor)

    def expert_data_groups(self) -> NDArray[np.int32]:
        """Return ``[groups, expert_groups]`` ranks that hold the same experts."""
        grid = self._grid().reshape(self.pipeline, self.expert_groups, self.expert_shards)
        return grid.transpose(0, 2, 1).reshape(-1, self.expert_groups)

    def stage_pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the senders and receivers of forward activations, one pair per rank and stage boundary.

        With virtual stages the last stage hands over to the first, too, unless they are folded.
        """
        grid = self._grid()
        if self.virtual_stages > 1 and not self.folded:
            return grid.ravel(), np.roll(grid, -1, axis=0).ravel()
        return grid[:-1].ravel(), grid[1:].ravel()


def split_layers(costs: Sequence[float], head_cost: float, stages: int) -> tuple[int, ...]:
    """Return layers per stage: even where they divide, as frameworks do, else so that the dearest stage is cheapest.

    Where one or two stages more than layers are asked for, the last holds the LM head alone, and the first the
    embedding (Megatron-LM can count both as layers: `account_for_loss_in_pipeline_split` and `..._embedding_...`).

    Parameters
    ----------
    costs
        ``[layers]`` work of each layer, in any unit.
    head_cost
        Work that the last stage has beside its layers: LM head, loss, MTP modules.
    stages
        Pipeline stages, at most two more than layers.
    """
    layers = len(costs)
    if stages > layers:
        return (0,) * (stages - layers - 1) + (1,) * layers + (0,)
    if layers % stages == 0:
        return (layers // stages,) * stages
    total = np.concatenate([[0.0], np.cumsum(costs)])
    work = np.where(np.tri(layers + 1, k=-1, dtype=bool).T, total[None, :] - total[:, None], np.inf)
    cap = work[0]  # work[i, j]: layers i to j - 1 on one stage
    for stage in range(1, stages):
        cap = np.maximum(cap[:, None], work + head_cost * (stage == stages - 1)).min(axis=0)
    # Of the splits that reach the least possible worst stage, take the most even one.
    inner, last = (np.where(each <= cap[-1] * (1 + 1e-12), each, np.inf) ** 2 for each in (work, work + head_cost))
    so_far, came_from = inner[0], []
    for stage in range(1, stages):
        both = so_far[:, None] + (last if stage == stages - 1 else inner)
        came_from.append(both.argmin(axis=0))
        so_far = both.min(axis=0)
    ends = [layers]
    for start in reversed(came_from):
        ends.append(int(start[ends[-1]]))
    return tuple(end - start for start, end in pairwise([0, *reversed(ends)]))


def split_parts(
    costs: Sequence[float], head_cost: float, ranks: int, per_rank: int, folded: bool = False
) -> tuple[int, ...]:
    """Return layers per model part where ranks hold several: ranks' sums as alike as whole layers allow.

    Layers are handed out one by one, each to the rank with the least work, layers counted alike; a rank's earlier
    parts take what does not divide, as its last one may hold the LM head.

    Parameters
    ----------
    costs, head_cost
        See `split_layers`.
    ranks, per_rank, folded
        Pipeline ranks, parts of each, and whether they are counted from both ends, see `Layout`.
    """
    layers, parts = len(costs), ranks * per_rank
    if per_rank == 1 or layers % parts == 0 or parts > layers:
        return split_layers(costs, head_cost, parts)
    work = np.zeros(ranks)
    work[0 if folded else -1] = head_cost * layers / sum(costs)
    held = np.zeros(ranks, dtype=int)
    for _ in range(layers):
        least = int(work.argmin())
        held[least] += 1
        work[least] += 1.0
    turns = np.array([held // per_rank + (turn < held % per_rank) for turn in range(per_rank)])
    if folded:
        turns[1] = turns[1, ::-1]
    return tuple(int(count) for count in turns.ravel())


def tile_problems(
    ranks: int,
    tensor: int,
    context: int,
    pipeline: int,
    expert: int,
    data: int | None,
    layers: int,
    heads: int,
    virtual_stages: int = 1,
    expert_tensor: int = 1,
) -> Iterator[str]:
    """Yield one line per way in which the plan fails to tile the ranks or the model."""
    one_replica = tensor * context * pipeline
    sizes = f"TP {tensor} x " + f"CP {context} x " * (context > 1) + f"PP {pipeline}"
    if ranks % one_replica:
        near = max(one_replica, ranks // one_replica * one_replica)
        yield (
            f"plan: {sizes} does not tile {ranks} ranks; use a multiple of {one_replica} "
            f"ranks (for example {near}), or other sizes"
        )
    elif data is not None and one_replica * data != ranks:
        yield (
            f"plan.data = {data}: {sizes} x DP {data} is {one_replica * data}, not the "
            f"{ranks} ranks; use data = {ranks // one_replica} or leave it out"
        )
    elif (ranks // pipeline) % (expert * expert_tensor):
        sizes = f"EP {expert}" + f" x ETP {expert_tensor}" * (expert_tensor > 1)
        near = _divisor_near(max(ranks // pipeline // expert_tensor, 1), expert)
        yield (
            f"plan.expert = {expert}: {sizes} does not tile the {ranks // pipeline} ranks of a stage "
            f"(TP x {'CP x ' * (context > 1)}DP); use {near}"
        )
    if heads % tensor:
        yield f"plan.tensor = {tensor}: {heads} attention heads do not divide by it; use {_divisor_near(heads, tensor)}"
    if layers < pipeline:
        yield f"plan.pipeline = {pipeline}: the model has only {layers} layers; use at most {layers} stages"
    elif layers + 2 < pipeline * virtual_stages:
        yield (
            f"plan.virtual_stages = {virtual_stages}: with PP {pipeline} the model's {layers} layers would split into "
            f"{pipeline * virtual_stages} parts; use at most {(layers + 2) // pipeline}"
        )


def _divisor_near(number: int, wanted: int) -> int:
    divisors = [d for d in range(1, min(number, wanted) + 1) if number % d == 0]
    return divisors[-1]


def batch_problems(global_batch: int, data: int, micro_batch: int) -> Iterator[str]:
    """Yield a line if the global batch does not split into whole micro-batches on every replica."""
    step = data * micro_batch
    if global_batch % step:
        near = max(step, round(global_batch / step) * step)
        yield (
            f"workload.global_batch_sequences = {global_batch}: not a multiple of DP {data} x micro-batch "
            f"{micro_batch} = {step}; use for example {near}"
        )


def layout(
    ranks: int,
    tensor: int,
    pipeline: int,
    expert: int,
    data: int | None,
    layer_costs: Sequence[float],
    head_cost: float,
    heads: int,
    global_batch: int | None,
    micro_batch: int,
    stage_layers: Sequence[int] | None = None,
    virtual_stages: int = 1,
    folded: bool = False,
    context: int = 1,
    context_exchange: ContextExchange = "ring",
    expert_tensor: int = 1,
) -> Layout:
    """Return the plan laid over `ranks`.

    Parameters
    ----------
    layer_costs, head_cost
        Work of each layer and of the last stage's extras, see `split_layers`.
    global_batch
        Sequences per training step; None outside training, where there is one micro-batch.
    stage_layers
        Layers of each model part; None to split them evenly.
    virtual_stages, folded
        Model parts per rank, and whether they are counted from both ends, see `Layout`.
    context, context_exchange
        CP ranks, see `Layout`.
    expert_tensor
        Ranks that split each expert, see `Layout`.

    Raises
    ------
    UserError
        With every failed check at once.
    """
    layers, parts = len(layer_costs), pipeline * virtual_stages
    sizes = tensor, context, pipeline, expert, data, layers, heads, virtual_stages, expert_tensor
    problems = list(tile_problems(ranks, *sizes))
    if stage_layers is not None and (
        len(stage_layers) != parts or sum(stage_layers) != layers or min(stage_layers) < 0
    ):
        problems.append(
            f"plan.layers_per_stage = {list(stage_layers)}: must be {parts} numbers from 0 that add up to "
            f"{layers} layers; correct it, or leave it out to split evenly"
        )
    replicas = ranks // (tensor * context * pipeline)
    if global_batch is not None and not problems:
        problems += batch_problems(global_batch, replicas, micro_batch)
        chunks = global_batch // (replicas * micro_batch) * parts
        if chunks > MAX_CHUNKS:
            problems.append(
                f"workload.global_batch_sequences = {global_batch}: {chunks} chunks of micro-batches and stages, "
                f"more than {MAX_CHUNKS}; use a smaller batch, larger micro-batches or more replicas"
            )
    if problems:
        raise UserError(*problems)
    micro_batches = 1 if global_batch is None else global_batch // (replicas * micro_batch)
    return Layout(
        tensor,
        replicas,
        pipeline,
        expert,
        micro_batches,
        tuple(stage_layers or split_parts(layer_costs, head_cost, pipeline, virtual_stages, folded)),
        virtual_stages,
        folded,
        context,
        context_exchange,
        expert_tensor,
    )
