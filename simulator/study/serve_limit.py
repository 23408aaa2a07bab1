"""The largest load that keeps a service level, in steady state, by bisection."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from simulator.cost.collectives import transfer
from simulator.errors import UserError
from simulator.phase.machine import machine
from simulator.phase.queueing import wait_quantile_s
from simulator.phase.setup import setup
from simulator.phase.steady import Point, SteadyState
from simulator.scenario import Scenario
from workloads.models import load_model
from workloads.operators import BYTES, kv_bytes_per_sequence

LARGEST_BATCH = 65_536
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest load of an instance under a service level.

    Parameters
    ----------
    pool
        prefill or decode.
    level_s
        TPOT or TTFT that was asked for [s].
    reached_s
        That of the load found [s].
    batch_per_rank, context
        Sequences per attention-DP rank, and tokens of each (KV length or prompt).
    requests_per_s
        Arrivals that the instance keeps up with [1/s].
    tokens_per_s_per_chip
        Tokens out (decode) or in (prefill) [1/s].
    bound_by
        What forbids more: the level, or memory.
    """

    pool: str
    scenario: str
    cluster: str
    chips: int
    level_s: float
    reached_s: float
    batch_per_rank: float
    context: float
    requests_per_s: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    bound_by: str

    def row(self) -> dict[str, Any]:
        """Return the limit as a row of a table."""
        return asdict(self)


