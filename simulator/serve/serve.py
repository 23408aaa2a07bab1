"""One scenario and its requests in, service levels out."""

from dataclasses import dataclass

import numpy as np

from simulator.engine.serving.log import Log
from simulator.engine.serving.records import Ints, Work
from simulator.engine.serving.simulate import simulate_serving
from simulator.errors import UserError
from simulator.scenario import Scenario
from simulator.serve.pools import Deployment, deployment
from simulator.serve.saturation import saturation_per_s
from simulator.serve.statistics import serving_result
from simulator.serving_result import ServingResult
from workloads.requests.table import Requests

# A run ends early once so many requests wait that it can't keep up: this share of all, and at least so many.
STOP_SHARE, STOP_LEAST = 0.25, 5_000


@dataclass(frozen=True, slots=True)
class Served:
    """A result, and what it was counted from."""

    result: ServingResult
    log: Log
    deployed: Deployment


def serve(
    scenario: Scenario,
    requests: Requests,
    slo: dict[str, float] | None = None,
    window: tuple[float, float] = (0.1, 0.9),
    drop_too_long: bool = False,
    notes: tuple[str, ...] = (),
) -> Served:
    """Serve requests by a scenario's instances.

    Parameters
    ----------
    slo
        Limits of a request, by `ttft_s` and `tpot_s` [s].
    window
        Shares of the arrival span between which requests are counted; before is warm-up, after is drain.
    drop_too_long
        Leave out requests that no rank can hold, instead of refusing them.
    notes
        What is known of the requests, for the result's warnings.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario can't be served, or requests are too long for it.
    """
    if not 0.0 <= window[0] < window[1] <= 1.0:
        raise UserError(f"window {window[0]:g} to {window[1]:g}: not two rising shares between 0 and 1")
    deployed = deployment(scenario, float(requests.prompt_tokens.mean()))
    kept, dropped = _fitting(deployed, requests, drop_too_long)
    work = as_work(deployed, kept)
    log = simulate_serving(deployed.system, work, max(STOP_LEAST, int(STOP_SHARE * len(work))))
    saturation = saturation_per_s(deployed, work)
    result = serving_result(deployed, kept, log, slo or {}, window, saturation, (*notes, *dropped))
    return Served(result, log, deployed)


def _fitting(deployed: Deployment, requests: Requests, drop: bool) -> tuple[Requests, tuple[str, ...]]:
    """Return the requests that fit the model's context and every rank's KV memory."""
    total = requests.prompt_tokens + requests.output_tokens
    limits = [(f"KV memory of a {pool.name} rank", pool.kv_tokens) for pool in deployed.pools]
    context = deployed.pools[-1].resolved.model.context
    if context is not None:
        limits.append(("the model's context", context))
    problems = []
    fits = np.ones(len(requests), dtype=np.bool_)
    for what, limit in limits:
        over = total > limit
        if over.any():
            fits &= ~over
            problems.append(
                f"requests: {int(over.sum()):,} of {len(requests):,} are longer than {what} of {limit:,} tokens (the "
                f"first is number {int(over.argmax()) + 1}, the longest has {int(total.max()):,})"
            )
    if problems and not drop:
        raise UserError(*(f"{problem}; shorten them, or --skip-bad-lines leaves them out" for problem in problems))
    if not fits.any():
        raise UserError("requests: none is left; give shorter requests, or more KV memory per rank")
    return (requests.taken(fits) if problems else requests), tuple(f"{problem}: left out" for problem in problems)


def as_work(deployed: Deployment, requests: Requests) -> Work:
    """Return requests with the decode iterations that each takes.

    With drafts the iterations of n tokens are drawn: each brings one token, and one more for every draft that is
    accepted before the first that is not.
    """
    resolved = deployed.pools[-1].resolved
    acceptance, drafts = resolved.scenario.workload.mtp_acceptance, resolved.model.mtp_layers
    later = requests.output_tokens - 1
    steps = later
    if acceptance and drafts:
        stream = np.random.default_rng([deployed.scenario.seed, *b"acceptance"])
        steps = _drawn_steps(stream, later, acceptance, drafts)
    return Work(
        requests.arrival_s,
        requests.prompt_tokens,
        requests.output_tokens,
        steps,
        requests.prefix_blocks,
        requests.prefix_starts,
        requests.prefix_block_tokens,
        requests.priority,
    )


def _drawn_steps(stream: np.random.Generator, tokens: Ints, acceptance: float, drafts: int) -> Ints:
    """Return ``[requests]`` iterations, by the normal limit of the sum of their gains, between its bounds."""
    powers = acceptance ** np.arange(1, drafts + 1)
    mean = 1.0 + powers.sum()
    # Gains are 1 + min(geometric, drafts): E[extra^2] = sum of (2 k - 1) p^k.
    variance = float(((2 * np.arange(1, drafts + 1) - 1) * powers).sum() - powers.sum() ** 2)
    spread = np.sqrt(variance * tokens / mean**3)
    drawn = np.rint(tokens / mean + spread * stream.standard_normal(len(tokens)))
    bounded: Ints = np.clip(drawn, -(-tokens // (1 + drafts)), tokens).astype(np.int64)
    return bounded
