"""Goodput over sizes and checkpoint intervals: rows for tables and pictures."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from simulator.engine.failures import simulate_failures
from simulator.errors import USER_ERRORS, UserError
from simulator.reliability.renewal import goodput
from simulator.scenario_file import load_scenario
from simulator.study.goodput import Outlook, outlook, percentiles

CURVE_POINTS = 60
CURVE_SPAN = 32.0


def read_numbers(text: str, option: str) -> list[float]:
    """Return positive numbers from `a,b,c`, rising, without repeats.

    Raises
    ------
    UserError
        If one is none.
    """
    found, problems = [], []
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if 0 < value < np.inf:
            found.append(value)
        else:
            problems.append(f"{option}: '{word[:40]}' is not a positive number")
    if not found and not problems:
        problems.append(f"{option}: no numbers; give for example 300,900,3600")
    if problems:
        raise UserError(*problems)
    return sorted(set(found))


def outlooks(
    scenario: str, overrides: Sequence[str], chips: Sequence[int], tokens: float, histories: int
) -> Iterator[Outlook | tuple[int, str]]:
    """Yield the outlook of each size, or the size and why it can't be run.

    Raises
    ------
    UserError
        If the scenario can't be read.
    """
    sized = [(size, load_scenario(scenario, [*overrides, f"cluster.chips={size}"])) for size in chips]
    for size, asked in sized:
        try:
            yield outlook(asked, tokens, histories)
        except USER_ERRORS as error:
            yield size, "; ".join(error.problems)


def interval_points(found: Outlook, intervals_s: Sequence[float]) -> list[dict[str, Any]]:
    """Return simulated goodput at other checkpoint intervals, on the same failures."""
    rows = []
    for interval_s in intervals_s:
        job = found.job.every(max(interval_s, found.job.checkpoints.durable_s - found.job.checkpoints.stall_s))
        spent = simulate_failures(job, found.histories, found.seed, found.recorded)
        named = {f"goodput_{name}": value for name, value in percentiles(spent.goodput).items()}
        rows.append(
            {
                "chips": found.chips,
                "checkpoint_interval_s": job.checkpoints.interval_s,
                "goodput_analytic": goodput(job),
                **named,
            }
        )
    return rows


def interval_curve(found: Outlook) -> list[dict[str, Any]]:
    """Return the analytic goodput over checkpoint intervals around the one in use."""
    job = found.job
    least_s = max(job.checkpoints.interval_s / CURVE_SPAN, job.checkpoints.durable_s - job.checkpoints.stall_s, 1.0)
    over_s = np.geomspace(least_s, max(job.checkpoints.interval_s * CURVE_SPAN, 2 * least_s), CURVE_POINTS)
    return [
        {
            "chips": found.chips,
            "checkpoint_interval_s": float(each),
            "goodput_analytic": goodput(job.every(float(each))),
        }
        for each in over_s
    ]
