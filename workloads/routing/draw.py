"""Traces drawn from statistics: any size, a mix or a schedule of tasks, and preferences that drift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.preferences import MIXED, Preferences, drifting, preferences
from workloads.routing.sample import sample_tokens
from workloads.routing.spec import BROAD, RoutingStatistics, broad
from workloads.routing.trace import Trace

_MOST_IDS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Drawing:
    """What to draw.

    Parameters
    ----------
    layers, experts, top_k
        MoE layers, routed experts and experts per token.
    n_group, topk_group
        Expert groups, and how many of them a token may use.
    sequence_tokens
        Tokens of a sequence; the last may be shorter.
    mix
        One task, ``mixed``, or ``broad`` (every sequence a topic of its own).
    schedule
        Tasks one after another in equal parts, instead of `mix`.
    strength
        Factor on all spreads.
    drift
        How far preferences move from one part to the next: log weights correlate by 1 - drift.
    drift_parts
        Equal parts of the sequences that drift sets apart.
    """

    layers: int
    experts: int
    top_k: int
    n_group: int = 1
    topk_group: int = 1
    sequence_tokens: int = 1
    mix: str = MIXED
    schedule: tuple[str, ...] = ()
    strength: float = 1.0
    drift: float = 0.0
    drift_parts: int = 8


def draw_trace(statistics: RoutingStatistics, drawing: Drawing, tokens: int, seed: int) -> Trace:
    """Draw a trace.

    Parameters
    ----------
    statistics
        Fitted statistics.
    drawing
        What to draw.
    tokens
        Tokens in all.
    seed
        Random seed: of the model's preferences, and apart from them of its tokens.

    Raises
    ------
    WorkloadError
        If a task is unknown, or the numbers contradict each other or ask for more than fits in memory.
    """
    _check(statistics, drawing, tokens)
    if drawing.mix == BROAD and not drawing.schedule:
        statistics = broad(statistics)
    model = preferences(
        statistics,
        drawing.layers,
        drawing.experts,
        drawing.top_k,
        np.random.default_rng([seed, 0]),
        mix=MIXED if drawing.schedule or drawing.mix == BROAD else drawing.mix,
        strength=drawing.strength,
        n_group=drawing.n_group,
        topk_group=drawing.topk_group,
    )
    rng = np.random.default_rng([seed, 1])
    whole, rest = divmod(tokens, drawing.sequence_tokens)
    lens = np.array([drawing.sequence_tokens] * whole + [rest] * (rest > 0), dtype=np.int64)
    rows = _rows(model, drawing, lens.size, rng)
    if drawing.drift:
        part = np.arange(lens.size) * drawing.drift_parts // lens.size
        rows = rows + part * len(model.tasks)
        model = drifting(model, drawing.drift_parts, 1 - drawing.drift, rng)
    about = f"drawn from statistics of {statistics.model}, seed {seed}: {statistics.source}"
    ids = sample_tokens(model, lens, rng, rows=rows)
    return Trace(ids, lens.astype(np.int32), drawing.experts, statistics.model, "mixed", about, statistics.licence)


def _rows(model: Preferences, drawing: Drawing, sequences: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the task of each sequence."""
    if not drawing.schedule:
        return rng.integers(len(model.tasks), size=sequences)
    order = np.array([model.tasks.index(task) for task in drawing.schedule])
    return np.asarray(order[np.arange(sequences) * order.size // sequences])


def _check(statistics: RoutingStatistics, drawing: Drawing, tokens: int) -> None:
    known = tuple(statistics.task_sigma)
    unknown = [task for task in dict.fromkeys(drawing.schedule) if task not in known]
    problems = [f"schedule: {task!r}: unknown task; choose from {', '.join(known)}" for task in unknown]
    if not drawing.schedule and drawing.mix not in (MIXED, BROAD, *known):
        problems.append(f"mix: {drawing.mix!r}: unknown; choose one of {', '.join((MIXED, BROAD, *known))}")
    if not 0 <= drawing.drift <= 1:
        problems.append(f"drift: {drawing.drift}: must lie between 0 (none) and 1 (all new)")
    if tokens * drawing.layers * drawing.top_k > _MOST_IDS:
        most = _MOST_IDS // (drawing.layers * drawing.top_k)
        problems.append(f"tokens: {tokens}: too many for {drawing.layers} layers x top-{drawing.top_k}; at most {most}")
    if drawing.experts > 1 << 16:
        problems.append(f"experts: {drawing.experts}: must be at most {1 << 16}")
    if problems:
        raise WorkloadError(*problems)
