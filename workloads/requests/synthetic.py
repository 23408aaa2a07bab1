"""Requests drawn from distributions: arrivals by a renewal process, lengths by a mean and a spread."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.requests.table import Requests

Arrivals = Literal["poisson", "gamma", "bursty", "even"]
MAX_REQUESTS = 20_000_000
# Azure's conversation hour of 2023 (Azure/AzurePublicDataset, AzureLLMInferenceTrace_conv.csv): means and coefficients
# of variation of the 19,366 requests' lengths, and their longest.
AZURE_PROMPT = (1154.7, 0.96, 14_050)
AZURE_OUTPUT = (211.1, 0.77, 1_000)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths with a log-normal distribution, rounded and cut [tokens].

    Parameters
    ----------
    mean_tokens, variation
        Mean and coefficient of variation before rounding; without variation all are equal.
    longest_tokens
        Longer ones are drawn again by cutting the distribution there.
    """

    mean_tokens: float
    variation: float = 0.0
    longest_tokens: int = 1_000_000

    def draw(self, stream: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return ``[count]`` lengths, at least 1."""
        if self.variation == 0:
            return np.full(count, max(1, round(self.mean_tokens)), dtype=np.int64)
        spread = np.sqrt(np.log1p(self.variation**2))
        values = stream.lognormal(np.log(self.mean_tokens) - spread**2 / 2, spread, count)
        return np.clip(np.rint(values), 1, self.longest_tokens).astype(np.int64)


def synthetic_requests(
    rate_per_s: float,
    count: int,
    prompt: Lengths,
    output: Lengths,
    seed: int,
    arrivals: Arrivals = "poisson",
    variation: float = 1.0,
) -> Requests:
    """Return drawn requests.

    Parameters
    ----------
    rate_per_s
        Mean arrival rate [requests/s].
    count
        Requests.
    arrivals
        Gaps: exponential; gamma; hyperexponential (`bursty`: short gaps in bursts, long ones between); all equal.
    variation
        Coefficient of variation of the gaps, for `gamma` (any) and `bursty` (above 1).

    Raises
    ------
    WorkloadError
        If a figure is out of range.
    """
    problems = [
        f"requests: {name} = {value:g}: {what}"
        for name, value, bad, what in (
            ("rate", rate_per_s, not (np.isfinite(rate_per_s) and rate_per_s > 0), "not a positive number per second"),
            ("count", count, not 1 <= count <= MAX_REQUESTS, f"not between 1 and {MAX_REQUESTS:,}"),
            ("prompt length", prompt.mean_tokens, prompt.mean_tokens < 1, "shorter than a token"),
            ("output length", output.mean_tokens, output.mean_tokens < 1, "shorter than a token"),
            ("variation of gaps", variation, arrivals == "bursty" and variation <= 1, "bursty gaps need more than 1"),
            ("variation of gaps", variation, arrivals == "gamma" and variation <= 0, "gamma gaps need more than 0"),
        )
        if bad
    ]
    if problems:
        raise WorkloadError(*problems)
    gaps = _gaps(np.random.default_rng([seed, *b"arrivals"]), count, arrivals, variation) / rate_per_s
    arrival = np.cumsum(gaps)
    return Requests(
        arrival - arrival[0],
        prompt.draw(np.random.default_rng([seed, *b"prompts"]), count),
        output.draw(np.random.default_rng([seed, *b"outputs"]), count),
        f"synthetic: {arrivals} arrivals at {rate_per_s:g}/s, prompts of {prompt.mean_tokens:g} and outputs of "
        f"{output.mean_tokens:g} tokens on average",
    )


def _gaps(stream: np.random.Generator, count: int, arrivals: Arrivals, variation: float) -> NDArray[np.float64]:
    """Return gaps with mean 1."""
    if arrivals == "even":
        return np.ones(count)
    if arrivals == "gamma":
        shape = 1.0 / variation**2
        return stream.gamma(shape, 1.0 / shape, count)
    if arrivals == "bursty":
        # Two exponentials with balanced means: squared variation = 1 / (2 p (1 - p)) - 1.
        squared = variation**2
        share = (1.0 + np.sqrt((squared - 1.0) / (squared + 1.0))) / 2.0
        short = stream.random(count) < share
        found: NDArray[np.float64] = stream.exponential(1.0, count) / (2.0 * np.where(short, share, 1.0 - share))
        return found
    return stream.exponential(1.0, count)
