"""How often each expert is chosen, and how much sequences differ in that: closed form of a softmax-like router."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.routing.preferences import MIXED, Preferences, preferences
from workloads.routing.spec import RoutingStatistics

_QUADRATURE_NODES = 3  # exact to the fifth degree; more changes nothing that matters at the fitted spreads

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
    persistence
        ``[layers]`` share of a token's picks that repeat those of the token before it in its sequence.
    """

    tasks: tuple[str, ...]
    mean: Floats
    variance: Floats
    persistence: Floats

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

    Parameters and errors as `preferences`.
    """
    drawn = preferences(
        statistics,
        layers,
        experts,
        top_k,
        rng,
        mix=mix,
        strength=strength,
        n_group=n_group,
        topk_group=topk_group,
    )
    return expected_popularity(drawn)


def expected_popularity(model: Preferences) -> Popularity:
    """Return how often each expert is chosen, averaged over sequences, and how much sequences differ."""
    sigma = model.sequence_sigma
    nodes, shares = np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES if sigma.any() else 1)
    shares = shares / shares.sum()
    log_weight = model.log_weight[..., None, :] + (sigma[:, None] * nodes)[..., None]
    chance = model.chance(log_weight, shares)
    mean = np.einsum("tlne,n->tle", chance, shares)
    variance = np.einsum("tlne,n->tle", (chance - mean[:, :, None, :]) ** 2, shares)
    return Popularity(model.tasks, mean, variance, model.ties.persistence)
