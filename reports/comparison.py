"""Several runs side by side, with ratios against the first."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports.text import bullets, cell, table
from simulator import units
from simulator.result import PART_LABELS, PARTS, Result

COLUMNS = 4  # runs that fit side by side in 100 columns; more follow in further tables beside the first run again
SMALLEST_SHARE = 0.005


class Metric(NamedTuple):
    """A row of the comparison: how to read it off a result, how to write it, and which direction is better."""

    label: str
    value: Callable[[Result], float | None]
    text: Callable[[float | None], str]
    higher_is_better: bool


def _bases(results: Sequence[Result]) -> list[str]:
    """Return what each run's energy and cost count, because the published figures differ in scope."""
    return [
        f"{result.scenario}: {line}"
        for result in results
        for line in result.assumptions
        if line.startswith(("energy:", "cost:"))
    ]


def tokens_per_joule(result: Result) -> float | None:
    """Return tokens per joule, which is tokens/s per watt; None where energy is unknown."""
    return 1.0 / result.energy_j_per_token if result.energy_j_per_token else None


def tokens_per_usd(result: Result) -> float | None:
    """Return tokens per US dollar; None where the cost is unknown."""
    return 1e6 / result.usd_per_million_tokens if result.usd_per_million_tokens else None


METRICS = (
    Metric("tokens/s", lambda result: result.tokens_per_s, units.tokens, True),
    Metric("tokens/s per chip", lambda result: result.tokens_per_s_per_chip, units.tokens, True),
    Metric("tokens/s per watt", tokens_per_joule, units.number, True),
    Metric("tokens per dollar", tokens_per_usd, units.tokens, True),
    Metric("step or iteration", lambda result: result.step_s, units.seconds, False),
    Metric("TTFT", lambda result: result.ttft_s, units.seconds, False),
    Metric("TPOT", lambda result: result.tpot_s, units.seconds, False),
    Metric("MFU", lambda result: result.mfu, units.percent, True),
    Metric("EP imbalance", lambda result: result.imbalance, units.ratio, False),
    Metric("power", lambda result: result.power_w, units.watts, False),
    Metric("cost per hour", lambda result: result.usd_per_hour, units.usd, False),
    Metric("cost per million tokens", lambda result: result.usd_per_million_tokens, units.usd, False),
)


def comparison_table(results: Sequence[Result]) -> RenderableType:
    """Return runs side by side with ratios against the first; the best of all in a row is marked with `*`.

    Parameters
    ----------
    results
        At least one run; the first is the reference. More than four are split over several tables.
    """
    if not results:
        return cell("nothing to compare")
    first, others = results[0], results[1:]
    chunks = [others[start : start + COLUMNS - 1] for start in range(0, len(others), COLUMNS - 1)] or [()]
    best = {metric.label: _best(metric, results) for metric in METRICS}
    parts = [part for part in PARTS if any(_share(result, part) >= SMALLEST_SHARE for result in results)]
    blocks: list[RenderableType] = []
    for chunk in chunks:
        blocks += [_side_by_side((first, *chunk), best, parts), Text()]
    note = (
        "Ratios are against the first column; * marks the best of all; communication is exposed time only."
        if others
        else ""
    )
    return Group(*blocks[:-1], cell(note, "dim"), bullets("What energy and cost rest on", _bases(results)))


def _side_by_side(results: Sequence[Result], best: dict[str, float | None], parts: Sequence[str]) -> Table:
    made = table("Comparison", "", *(result.scenario for result in results))
    for label, texts in _facts(results).items():
        made.add_row(cell(label, "dim"), *(cell(text) for text in texts))
    made.add_section()
    for metric in METRICS:
        values = [metric.value(result) for result in results]
        if any(value is not None for value in values):
            made.add_row(cell(metric.label), *_cells(metric, values, best[metric.label]))
    made.add_section()
    for part in parts:
        label = PART_LABELS[part].removesuffix(" (exposed)")
        made.add_row(cell(label, "dim"), *(cell(_part_text(result, part)) for result in results))
    return made


def _part_text(result: Result, part: str) -> str:
    part_s = result.breakdown_s.get(part, 0.0)
    return f"{units.seconds(part_s)} {100.0 * _share(result, part):3.0f} %" if part_s > 0.0 else units.UNKNOWN


def _facts(results: Sequence[Result]) -> dict[str, list[str]]:
    return {
        "model": [result.model for result in results],
        "phase": [result.phase for result in results],
        "cluster": [result.cluster for result in results],
        "chips": [f"{units.count(result.chips)} x {result.chip}" for result in results],
        "plan": [", ".join(f"{name} {value}" for name, value in result.plan.items()) for result in results],
        "fullest rank": [_fullest(result) for result in results],
        "bottleneck": [result.bottleneck.replace("_", " ") for result in results],
    }


def _fullest(result: Result) -> str:
    if not result.memory:
        return units.UNKNOWN
    use = max(result.memory, key=lambda one: one.total_bytes / one.capacity_bytes)
    return f"{units.binary_bytes(use.total_bytes)} of {units.binary_bytes(use.capacity_bytes)}"


def _cells(metric: Metric, values: Sequence[float | None], best: float | None) -> list[Text]:
    reference = values[0]
    cells = []
    for index, value in enumerate(values):
        text = ("*" if value is not None and value == best else "") + metric.text(value)
        if index and value is not None and reference:
            text += f"  {units.ratio(value / reference)}"
        cells.append(cell(text, _colour(metric, value, reference) if index else ""))
    return cells


def _colour(metric: Metric, value: float | None, reference: float | None) -> str:
    if value is None or reference is None or value == reference:
        return ""
    return "green" if (value > reference) == metric.higher_is_better else "red"


def _best(metric: Metric, results: Sequence[Result]) -> float | None:
    """Return the best value, or None where fewer than two runs have one or all are equal."""
    values = [value for value in map(metric.value, results) if value is not None]
    if len(set(values)) < 2:
        return None
    return max(values) if metric.higher_is_better else min(values)


def _share(result: Result, part: str) -> float:
    whole = sum(result.breakdown_s.values())
    return result.breakdown_s.get(part, 0.0) / whole if whole > 0.0 else 0.0
