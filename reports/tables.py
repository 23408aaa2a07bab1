"""The answer of a run as text of at most 100 columns, alone or beside others."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.comparison import comparison_table
from reports.facts import facts_table, source_table
from reports.frame_tables import sweep_table, validation_table
from reports.limits import limit_table
from reports.operations import operations_table
from reports.serving_errors import serving_errors_table
from reports.text import Bar, bullets, cell, console, pairs, render, table
from reports.training_errors import training_errors_table
from simulator import units
from simulator.result import PART_LABELS, MemoryUse, Result

__all__ = [
    "comparison_table",
    "console",
    "facts_table",
    "limit_table",
    "memory_table",
    "operations_table",
    "render",
    "result_table",
    "serving_errors_table",
    "source_table",
    "sweep_table",
    "training_errors_table",
    "validation_table",
]

_FIDELITY = {"analytic": "analytic estimate", "des": "event simulation"}


def result_table(result: Result) -> RenderableType:
    """Return the report of one run: headline, time by part, memory, energy and cost, sources, assumptions, warnings."""
    blocks: list[RenderableType] = [
        _heading(result),
        pairs(_headline(result)),
        Text(),
        _breakdown_table(result),
        memory_table(result.memory),
        pairs(_economics(result)),
    ]
    if result.sources:
        kinds = Counter(source.kind for source in result.sources)
        figures = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        blocks += [Text(), cell(f"figures used: {figures}", "dim")]
    if result.assumptions:
        blocks += [Text(), bullets("Assumptions", result.assumptions)]
    if result.warnings:
        blocks += [Text(), bullets("Warnings", result.warnings, "yellow")]
    return Group(*blocks)


def _heading(result: Result) -> RenderableType:
    ranks = "" if result.ranks == result.chips else f", {units.count(result.ranks)} ranks"
    title = f"{result.scenario}: {result.model} {result.phase} on {units.count(result.chips)} x {result.chip}"
    fidelity = _FIDELITY[result.fidelity]
    detail = f"{result.cluster}{ranks}; {fidelity}, seed {result.seed}, scenario digest {result.digest[:12]}"
    return Group(cell(title, "bold"), cell(detail, "dim"), cell(f"plan: {plan_line(result)}"), Text())


def plan_line(result: Result) -> str:
    """Return the parallel plan in one line: `expert 64, pipeline 16, schedule 1f1b`."""
    return ", ".join(f"{name} {value}" for name, value in result.plan.items())


def _headline(result: Result) -> list[tuple[str, str]]:
    step = "step" if result.phase == "training" else "iteration"
    rows = [
        ("throughput", units.tokens_per_s(result.tokens_per_s)),
        ("per chip", units.tokens_per_s(result.tokens_per_s_per_chip)),
        (step, units.seconds(result.step_s)),
        (f"tokens per {step}", units.tokens(result.tokens_per_step)),
        ("MFU of BF16 peak", units.percent(result.mfu)),
    ]
    if result.ttft_s is not None:
        rows.append(("TTFT", units.seconds(result.ttft_s)))
    if result.tpot_s is not None:
        rows.append(("TPOT", units.seconds(result.tpot_s)))
    if result.imbalance is not None:
        rows.append(("busiest EP rank", f"{units.ratio(result.imbalance)} the mean"))
    return rows


def _breakdown_table(result: Result) -> Table:
    names = sorted(result.breakdown_s, key=lambda part: -result.breakdown_s[part])
    shares = units.shares([result.breakdown_s[name] for name in names])
    made = table("Where the time goes", "part", "time", "share", "", left=(0, 3))
    longest = max(result.breakdown_s.values(), default=0.0)
    for name, share in zip(names, shares, strict=True):
        part_s = result.breakdown_s[name]
        if part_s > 0.0:
            style = "bold" if part_s == longest else ""
            bar = Bar(part_s / longest, "cyan" if style else "blue")
            label = cell(PART_LABELS.get(name, name), style)
            made.add_row(label, cell(units.seconds(part_s), style), cell(share, style), bar)
    made.add_section()
    made.add_row(cell("total"), cell(units.seconds(result.step_s)), cell("100.0 %"), cell(""))
    return made


def memory_table(memory: Sequence[MemoryUse]) -> Table:
    """Return the memory of each rank class against its capacity, with what fills it, largest first.

    Neighbouring classes that hold the same share a line.
    """
    made = table("Memory per rank", "rank class", "used", "capacity", "free", "filled by", left=(0, 4))
    for _, group in groupby(memory, key=lambda use: tuple(use.items.items())):
        uses = list(group)
        use, name = uses[0], uses[0].rank_class
        if len(uses) > 1:
            name += f" to {uses[-1].rank_class.split()[-1]}"
        fits = use.short_bytes == 0.0
        free = units.binary_bytes(use.capacity_bytes - use.total_bytes)
        largest = sorted(use.items.items(), key=lambda item: -item[1])
        filling = ", ".join(f"{part} {units.binary_bytes(size)}" for part, size in largest if size > 0.0)
        made.add_row(
            cell(name),
            cell(units.binary_bytes(use.total_bytes)),
            cell(units.binary_bytes(use.capacity_bytes)),
            cell(free if fits else f"short by {units.binary_bytes(use.short_bytes)}", "" if fits else "bold red"),
            cell(filling, "dim"),
        )
    return made


def _economics(result: Result) -> list[tuple[str, str]]:
    return [
        ("power, whole cluster", units.watts(result.power_w)),
        ("energy per token", units.joules(result.energy_j_per_token)),
        ("cost per hour", units.usd(result.usd_per_hour)),
        ("cost per million tokens", units.usd(result.usd_per_million_tokens)),
    ]
