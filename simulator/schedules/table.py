"""The schedules by name, and what a plan has to know of each."""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.schedules.chunk import Orders
from simulator.schedules.dualpipe import dualpipe, dualpipe_v
from simulator.schedules.one_way import gpipe, interleaved, one_f_one_b, overlapped
from simulator.schedules.zero_bubble import zb_h1, zb_h2


@dataclass(frozen=True, slots=True)
class Schedule:
    """One pipeline schedule.

    Parameters
    ----------
    orders
        From stages, micro-batches and parts per rank to each rank's chunks.
    in_flight
        From stage, stages, micro-batches and parts per rank to the most chunks whose activations the rank holds.
    parts
        Parts of the model per rank: fixed, or None where the plan chooses (`plan.virtual_stages`).
    folded
        Whether a rank's second part is counted from the other end of the model: rank r of p holds r and 2 p - 1 - r.
    copies
        Ranks that hold each part: two where micro-batches enter at both ends.
    splits_backward, pairs
        Whether the chunks `I` and `W`, or `FB`, occur.
    skewed
        Whether stages begin the next step without waiting for each other, so that a step takes what one stage takes.
    """

    orders: Callable[[int, int, int], Orders]
    in_flight: Callable[[int, int, int, int], int]
    parts: int | None = 1
    folded: bool = False
    copies: int = 1
    splits_backward: bool = False
    pairs: bool = False
    skewed: bool = False


SCHEDULES = {
    "gpipe": Schedule(lambda p, m, v: gpipe(p, m), lambda s, p, m, v: m),
    "1f1b": Schedule(lambda p, m, v: one_f_one_b(p, m), lambda s, p, m, v: min(p - s, m)),
    "interleaved": Schedule(interleaved, lambda s, p, m, v: min((p - s - 1) * 2 + (v - 1) * p + 1, v * m), parts=None),
    "1f1b-overlap": Schedule(
        overlapped, lambda s, p, m, v: min((p - s - 1) * 2 + (v - 1) * p + 2, v * m), parts=None, pairs=True
    ),
    "zb-h1": Schedule(lambda p, m, v: zb_h1(p, m), lambda s, p, m, v: min(p, m), splits_backward=True),
    "zb-h2": Schedule(
        lambda p, m, v: zb_h2(p, m), lambda s, p, m, v: min(2 * p - 1, m), splits_backward=True, skewed=True
    ),
    # one more chunk than there are stages (arXiv:2412.19437 Table 2)
    "dualpipe": Schedule(
        lambda p, m, v: dualpipe(p, m),
        lambda s, p, m, v: min(p + 1, m),
        copies=2,
        splits_backward=True,
        pairs=True,
    ),
    "dualpipe-v": Schedule(
        lambda p, m, v: dualpipe_v(p, m),
        lambda s, p, m, v: min(2 * p + 1, 2 * m),
        parts=2,
        folded=True,
        splits_backward=True,
        pairs=True,
    ),
}


def rank_orders(schedule: str, stages: int, micro_batches: int, virtual_stages: int = 1) -> Orders:
    """Return what each rank runs, in order, under a schedule of `SCHEDULES`.

    Raises
    ------
    UserError
        If the schedule cannot take so many stages and micro-batches.
    """
    return SCHEDULES[schedule].orders(stages, micro_batches, virtual_stages)