def decode_limit(state: SteadyState, tpot_s: float, output_tokens: float) -> Limit:
    """Return the largest whole batch per rank whose TPOT stays within the level and whose KV cache fits.

    Parameters
    ----------
    tpot_s
        The level [s].
    output_tokens
        Tokens that a request gets, for the rate of requests.

    Raises
    ------
    UserError
        If one sequence per rank is too much already.
    """
    scenario = state.resolved.scenario
    context = float(scenario.workload.sequence_tokens)
    points: dict[int, Point] = {}

    def keeps(batch: int) -> bool:
        points[batch] = state.point(batch, context)
        return points[batch].fits and (points[batch].tpot_s or 0.0) <= tpot_s

    if not keeps(1):
        first = points[1]
        if not first.fits:
            worst = max(first.memory, key=lambda use: use.short_bytes)
            raise UserError(
                f"{scenario.name}: memory: one sequence per rank is short by {worst.short_bytes / 2**30:.1f} GiB; use "
                "more ranks, or narrower weights"
            )
        raise UserError(
            f"--tpot: {1e3 * tpot_s:g} ms: one sequence per rank takes {1e3 * (first.tpot_s or 0.0):.1f} ms already; "
            "allow more, or use more tensor parallelism"
        )
    low, high = 1, 2
    while high <= LARGEST_BATCH and keeps(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    found, next_one = points[low], points.get(low + 1)
    bound = "memory" if next_one is not None and not next_one.fits else "TPOT"
    return _limit(state, "decode", tpot_s, found.tpot_s or 0.0, found, found.tokens_per_s / output_tokens, bound)


def prefill_limit(state: SteadyState, ttft_s: float, quantile: float, transfer_s: float) -> Limit:
    """Return the largest rate of Poisson arrivals whose TTFT stays within the level.

    An iteration takes the scenario's tokens per rank, however few requests are there. A request waits for the one under
    way and for those before it (`simulator.phase.queueing`), and then its keys and values travel.

    Parameters
    ----------
    ttft_s
        The level [s].
    quantile
        Share of the requests that must keep it.
    transfer_s
        Time that keys and values of a prompt take to the decode pool [s].

    Raises
    ------
    UserError
        If a request that need not wait misses the level.
    """
    scenario = state.resolved.scenario
    prompt, amount = float(scenario.workload.sequence_tokens), float(scenario.workload.tokens_per_rank or 0)
    found = state.point(amount, prompt)
    served = amount / prompt * state.resolved.layout.data
    alone_s = found.step_s + transfer_s
    if alone_s > ttft_s:
        raise UserError(
            f"--ttft: {ttft_s:g} s: an iteration and the transfer of keys and values take {alone_s:.3g} s without any "
            "waiting; allow more, or use fewer workload.tokens_per_rank"
        )

    def reached_s(load: float) -> float:
        return alone_s + wait_quantile_s(found.step_s, served, load, quantile)

    load = _largest(lambda share: reached_s(share) <= ttft_s)
    bound = "TTFT" if reached_s(0.999) > ttft_s else "throughput"
    rate = load * served / found.step_s
    held = replace(found, tokens_per_s=rate * prompt)
    return _limit(state, "prefill", ttft_s, reached_s(load), held, rate, bound)


def _largest(keeps: Callable[[float], bool]) -> float:
    """Return the largest share of the capacity that keeps the level; queues need some to spare."""
    low, high = 0.0, 0.999
    if keeps(high):
        return high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


def _limit(
    state: SteadyState, pool: str, level_s: float, reached_s: float, found: Point, requests_per_s: float, bound: str
) -> Limit:
    target = state.resolved.machine
    decode = pool == "decode"
    return Limit(
        pool,
        state.resolved.scenario.name,
        target.spec.name,
        target.chips,
        level_s,
        reached_s,
        found.amount if decode else found.amount / found.context,
        found.context,
        requests_per_s,
        found.tokens_per_s,
        found.tokens_per_s / target.chips,
        bound,
    )


def transfer_time_s(scenario: Scenario, prompt: float) -> float:
    """Return how long the keys and values of one prompt take from a rank to one of another node of its cluster [s].

    The prefill rank that holds the sequence writes all layers at once, alone on its way.
    """
    model, precision = load_model(scenario.model.name), scenario.precision
    size = float(kv_bytes_per_sequence(model, prompt, BYTES[precision.kv]))
    spec_machine = machine(scenario)
    per_node = spec_machine.spec.chips_per_node
    if spec_machine.chips < 2 * per_node:
        wider = scenario.cluster.model_copy(update={"chips": 2 * per_node})
        spec_machine = machine(scenario.model_copy(update={"cluster": wider}))
    network = spec_machine.network
    source, target = np.array([0], np.int32), np.array([network.ranks_per_node], np.int32)
    sizes = np.array([size / scenario.plan.tensor])
    return transfer(network, source, target, sizes, spec_machine.calibrations.fabric).time_s


@dataclass(frozen=True, slots=True)
class Pools:
    """A decode instance, and the prefill instances that feed it.

    Parameters
    ----------
    prefill_per_decode
        Prefill instances per decode instance.
    tokens_per_s_per_chip
        Tokens out per chip of both pools [1/s].
    transfer_s
        Keys and values of one prompt, over the slower of the two pools' networks [s].
    """

    decode: Limit
    prefill: Limit | None = None
    prefill_per_decode: float = 0.0
    tokens_per_s_per_chip: float = 0.0
    transfer_s: float = 0.0


def pools(
    decode: Scenario,
    prefill: Scenario | None,
    tpot_s: list[float],
    ttft_s: float | None,
    output_tokens: float,
    quantile: float,
) -> list[Pools]:
    """Return the largest loads at each TPOT level, with as many prefill instances as the decode instance needs.

    The pools may be of different machines: keys and values take the slower of their networks.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If a scenario can't be run, has another phase, or cannot keep its level.
    """
    _check(decode, prefill, ttft_s)
    state = SteadyState(setup(decode))
    if prefill is None or ttft_s is None:
        limits = [decode_limit(state, level, output_tokens) for level in tpot_s]
        return [Pools(limit, tokens_per_s_per_chip=limit.tokens_per_s_per_chip) for limit in limits]
    prompt = float(prefill.workload.sequence_tokens)
    transfer_s = max(transfer_time_s(pool, prompt) for pool in (decode, prefill))
    feeding = prefill_limit(SteadyState(setup(prefill)), ttft_s, quantile, transfer_s)
    found = []
    for level in tpot_s:
        limit = decode_limit(state, level, output_tokens)
        share = limit.requests_per_s / feeding.requests_per_s if feeding.requests_per_s else float("inf")
        chips = limit.chips + share * feeding.chips
        found.append(Pools(limit, feeding, share, limit.tokens_per_s / chips, transfer_s))
    return found


def _check(decode: Scenario, prefill: Scenario | None, ttft_s: float | None) -> None:
    problems = []
    if decode.workload.phase != "decode":
        problems.append(f"{decode.name}: phase '{decode.workload.phase}'; the first scenario must be of phase 'decode'")
    if prefill is not None and prefill.workload.phase != "prefill":
        problems.append(f"--prefill: {prefill.name}: phase '{prefill.workload.phase}'; give one of phase 'prefill'")
    if (prefill is None) != (ttft_s is None):
        problems.append("--ttft: goes with --prefill SCENARIO, the pool that it holds for; give both, or neither")
    if prefill is not None and prefill.model.name != decode.model.name:
        problems.append(f"--prefill: model '{prefill.model.name}', but '{decode.model.name}' decodes; use one model")
    if problems:
        raise UserError(*problems)
