"""Schedules whose micro-batches all enter at the first stage: GPipe, 1F1B, and 1F1B over several parts per rank."""

from simulator.errors import UserError
from simulator.schedules.chunk import Chunk, Orders


def gpipe(stages: int, micro_batches: int) -> Orders:
    """Return all forwards, then all backwards, on every stage (Huang et al., arXiv:1811.06965)."""
    order = [Chunk("F", 0, m) for m in range(micro_batches)] + [Chunk("B", 0, m) for m in range(micro_batches)]
    return [list(order) for _ in range(stages)]


def one_f_one_b(stages: int, micro_batches: int) -> Orders:
    """Return warm-up forwards, then one forward and one backward in turn, then the rest (arXiv:2104.04473, Fig. 4)."""
    orders = []
    for stage in range(stages):
        warm = min(stages - 1 - stage, micro_batches)
        order = [Chunk("F", 0, m) for m in range(warm)]
        for m in range(micro_batches - warm):
            order += [Chunk("F", 0, warm + m), Chunk("B", 0, m)]
        order += [Chunk("B", 0, m) for m in range(micro_batches - warm, micro_batches)]
        orders.append(order)
    return orders


def interleaved(stages: int, micro_batches: int, virtual_stages: int) -> Orders:
    """Return 1F1B over `virtual_stages` model parts per rank (Megatron-LM, arXiv:2104.04473 section 2.2, Fig. 4).

    Groups of as many micro-batches as there are stages pass a rank's parts one after the other, backwards in reverse.

    Raises
    ------
    UserError
        Unless micro-batches are a multiple of stages.
    """
    forwards, backwards = _places(stages, micro_batches, virtual_stages)
    orders = []
    for stage in range(stages):
        warm = min((stages - stage - 1) * 2 + (virtual_stages - 1) * stages, len(forwards))
        steady = len(forwards) - warm
        pairs = zip(forwards[warm:], backwards[:steady], strict=True)
        orders.append([*forwards[:warm], *(chunk for pair in pairs for chunk in pair), *backwards[steady:]])
    return orders


def overlapped(stages: int, micro_batches: int, virtual_stages: int) -> Orders:
    """Return 1F1B whose every forward runs beside a backward of another micro-batch, to hide dispatch and combine.

    A pair hands on two results at once, each a slot later in its direction, so a rank warms up with two forwards per
    stage that follows, and one more for the pair itself: those of interleaved 1F1B and one
    (NVIDIA/Megatron-LM:megatron/core/pipeline_parallel/schedules.py, `overlap_moe_expert_parallel_comm`).

    Raises
    ------
    UserError
        If there are several parts per rank, and micro-batches are not a multiple of stages.
    """
    forwards, backwards = _places(stages, micro_batches, virtual_stages)
    orders = []
    for stage in range(stages):
        warm = min((stages - stage - 1) * 2 + (virtual_stages - 1) * stages + 1, len(forwards))
        steady = len(forwards) - warm
        pairs = [
            Chunk("FB", 0, ahead.micro_batch, 0, back.micro_batch, ahead.turn, back.turn)
            for ahead, back in zip(forwards[warm:], backwards[:steady], strict=True)
        ]
        orders.append([*forwards[:warm], *pairs, *backwards[steady:]])
    return orders


def _places(stages: int, micro_batches: int, virtual_stages: int) -> tuple[list[Chunk], list[Chunk]]:
    """Return all forwards and all backwards of a rank in the order of interleaved 1F1B."""
    if virtual_stages > 1 and micro_batches % stages:
        near = max(stages, round(micro_batches / stages) * stages)
        raise UserError(
            f"plan.virtual_stages = {virtual_stages}: {micro_batches} micro-batches are not a multiple of {stages} "
            f"stages; use 1f1b with plan.virtual_stages = 1, or for example {near} micro-batches "
            "(workload.global_batch_sequences)"
        )
    width = stages if virtual_stages > 1 else micro_batches
    places = [
        (turn, group + index)
        for group in range(0, micro_batches, width)
        for turn in range(virtual_stages)
        for index in range(width)
    ]
    forwards = [Chunk("F", 0, m, turn=turn) for turn, m in places]
    return forwards, [Chunk("B", 0, m, turn=virtual_stages - 1 - turn) for turn, m in places]
