"""From the log of a run to service levels, throughput, cost and energy within the window."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.economics import Money, money
from simulator.engine.serving.log import TIMELINE, Log, gap_quantile
from simulator.engine.serving.records import ITERATION_PARTS, Floats
from simulator.phase.machine import machine_sources
from simulator.result import Source
from simulator.scenario_file import digest
from simulator.serve.pools import Deployment, Pool
from simulator.serving_result import PoolResult, ServingResult, Spread
from workloads.requests.table import Requests

COLUMN = {name: index for index, name in enumerate(TIMELINE)}
QUANTILES = (0.5, 0.9, 0.99)
# A run is called unstable if fewer requests than this share of those that came in its last third were done in it, and
# more wait at its end than before.
KEEPS_UP = 0.9
LONG_ENOUGH = 5.0  # arrivals should last so many times what most requests take end to end


def spread(values: Floats) -> Spread:
    """Return mean and percentiles of the known values."""
    known = values[np.isfinite(values)]
    if not known.size:
        return Spread(mean=None, p50=None, p90=None, p99=None)
    p50, p90, p99 = (float(value) for value in np.quantile(known, QUANTILES))
    return Spread(mean=float(known.mean()), p50=p50, p90=p90, p99=p99)


def latencies(log: Log) -> dict[str, Floats]:
    """Return what each request saw, ``[requests]`` [s]; NaN where it was not done, or has one token only (TPOT)."""
    work = log.work
    later = (work.output_tokens - 1).astype(float)
    gained = np.divide(log.finish_s - log.first_s, later, out=np.full(len(work), np.nan), where=later > 0)
    return {
        "ttft_s": log.first_s - work.arrival_s,
        "tpot_s": gained,
        "end_to_end_s": log.finish_s - work.arrival_s,
        "queue_s": log.admitted_s - work.arrival_s,
    }


def serving_result(
    deployed: Deployment,
    requests: Requests,
    log: Log,
    slo: dict[str, float],
    window: tuple[float, float],
    saturation: float,
    notes: Sequence[str],
) -> ServingResult:
    """Return the result of a run; parameters as in `simulator.serve.serve.serve`."""
    end = log.end_s if log.stopped else requests.span_s
    low, high = (share * end for share in window)
    if requests.span_s == 0:  # all at once: there is no steady state to cut out
        low, high = 0.0, log.end_s
    inside = (log.work.arrival_s >= low) & (log.work.arrival_s <= high)
    seen = latencies(log)
    done = inside & np.isfinite(log.finish_s)
    length = max(high - low, 1e-12)
    into, out = _tokens_within(log, low, high)
    ok = _within(seen, slo, done)
    spent = [money(pool.resolved.scenario.economics, pool.resolved.machine.chip, pool.chips) for pool in deployed.pools]
    within = requests.span_s == 0 or requests.rate_per_s <= saturation or bool(log.cached_prefix.any())
    stable = within and not log.stopped and _kept_up(log, requests.span_s)
    counted = {name: spread(values[inside]) for name, values in seen.items()}
    return ServingResult(
        scenario=deployed.scenario.name,
        digest=digest(deployed.scenario),
        seed=deployed.scenario.seed,
        model=deployed.pools[-1].resolved.model.name,
        requests=len(requests),
        source=requests.source,
        offered_per_s=requests.rate_per_s if requests.span_s > 0 else 0.0,
        saturation_per_s=saturation,
        stable=stable,
        window_s=(low, high),
        counted=int(inside.sum()),
        unfinished=int((~np.isfinite(log.finish_s)).sum()),
        end_s=log.end_s,
        chips=deployed.chips,
        inter_token_s=_gaps(log),
        **counted,
        input_tokens_per_s=into / length,
        output_tokens_per_s=out / length,
        input_tokens_per_s_per_chip=into / length / deployed.chips,
        output_tokens_per_s_per_chip=out / length / deployed.chips,
        slo=slo,
        goodput_per_s=float(ok.sum()) / length if slo else None,
        goodput_share=float(ok.sum()) / max(int(inside.sum()), 1) if slo else None,
        cached_share=float(log.cached_prefix.sum() / max(log.work.prompt_tokens[np.isfinite(log.admitted_s)].sum(), 1)),
        preemptions=int(log.preemptions.sum()),
        iterations=log.iterations,
        events=log.events,
        pools=tuple(_pool(pool, index, log) for index, pool in enumerate(deployed.pools)),
        **_money(spent, deployed, log, into / length, out / length),
        sources=_sources(deployed),
        assumptions=(*_assumptions(deployed), *dict.fromkeys(note for each in spent for note in each.assumptions)),
        warnings=(*notes, *_short(counted["end_to_end_s"], requests), *_warnings(stable, log, requests, saturation)),
    )


def sweep_row(result: ServingResult) -> dict[str, float | bool | str | None]:
    """Return what a sweep over rates shows of a result."""
    return {
        "note": f"{result.offered_per_s:,.0f}/s" if result.offered_per_s >= 100 else f"{result.offered_per_s:.3g}/s",
        "stable": result.stable,
        "saturation_per_s": result.saturation_per_s,
        "ttft_p50_s": result.ttft_s.p50,
        "ttft_p99_s": result.ttft_s.p99,
        "tpot_p50_s": result.tpot_s.p50,
        "tpot_p99_s": result.tpot_s.p99,
        "input_tokens_per_s_per_chip": result.input_tokens_per_s_per_chip,
        "output_tokens_per_s_per_chip": result.output_tokens_per_s_per_chip,
        "goodput_share": result.goodput_share,
        "usd_per_million_output_tokens": result.usd_per_million_output_tokens,
        "preemptions": result.preemptions,
    }


def _within(seen: dict[str, Floats], slo: dict[str, float], done: NDArray[np.bool_]) -> NDArray[np.bool_]:
    ok = done.copy()
    for name, limit in slo.items():
        ok &= ~(seen[name] > limit)  # one token only: no TPOT to exceed
    return ok


def _tokens_within(log: Log, low: float, high: float) -> tuple[float, float]:
    """Return prompt and output tokens that came within the window; those of a request evenly from first to last."""
    first, finish = log.first_s, np.where(np.isfinite(log.finish_s), log.finish_s, log.end_s)
    known = np.isfinite(first)
    work = log.work
    counts = known & (first >= low) & (first <= high)
    into = float(work.prompt_tokens[counts].sum())
    made = np.where(np.isfinite(log.finish_s), work.output_tokens, log.tokens) - 1.0
    took = np.where(known, finish - first, 0.0)
    overlap = np.clip(np.minimum(finish, high) - np.maximum(first, low), 0.0, None)
    share = np.divide(overlap, took, out=np.zeros(len(work)), where=known & (took > 0))
    return into, float(counts.sum() + (np.maximum(made, 0.0) * share)[known].sum())


def _kept_up(log: Log, span_s: float) -> bool:
    """Tell whether requests were done as fast as they came in the last third, or no more of them wait than before."""
    arrival, finish = log.work.arrival_s, np.where(np.isfinite(log.finish_s), log.finish_s, np.inf)
    if span_s <= 0:
        return True
    late = 2.0 / 3.0 * span_s
    arrived = int((arrival > late).sum())
    done = int(((finish > late) & (finish <= span_s)).sum())
    before, after = (_waiting(log, at) for at in (late, span_s))
    return done >= KEEPS_UP * arrived or after <= before * 1.2 + 3.0 * np.sqrt(before + 10.0)


def _waiting(log: Log, at_s: float) -> float:
    """Return the requests without a first token, and those that wait for decode instances, at a time."""
    first = np.where(np.isfinite(log.first_s), log.first_s, np.inf)
    waiting = float(((log.work.arrival_s <= at_s) & (first > at_s)).sum())
    rows = timeline_of(log, 1)
    rows = rows[rows[:, 0] <= at_s]
    for instance in np.unique(rows[:, COLUMN["instance"]]):
        waiting += float(rows[rows[:, COLUMN["instance"]] == instance][-1, COLUMN["waiting"]])
    return waiting


def _gaps(log: Log) -> Spread:
    total = log.gaps.sum()
    p50, p90, p99 = (gap_quantile(log.gaps, share) for share in QUANTILES)
    return Spread(mean=log.gap_sum_s / total if total else None, p50=p50, p90=p90, p99=p99)


def timeline_of(log: Log, pool: int) -> Floats:
    """Return the rows of one pool, ``[rows, len(TIMELINE)]``, in order of time."""
    rows = np.array(log.timeline).reshape(-1, len(TIMELINE))
    rows = rows[rows[:, COLUMN["pool"]] == pool]
    ordered: Floats = rows[np.argsort(rows[:, 0], kind="stable")]
    return ordered


def _pool(pool: Pool, index: int, log: Log) -> PoolResult:
    rows = timeline_of(log, index)
    spec, target = pool.spec, pool.resolved
    weight = rows[:, COLUMN["step_s"]] * rows[:, COLUMN["iterations"]]
    busy = float(weight.sum())
    iterations = int(rows[:, COLUMN["iterations"]].sum())
    total = spec.rank_blocks * spec.ranks
    parts = log.parts_s[index].copy()
    parts[-1] = max(spec.instances * log.end_s - parts[:-1].sum(), 0.0)
    mean = [float((rows[:, COLUMN[name]] * weight).sum()) / busy if busy else 0.0 for name in ("decoding", "kv_blocks")]
    return PoolResult(
        pool=pool.name,
        chip=target.machine.chip.name,
        chips=pool.chips,
        instances=spec.instances,
        ranks_per_instance=spec.ranks,
        plan={"TP": target.layout.tensor, "DP": target.layout.data, "EP": target.layout.expert},
        kv_tokens_per_rank=pool.kv_tokens,
        max_sequences_per_rank=spec.max_sequences,
        token_budget=spec.token_budget,
        iterations=iterations,
        iteration_s=busy / iterations if iterations else None,
        batch=mean[0] / spec.ranks,
        kv_occupancy=mean[1] / total,
        kv_occupancy_peak=float(rows[:, COLUMN["kv_blocks"]].max(initial=0.0)) / total,
        breakdown=dict(zip(ITERATION_PARTS, (parts / max(parts.sum(), 1e-12)).tolist(), strict=True)),
    )


def _money(spent: list[Money], deployed: Deployment, log: Log, into: float, out: float) -> dict[str, float | None]:
    """Return cost and energy per token; what instances that do both cost is shared by the time of either."""
    hourly = [each.usd_per_hour for each in spent]
    power = [each.power_w for each in spent]
    known = [each for each in hourly if each is not None]
    watts = [each for each in power if each is not None]
    prompts = decode = None
    if len(known) == len(spent):
        share = 1.0
        if len(spent) == 1:
            busy = float(log.parts_s[0, :-1].sum())
            share = float(log.prompt_s[0]) / busy if busy else 0.0
        prompts = known[0] * share
        decode = sum(known) - prompts
    return {
        "usd_per_hour": sum(known) if len(known) == len(spent) else None,
        "usd_per_million_input_tokens": prompts / 3600 / into * 1e6 if prompts is not None and into else None,
        "usd_per_million_output_tokens": decode / 3600 / out * 1e6 if decode is not None and out else None,
        "energy_j_per_output_token": sum(watts) / out if len(watts) == len(spent) and out else None,
    }


def _sources(deployed: Deployment) -> tuple[Source, ...]:
    found: dict[str, Source] = {}
    for pool in deployed.pools:
        resolved = pool.resolved
        exchange = resolved.scenario.transport.library or resolved.mode.replace("-", "_")
        model = Source(what=f"{resolved.model.name}: dimensions", kind="datasheet", source=resolved.model.source)
        for source in (model, *machine_sources(resolved.machine, [exchange, "copies"])):
            found.setdefault(source.what, source)
    return tuple(found.values())


def _assumptions(deployed: Deployment) -> tuple[str, ...]:
    notes = [
        "ranks of an instance run in lock step: an iteration ends with the rank whose attention takes longest and with "
        "the mean wait for the busiest expert rank",
        "saturation is that of full batches with all ranks alike and nothing cached; uneven ranks reach less",
        "warm-up and drain are left out: the window counts requests that arrive, and tokens that come, within it; "
        "inter-token times, preemptions and shares of time count the whole run",
    ]
    if len(deployed.pools) == 1:
        notes.append("projections of prompt and decode tokens of one iteration are counted one after the other")
        notes.append("cost is shared between input and output by their tokens in each iteration")
    return (*notes, *deployed.notes)


def _short(end_to_end: Spread, requests: Requests) -> list[str]:
    if requests.span_s == 0 or end_to_end.p90 is None or requests.span_s > LONG_ENOUGH * end_to_end.p90:
        return []
    return [
        f"short run: requests arrive for {requests.span_s:.3g} s, one in ten takes more than {end_to_end.p90:.3g} s, "
        "so load is still rising in the window and throughput is too low; use more requests"
    ]


def _warnings(stable: bool, log: Log, requests: Requests, saturation: float) -> list[str]:
    if stable:
        return []
    told = (
        f"unstable: {requests.rate_per_s:.3g} requests/s offered, about {saturation:.3g}/s is what the instances take"
    )
    if log.stopped:
        return [f"{told}; stopped after {log.end_s:.3g} s with most of the later requests waiting"]
    return [f"{told}; latencies grow with the length of the run"]
