"""What a router prefers: random log weights of experts by task, layer and sequence, and what ties picks together.

A sequence s of task t weighs expert e of layer l by
``log w = depth[l] * (common * a[l,e] + task[t] * b[t,l,e] + sequence * c[s,l,e])`` with standard normal a, b, c.
What is below 0 is multiplied by ``cold``: in some models the rarely used experts are rarer than a normal law has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.inclusion import inclusion, skewed
from workloads.routing.spec import RoutingStatistics

MIXED = "mixed"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ties:
    """What ties a token's picks to each other.

    Parameters
    ----------
    persistence
        ``[layers]`` share of picks that repeat the previous token's of the same sequence.
    link
        ``[layers]`` share of picks that follow from the layer before; the first is not used.
    """

    persistence: Floats
    link: Floats

    def renewal(self) -> Floats:
        """Return ``[layers]`` the chance that a pick which does not follow from the layer before repeats a token's.

        Two tokens' picks stay equal if both follow from equal ones; the rest of `persistence` is to come from here.
        """
        kept = np.concatenate([[0.0], self.persistence[:-1]]) * np.append(0.0, self.link[1:]) ** 2
        free = 1.0 - np.append(0.0, self.link[1:])
        return np.asarray(np.clip((self.persistence - kept) / np.maximum(free, 1e-9), 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Preferences:
    """Persistent preferences of one model: what each task weighs the experts by, and how much sequences differ.

    Parameters
    ----------
    tasks
        Names, one per row of `log_weight`.
    log_weight
        ``[tasks, layers, experts]``.
    sequence_sigma
        ``[layers]`` standard deviation of what one sequence adds.
    top_k, n_group, topk_group
        Experts per token; expert groups, and how many of them a token may use.
    ties
        Persistence from token to token and link from layer to layer.
    cold
        Factor on log weights below 0.
    """

    tasks: tuple[str, ...]
    log_weight: Floats
    sequence_sigma: Floats
    top_k: int
    n_group: int
    topk_group: int
    ties: Ties
    cold: float

    @property
    def grouped(self) -> bool:
        """Whether a token may use some of the expert groups only."""
        return self.topk_group < self.n_group

    def chance(self, log_weight: Floats, shares: Floats) -> Floats:
        """Return `inclusion` under these preferences' top-k."""
        return inclusion(skewed(log_weight, self.cold), shares, self.top_k, self.n_group, self.topk_group)


def preferences(
    statistics: RoutingStatistics,
    layers: int,
    experts: int,
    top_k: int,
    rng: np.random.Generator,
    *,
    mix: str = MIXED,
    strength: float = 1.0,
    n_group: int = 1,
    topk_group: int = 1,
) -> Preferences:
    """Draw the persistent preferences of a model.

    Parameters
    ----------
    statistics
        Fitted spreads; taken over to another number of layers by relative depth, and of experts unchanged.
    layers, experts, top_k
        MoE layers, routed experts and experts per token of the model to be simulated.
    rng
        Source of the preferences; the same state gives the same preferences whatever `mix` and `strength` are.
    mix
        One task of the statistics, or ``mixed``: each sequence belongs to a random one.
    strength
        Factor on all spreads: 0 is uniform routing, 1 as recorded, more than that on the way to a collapsed router.
    n_group, topk_group
        Expert groups, and how many of them a token may use; equal numbers mean no limit.

    Raises
    ------
    WorkloadError
        If the numbers contradict each other or the mix is unknown.
    """
    _check(statistics, layers, experts, top_k, mix, strength, n_group, topk_group)
    names = tuple(statistics.task_sigma)
    common = rng.standard_normal((layers, experts))
    by_task = rng.standard_normal((len(names), layers, experts))
    chosen = [i for i, name in enumerate(names) if mix in (MIXED, name)]
    depth = strength * at_depth(statistics.depth_profile, layers)
    ties = Ties(at_depth(statistics.persistence, layers), at_depth(statistics.link, layers))
    task_sigma = np.array(list(statistics.task_sigma.values()))[chosen, None, None]
    log_weight = depth[:, None] * (statistics.common_sigma * common + task_sigma * by_task[chosen])
    chosen_names = tuple(names[i] for i in chosen)
    return Preferences(
        chosen_names, log_weight, depth * statistics.sequence_sigma, top_k, n_group, topk_group, ties, statistics.cold
    )


def at_depth(profile: Sequence[float] | Floats, layers: int) -> Floats:
    """Return ``[layers]`` of a profile given at even steps from first to last layer, by relative depth."""
    knots = np.asarray(profile, dtype=np.float64)
    at = np.linspace(0, 1, layers) if layers > 1 else np.array([0.5])
    return np.asarray(np.interp(at, np.linspace(0, 1, knots.size), knots))


def drifting(model: Preferences, steps: int, likeness: float, rng: np.random.Generator) -> Preferences:
    """Return preferences that move on: the rows of a task at `steps` consecutive times, one after the other.

    A step keeps the share `likeness` of each log weight and fills up with a new one of the same spread, so that loads
    `n` steps apart are about ``likeness ** n`` alike and no more or less uneven.

    Parameters
    ----------
    model
        Preferences at the start.
    steps
        How many times; 1 is the start alone.
    likeness
        Correlation of log weights from one time to the next; 1 for no drift.
    rng
        Source of the new weights.

    Raises
    ------
    WorkloadError
        If there is no step, or the likeness is none.
    """
    if steps < 1 or not 0 <= likeness <= 1:
        raise WorkloadError(f"routing: drift of {steps} steps at likeness {likeness}: must be at least 1, and 0 to 1")
    now = [model.log_weight]
    spread = model.log_weight.std(axis=-1, keepdims=True)
    for _ in range(steps - 1):
        new = spread * rng.standard_normal(model.log_weight.shape)
        now.append(likeness * now[-1] + np.sqrt(1 - likeness**2) * new)
    names = tuple(name for _ in range(steps) for name in model.tasks)
    return replace(model, tasks=names, log_weight=np.concatenate(now))


def _check(
    statistics: RoutingStatistics,
    layers: int,
    experts: int,
    top_k: int,
    mix: str,
    strength: float,
    n_group: int,
    topk_group: int,
) -> None:
    problems = []
    if min(layers, experts, top_k, n_group, topk_group) < 1:
        problems.append("routing: layers, experts, top_k, n_group and topk_group must be at least 1")
    elif experts % n_group:
        problems.append(f"routing.n_group: {n_group}: does not divide {experts} experts")
    elif top_k > experts // n_group * min(topk_group, n_group):
        within = experts // n_group * min(topk_group, n_group)
        problems.append(f"routing.top_k: {top_k}: more than the {within} experts that a token may use")
    if mix != MIXED and mix not in statistics.task_sigma:
        known = ", ".join((MIXED, *statistics.task_sigma))
        problems.append(f"routing.mix: {mix!r}: unknown task; choose one of {known}")
    if not 0 <= strength <= 10:
        problems.append(f"routing.strength: {strength}: must lie between 0 (uniform) and 10; 1 is as recorded")
    if problems:
        raise WorkloadError(*problems)
