"""What layers add up to: stage by stage in training, one after the other or overlapped in serving."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.longest_path import longest_paths
from simulator.phase.layers import LayerTimes
from simulator.program import PART_INDEX, Program, ProgramBuilder
from simulator.result import PARTS
from workloads.models.specs import ModelSpec

Floats = NDArray[np.float64]
COMPUTE, COMMUNICATION = 0, 1
# What follows a layer's attention, in order.
_EXPERT_BLOCKS = ((COMMUNICATION, "dispatch"), (COMPUTE, "experts"), (COMMUNICATION, "combine"))


def layer_blocks(model: ModelSpec, times: LayerTimes) -> Floats:
    """Return ``[4, batches, layers, len(PARTS)]``: before dispatch, dispatch, experts, combine of every layer [s].

    A dense layer is all before dispatch.
    """
    batches = times.dispatch.shape[0]
    dense = model.layers - model.moe_layers
    blocks = np.zeros((4, batches, model.layers, len(PARTS)))
    blocks[0, :, :dense] = times.dense_layer
    blocks[0, :, dense:] = times.attention + times.before_experts
    for index, block in enumerate((times.dispatch, times.experts, times.combine), start=1):
        blocks[index, :, dense:] = block
    return blocks


def issued_on_compute(blocks: Floats, dispatch_s: float, combine_s: float) -> Floats:
    """Return blocks whose dispatch and combine begin with time on the compute stream, still under their own names.

    Parameters
    ----------
    blocks
        ``[4, ..., len(PARTS)]`` from `layer_blocks`.
    dispatch_s, combine_s
        Time that kernels of the exchange hold the compute stream for, at most what the operation takes [s].
    """
    moved: Floats = blocks.copy()
    for compute, (name, time_s) in ((0, ("dispatch", dispatch_s)), (2, ("combine", combine_s))):
        index = PART_INDEX[name]
        own = np.minimum(blocks[compute + 1, ..., index], time_s)
        moved[compute, ..., index] += own
        moved[compute + 1, ..., index] -= own
    return moved


def stage_sums(blocks: Floats, stage_layers: tuple[int, ...]) -> Floats:
    """Return the time of each (virtual) stage's layers with nothing hidden, ``[stages, batches, len(PARTS)]`` [s]."""
    bounds = np.concatenate([[0], np.cumsum(stage_layers)])
    layers = blocks.sum(axis=0)
    return np.array([layers[:, low:high].sum(axis=1) for low, high in pairwise(bounds)])


def stage_pairs(
    forward: Floats, backward: Floats, stage_layers: tuple[int, ...], partners: NDArray[np.int64]
) -> Floats:
    """Return the time of a forward and a backward that hide each other's communication, ``[parts, n, batches, parts]``.

    One micro-batch's dispatch and combine run beside the other's compute, block by block: the forward walks the layers
    up, the backward down (arXiv:2412.19437 Fig. 4).

    Parameters
    ----------
    forward, backward
        ``[4, batches, layers, len(PARTS)]`` from `layer_blocks`.
    stage_layers
        ``[parts]`` layers of each part of the model.
    partners
        ``[parts, n]`` part whose backward runs beside each part's forward.
    """
    bounds = np.concatenate([[0], np.cumsum(stage_layers)])
    ups = [forward[:, :, low:high].transpose(0, 2, 1, 3) for low, high in pairwise(bounds)]
    downs = [backward[:, :, low:high][:, :, ::-1].transpose(0, 2, 1, 3) for low, high in pairwise(bounds)]
    return np.array(
        [[_pair(up, downs[other]) for other in row] for up, row in zip(ups, partners.tolist(), strict=True)]
    )


def _pair(up: Floats, down: Floats) -> Floats:
    """One rank's pair; `up` and `down` are ``[4, layers, batches, len(PARTS)]`` in the order they run."""
    if not len(up[0]) or not len(down[0]):  # a part without layers hides nothing
        alone: Floats = up.sum(axis=(0, 1)) + down.sum(axis=(0, 1))
        return alone
    rows: list[Floats] = []
    stream: list[int] = []
    waits: list[tuple[int, ...]] = []

    def add(queue: int, row: Floats, *after: int) -> int:
        rows.append(row)
        stream.append(queue)
        waits.append(tuple(index for index in after if index >= 0))
        return len(rows) - 1

    ready_up, ready_down = add(COMPUTE, up[0, 0]), -1
    for layer in range(max(up.shape[1], down.shape[1])):  # the longer side goes on alone
        has_up, has_down = layer < up.shape[1], layer < down.shape[1]
        sent_down = add(COMMUNICATION, down[1, layer], ready_down) if has_down else -1
        sent_up = add(COMMUNICATION, up[1, layer], ready_up) if has_up else -1
        experts_down = add(COMPUTE, down[2, layer], sent_down) if has_down else -1
        experts_up = add(COMPUTE, up[2, layer], sent_up) if has_up else -1
        back_down = add(COMMUNICATION, down[3, layer], experts_down) if has_down else -1
        back_up = add(COMMUNICATION, up[3, layer], experts_up) if has_up else -1
        if has_down:
            ready_down = add(COMPUTE, down[0, layer], back_down)
        if layer + 1 < up.shape[1]:
            ready_up = add(COMPUTE, up[0, layer + 1], back_up)
    parts = np.array(rows)
    on_compute = np.array(stream) == COMPUTE
    busy = parts[on_compute].sum(axis=0)
    hidden = parts[~on_compute].sum(axis=0)
    exposed = longest_paths(parts.sum(axis=-1), stream, waits) - busy.sum(axis=-1)
    total = hidden.sum(axis=-1)
    share = np.divide(exposed, total, out=np.zeros_like(total), where=total > 0)
    rows_by_batch: Floats = busy + hidden * share[:, None]
    return rows_by_batch


def iteration_program(blocks: Floats, ends: Floats, micro_batches: int) -> Program:
    """Return one prefill or decode iteration as a program on a compute and a communication stream.

    With two micro-batches each one's dispatch and combine run beside the other's compute.

    Parameters
    ----------
    blocks
        ``[4, micro_batches, layers, len(PARTS)]`` from `layer_blocks`, one batch per micro-batch.
    ends
        ``[len(PARTS)]`` embedding, LM head and sampling, and MTP draft, once per iteration.
    """
    builder = ProgramBuilder()
    after: list[tuple[int, ...]] = [()] * micro_batches
    for layer in range(blocks.shape[2]):
        names = [f"layer {layer}" + f", micro-batch {m}" * (micro_batches > 1) for m in range(micro_batches)]
        ready = [builder.add(COMPUTE, blocks[0, m, layer], after[m], label=names[m]) for m in range(micro_batches)]
        if not blocks[1:, :, layer].any():
            after = [(op,) for op in ready]
            continue
        for index, (stream, what) in enumerate(_EXPERT_BLOCKS, start=1):
            ready = [
                builder.add(stream, blocks[index, m, layer], (ready[m],), label=f"{what}, {names[m]}")
                for m in range(micro_batches)
            ]
        after = [(op,) for op in ready]
    builder.add(COMPUTE, ends, [op for ops in after for op in ops], label="embedding, LM head, sampling, drafts")
    return builder.build()
