"""How often each expert is chosen: closed form of a softmax-like router with random preferences.

A sequence s of task t weighs expert e of layer l by
``log w = depth[l] * (common * a[l,e] + task[t] * b[t,l,e] + sequence * c[s,l,e])`` with standard normal a, b, c. A
token draws its top-k by successive sampling without replacement, that is, the k largest of log w + Gumbel noise.

Equivalently, expert e rings after an exponential time of rate w_e, and the first k to ring are chosen. Replacing
"the first k" by "all before time tau", with tau such that k ring on average, makes the experts independent and the
chance of each ``1 - exp(-tau w_e)``.

Source: Gumbel top-k, Kool et al. 2019 (arXiv:1903.06059) section 3; exponential clocks, Yellott 1977; Poissonisation,
Rosen 1997 (J. Stat. Plan. Inference 62). Group limit: a token may use the topk_group groups with the highest single
score, as in DeepSeek-V2 (arXiv:2405.04434) section 2.2.2; DeepSeek-V3 sums each group's two best instead.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.spec import RoutingStatistics

MIXED = "mixed"
_QUADRATURE_NODES = 3  # exact to the fifth degree; more changes nothing that matters at the fitted spreads
_ITERATIONS = 200
_TOLERANCE = 1e-10
_TINY, _LATEST = 1e-300, 1e200  # keep the clock finite where fewer than `total` can ring

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Popularity:
    """Expected routing of one model under each task: what placement is computed from and counts are drawn from.

    Parameters
    ----------
    tasks
        Names, one per row of the arrays.
    mean
        ``[tasks, layers, experts]`` chance that a token is routed to an expert; sums to top_k over experts.
    variance
        ``[tasks, layers, experts]`` variance of that chance between sequences of one task.
    """

    tasks: tuple[str, ...]
    mean: Floats
    variance: Floats

    @property
    def expected(self) -> Floats:
        """``[layers, experts]`` chance that a token is routed to an expert, all tasks equally likely."""
        return np.asarray(self.mean.mean(axis=0))

    @property
    def top_k(self) -> int:
        """Experts per token."""
        return round(float(self.mean[0, 0].sum()))


def popularity(
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
) -> Popularity:
    """Draw the persistent preferences of a model and return how often each expert is chosen.

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
        Factor on all spreads: 0 is uniform routing, 1 as recorded.
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
    depth = strength * depth_scale(statistics, layers)[:, None]
    task_sigma = np.array(list(statistics.task_sigma.values()))[chosen, None, None]
    log_weight = depth * (statistics.common_sigma * common + task_sigma * by_task[chosen])
    sequence_sigma = depth * statistics.sequence_sigma
    nodes, shares = np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES if sequence_sigma.any() else 1)
    shares = shares / shares.sum()
    log_weight = log_weight[..., None, :] + (sequence_sigma * nodes)[..., None]
    chance = inclusion(log_weight, shares, top_k, n_group, topk_group)
    mean = np.einsum("tlne,n->tle", chance, shares)
    variance = np.einsum("tlne,n->tle", (chance - mean[:, :, None, :]) ** 2, shares)
    return Popularity(tuple(names[i] for i in chosen), mean, variance)


def depth_scale(statistics: RoutingStatistics, layers: int) -> Floats:
    """Return the ``[layers]`` scale of the spreads, interpolated by relative depth."""
    profile = np.asarray(statistics.depth_profile)
    at = np.linspace(0, 1, layers) if layers > 1 else np.array([0.5])
    return np.asarray(np.interp(at, np.linspace(0, 1, profile.size), profile))


def inclusion(log_weight: Floats, shares: Floats, top_k: int, n_group: int = 1, topk_group: int = 1) -> Floats:
    """Return the chance that each expert is among a token's top-k.

    Parameters
    ----------
    log_weight
        ``[..., nodes, experts]`` log weights of some kinds of sequence.
    shares
        ``[nodes]`` share of each kind; the chances sum to top_k over experts on this average.
    top_k, n_group, topk_group
        Experts per token; expert groups, and how many of them a token may use.
    """
    if top_k >= log_weight.shape[-1]:
        return np.ones_like(log_weight)
    # log weights are relative, so the largest may be 1: nothing overflows
    weight = np.exp(log_weight - log_weight.max(axis=(-1, -2), keepdims=True))
    if topk_group >= n_group:
        return ring_chance(weight, shares, top_k)
    grouped = weight.reshape(*weight.shape[:-1], n_group, -1).sum(axis=-1)
    deadline = _clock(grouped, shares, topk_group)[0]
    others = np.repeat(grouped, weight.shape[-1] // n_group, axis=-1) - weight
    # an expert that rings after its group's deadline counts only if another expert of the group rang before it
    return _clock(weight, shares, top_k, (deadline, np.exp(-others * deadline)))[1]


def ring_chance(weight: Floats, shares: Floats, total: float) -> Floats:
    """Return ``1 - exp(-tau weight)`` with tau such that `total` ring on average.

    Parameters
    ----------
    weight
        ``[..., nodes, items]`` rates.
    shares
        ``[nodes]`` weights of the average; they sum to 1.
    total
        Expected number of rings, less than the items with a positive rate.
    """
    return _clock(weight, shares, total)[1]


def _clock(
    weight: Floats, shares: Floats, total: float, late: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """Return the time by which `total` ring on average, and each one's chance.

    `late` is a deadline and the chance that a ring after it is lost. The expected number of rings is concave in the
    time, so Newton's method from the left never oversteps.
    """
    shared = shares[:, None]
    clock = total / (weight * shared).sum(axis=(-1, -2), keepdims=True)
    for _ in range(_ITERATIONS):
        silent = np.exp(-clock * weight)
        chance, rate = 1 - silent, weight * silent
        if late is not None:
            deadline, lost = late
            chance -= lost * np.maximum(np.exp(-deadline * weight) - silent, 0)
            rate *= 1 - lost * (clock > deadline)
        missing = total - (chance * shared).sum(axis=(-1, -2), keepdims=True)
        if (missing <= _TOLERANCE * total).all():
            break
        slope = (rate * shared).sum(axis=(-1, -2), keepdims=True)
        clock = np.minimum(clock + np.maximum(missing, 0) / np.maximum(slope, _TINY), _LATEST)
    return clock, chance


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
