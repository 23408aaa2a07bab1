"""What happened to every request and instance, as arrays."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.engine.serving.records import ITERATION_PARTS, Work

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Gaps between a sequence's steps are counted in bins of 1 %, from 10 us to more than an hour.
GAP_BINS, GAP_FIRST_S, GAP_RATIO = 2_000, 1e-5, 1.01
TIMELINE = ("time_s", "pool", "instance", "decoding", "prefilling", "waiting", "kv_blocks", "step_s", "iterations")


@dataclass(slots=True)
class Log:
    """Per request ``[requests]`` (NaN: not yet), per instance, and over time.

    Parameters
    ----------
    admitted_s, first_s, finish_s
        When its prompt was first taken in, its first and its last token [s].
    tokens
        Output tokens so far; fractional where drafts are accepted now and then.
    emitted_s
        When its last token so far came [s].
    steps_left
        Decode iterations that it still needs.
    cached_prefix, preemptions, instance
        Prompt tokens found in a prefix cache; how often it lost its blocks; its last instance.
    gaps
        ``[GAP_BINS]`` sequence steps by the time since the sequence's step before.
    timeline
        A row of `TIMELINE` for each run of iterations; pool 0 computes prompts, 1 decodes.
    parts_s
        Seconds by part of each pool's iterations, summed over instances.
    prompt_s
        Seconds of each pool's iterations that prompts account for, by their share of the tokens.
    computed_tokens
        Prompt tokens computed, those computed again included.
    """

    work: Work
    admitted_s: Floats
    first_s: Floats
    finish_s: Floats
    emitted_s: Floats
    tokens: Floats
    steps_left: Ints
    cached_prefix: Ints
    preemptions: Ints
    instance: Ints
    gaps: Floats = field(default_factory=lambda: np.zeros(GAP_BINS))
    timeline: list[tuple[float, ...]] = field(default_factory=list)
    parts_s: Floats = field(default_factory=lambda: np.zeros((2, len(ITERATION_PARTS))))
    prompt_s: Floats = field(default_factory=lambda: np.zeros(2))
    computed_tokens: float = 0.0
    gap_sum_s: float = 0.0
    iterations: int = 0
    events: int = 0
    end_s: float = 0.0
    stopped: bool = False

    def count_gaps(self, gap_s: Floats, weight: float = 1.0) -> None:
        """Count steps that came `gap_s` [s] after the sequence's step before."""
        self.gap_sum_s += float(gap_s.sum()) * weight
        place = np.log(np.maximum(gap_s, GAP_FIRST_S) / GAP_FIRST_S) / np.log(GAP_RATIO)
        np.add.at(self.gaps, np.minimum(place.astype(np.int64), GAP_BINS - 1), weight)


def new_log(work: Work) -> Log:
    """Return a log in which nothing has happened."""
    count = len(work)
    unknown = np.full(count, np.nan)
    zeros = np.zeros(count, dtype=np.int64)
    return Log(
        work,
        unknown.copy(),
        unknown.copy(),
        unknown.copy(),
        unknown.copy(),
        np.zeros(count),
        work.steps.astype(np.int64).copy(),
        zeros.copy(),
        zeros.copy(),
        zeros - 1,
    )


def gap_quantile(gaps: Floats, share: float) -> float | None:
    """Return the gap below which `share` of the counted ones lie [s], to 1 %; None if there are none."""
    total = gaps.sum()
    if total <= 0:
        return None
    place = int(np.searchsorted(np.cumsum(gaps), share * total))
    return float(GAP_FIRST_S * GAP_RATIO ** (min(place, GAP_BINS - 1) + 0.5))
