"""Request-level results as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from reports.text import bullets, cell, pairs, table
from simulator import units
from simulator.serving_result import PoolResult, ServingResult, Spread

LEVELS = {
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "inter_token_s": "between tokens",
    "end_to_end_s": "end to end",
    "queue_s": "until taken in",
}
PART_NAMES = {
    "attention": "attention",
    "experts": "experts",
    "head": "head, drafts",
    "dispatch": "dispatch",
    "combine": "combine",
    "tensor_parallel": "TP",
    "imbalance_wait": "imbalance",
    "overhead": "launch, host",
    "transfer": "loads",
    "idle": "idle",
}


def level_rows(result: ServingResult) -> list[dict[str, Any]]:
    """Return the service levels as rows."""
    spreads: dict[str, Spread] = {name: getattr(result, name) for name in LEVELS}
    return [{"level": name, **spread.model_dump()} for name, spread in spreads.items()]


def serving_tables(result: ServingResult) -> Iterator[RenderableType]:
    """Yield the tables of a result: levels, rates, pools, notes."""
    levels = table(result.scenario, "", "mean", "p50", "p90", "p99")
    for row in level_rows(result):
        levels.add_row(
            cell(LEVELS[row["level"]]), *(cell(units.seconds(row[key])) for key in ("mean", "p50", "p90", "p99"))
        )
    yield levels
    yield pairs(_facts(result))
    yield _pools(result.pools)
    if result.warnings:
        yield bullets("Warnings", result.warnings, "yellow")
    yield bullets("Assumptions", result.assumptions)


def sweep_rows_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the rows of a sweep over rates as a table."""
    made = table("Rates", "scenario", "rate/s", "stable", "TTFT p50", "p99", "TPOT p50", "p99", "out/s/chip", "goodput")
    for row in rows:
        times = [cell(units.seconds(row[name])) for name in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s")]
        made.add_row(
            cell(row["label"]),
            cell(units.number(row["rate"])),
            cell("yes" if row["stable"] else "NO"),
            *times,
            cell(units.number(row["output_tokens_per_s_per_chip"])),
            cell(units.percent(row["goodput_share"])),
        )
    return made


def _facts(result: ServingResult) -> Iterator[tuple[str, str]]:
    low, high = result.window_s
    yield "requests", f"{units.count(result.requests)}, {units.count(result.counted)} counted"
    yield "window", f"{units.seconds(low)} to {units.seconds(high)} of {units.seconds(result.end_s)}"
    yield "offered", f"{units.number(result.offered_per_s)} requests/s"
    yield "saturation", f"{units.number(result.saturation_per_s)} requests/s"
    yield "stable", "yes" if result.stable else "NO"
    yield "chips", units.count(result.chips)
    yield (
        "input",
        f"{units.tokens_per_s(result.input_tokens_per_s)}, {units.number(result.input_tokens_per_s_per_chip)}/chip",
    )
    yield (
        "output",
        f"{units.tokens_per_s(result.output_tokens_per_s)}, {units.number(result.output_tokens_per_s_per_chip)}/chip",
    )
    if result.goodput_per_s is not None:
        limits = ", ".join(f"{LEVELS[name]} {units.seconds(limit)}" for name, limit in result.slo.items())
        yield (
            f"goodput ({limits})",
            f"{units.number(result.goodput_per_s)} requests/s, {units.percent(result.goodput_share)}",
        )
    yield "cached prompt tokens", units.percent(result.cached_share)
    yield "preemptions", units.count(result.preemptions)
    yield "cost per M tokens in", units.usd(result.usd_per_million_input_tokens)
    yield "cost per M tokens out", units.usd(result.usd_per_million_output_tokens)
    yield "energy per token out", units.joules(result.energy_j_per_output_token)
    yield "iterations", units.count(result.iterations)


def _decoding(pool: PoolResult) -> str:
    return f"{units.number(pool.batch)} of {pool.max_sequences_per_rank}" if pool.pool != "prefill" else units.UNKNOWN


def _pools(pools: tuple[PoolResult, ...]) -> RenderableType:
    made = table("Pools", "", *(pool.pool for pool in pools))
    shape = [f"{pool.instances} x {', '.join(f'{key} {size}' for key, size in pool.plan.items())}" for pool in pools]
    rows: list[tuple[str, list[str]]] = [
        ("instances", shape),
        ("chips", [f"{units.count(pool.chips)} {pool.chip}" for pool in pools]),
        ("mean iteration", [units.seconds(pool.iteration_s) for pool in pools]),
        ("decoding per rank", [_decoding(pool) for pool in pools]),
        ("KV tokens per rank", [units.count(pool.kv_tokens_per_rank) for pool in pools]),
        ("KV in use", [f"{units.percent(p.kv_occupancy)}, peak {units.percent(p.kv_occupancy_peak)}" for p in pools]),
    ]
    for name, columns in rows:
        made.add_row(cell(name), *(cell(column) for column in columns))
    shares = [units.shares(list(pool.breakdown.values())) for pool in pools]
    for index, part in enumerate(pools[0].breakdown):
        if any(pool.breakdown[part] > 0 for pool in pools):
            made.add_row(cell(f"  {PART_NAMES.get(part, part)}"), *(cell(share[index]) for share in shares))
    return made
