"""Many runs of varied scenarios, in parallel: one row per point, infeasible points with their reason."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from simulator.errors import USER_ERRORS, UserError
from simulator.result import Result
from simulator.run import run
from simulator.scenario_file import load_scenario

MAX_POINTS = 20_000
VALUES = re.compile(r"\[[^\]]*\]|[^,\[]+")  # commas inside a list are part of the value
Point = tuple[tuple[str, str], ...]
Task = tuple[str, tuple[str, ...], Point]


def parse_over(options: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the swept keys and their values from `key.path=v1,v2,...` options.

    Raises
    ------
    UserError
        If one is not of that form, names a key twice, or all together span too many points.
    """
    axes: dict[str, list[str]] = {}
    problems, points = [], 1
    for option in options:
        key, equals, text = option.partition("=")
        values = [value.strip() for value in VALUES.findall(text) if value.strip()]
        if not equals or not key.strip() or not values:
            problems.append(f"--over {option}: not of the form key.path=v1,v2,...; for example cluster.chips=64,128")
        elif key.strip() in axes:
            problems.append(f"--over {option}: {key.strip()} is swept twice; give all its values in one --over")
        else:
            axes[key.strip()] = list(dict.fromkeys(filled_in(values, f"--over {option}")))
            points *= len(axes[key.strip()])
    if points > MAX_POINTS:
        problems.append(f"--over: {points} points; sweep at most {MAX_POINTS} at once")
    if problems:
        raise UserError(*problems)
    return list(axes.items())


def filled_in(values: Sequence[str], where: str) -> list[str]:
    """Replace `a, b, ..., z` by the series that a and b begin: geometric where that reaches z, else arithmetic.

    Raises
    ------
    UserError
        If neither does.
    """
    if "..." not in values:
        return list(values)
    at = values.index("...")
    try:
        first, second, last = (int(values[place]) for place in (at - 2, at - 1, at + 1))
        if at < 2 or not 0 < first < second < last:
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(f"{where}: '...' stands between two rising whole numbers and a last one") from None
    ratio, step = second // first, second - first
    if ratio * first == second and round(math.log(last / second, ratio), 9).is_integer():
        between = [second * ratio**n for n in range(1, round(math.log(last / second, ratio)))]
    elif (last - second) % step == 0 and (last - second) // step <= MAX_POINTS:
        between = list(range(second + step, last, step))
    else:
        raise UserError(f"{where}: {first}, {second}, ... does not reach {last}; write the values out")
    return [*values[:at], *map(str, between), *filled_in(values[at + 1 :], where)]


def grid(axes: Sequence[tuple[str, Sequence[str]]]) -> list[Point]:
    """Return all combinations of the axes' values, the last axis fastest."""
    keys = [key for key, _ in axes]
    return [tuple(zip(keys, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


def run_points(
    scenarios: Sequence[str], overrides: Sequence[str], axes: Sequence[tuple[str, Sequence[str]]], jobs: int
) -> Iterator[dict[str, Any]]:
    """Return one row per scenario and point, in order, whatever the number of processes; computed as it is read.

    Parameters
    ----------
    scenarios
        Scenario files or shipped names; each becomes a series.
    overrides
        `key.path=value` settings for all points.
    axes
        From `parse_over`.
    jobs
        Processes; 1 runs in this one.

    Raises
    ------
    UserError
        If a scenario can't be read at all, or no axis key exists. A point that can't be run is a row.
    """
    points = grid(axes)
    for scenario in scenarios:
        _check_values(scenario, overrides, axes)
    return run_tasks([(scenario, tuple(overrides), point) for scenario in scenarios for point in points], jobs)


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """Return one row per task (scenario, overrides, point), in order; computed as it is read."""
    if jobs == 1 or len(tasks) == 1:
        return map(_row, tasks)
    import joblib

    parallel: Any = joblib.Parallel(n_jobs=jobs, return_as="generator")
    rows: Iterator[dict[str, Any]] = parallel(joblib.delayed(_row)(task) for task in tasks)
    return rows


def _check_values(scenario: str, overrides: Sequence[str], axes: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Refuse a misspelled key or a value of the wrong type once, at the start, instead of in every row."""
    for key, values in axes:
        for value in values:
            load_scenario(scenario, [*overrides, f"{key}={value}"])


def _row(task: Task) -> dict[str, Any]:
    scenario, overrides, point = task
    row: dict[str, Any] = {"series": scenario} | {key: _number(value) for key, value in point}
    try:
        result = run(load_scenario(scenario, [*overrides, *(f"{key}={value}" for key, value in point)]))
    except USER_ERRORS as error:
        unknown = dict.fromkeys(("tokens_per_s", "tokens_per_s_per_chip", "bottleneck"))
        return row | {"feasible": False, "reason": "; ".join(error.problems)} | unknown
    return row | {"feasible": True, "reason": ""} | flat(result)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def flat(result: Result) -> dict[str, Any]:
    """Return the figures of a result as one flat row; breakdown entries are named `<part>_s`."""
    worst = max(result.memory, key=lambda use: use.total_bytes / use.capacity_bytes)
    return {
        "scenario": result.scenario,
        "phase": result.phase,
        "model": result.model,
        "cluster": result.cluster,
        "chip": result.chip,
        "chips": result.chips,
        "ranks": result.ranks,
        "fidelity": result.fidelity,
        "tokens_per_s": result.tokens_per_s,
        "tokens_per_s_per_chip": result.tokens_per_s_per_chip,
        "step_s": result.step_s,
        "ttft_s": result.ttft_s,
        "tpot_s": result.tpot_s,
        "mfu": result.mfu,
        "imbalance": result.imbalance,
        "bottleneck": result.bottleneck,
        "memory_bytes": worst.total_bytes,
        "memory_share": worst.total_bytes / worst.capacity_bytes,
        "power_w": result.power_w,
        "energy_j_per_token": result.energy_j_per_token,
        "usd_per_hour": result.usd_per_hour,
        "usd_per_million_tokens": result.usd_per_million_tokens,
        **{f"{name}_s": value for name, value in result.breakdown_s.items()},
        "digest": result.digest,
    }


def with_efficiency(rows: Sequence[Mapping[str, Any]], axis: str) -> list[dict[str, Any]]:
    """Return the rows with `efficiency`: tokens/s per chip over that of the series' smallest feasible size.

    Rows form one series per scenario and per setting of the other swept keys, which get the column `label`.
    """
    first: dict[str, float] = {}
    labelled = []
    names = _short_names([str(row["series"]) for row in rows])
    for row in rows:
        others = [f"{key.rpartition('.')[2]}={row[key]}" for key in row if "." in key and key != axis]
        named = [names[str(row["series"])]] if len(names) > 1 or not others else []
        labelled.append(dict(row) | {"label": " ".join([*named, *others])})
    for row in sorted((r for r in labelled if r["feasible"]), key=lambda r: r["chips"]):
        first.setdefault(row["label"], row["tokens_per_s_per_chip"])
    for row in labelled:
        row["efficiency"] = row["tokens_per_s_per_chip"] / first[row["label"]] if row["feasible"] else None
    return labelled


def _short_names(series: Sequence[str]) -> dict[str, str]:
    """Return the scenarios' names without folder, ending and the words that all begin with."""
    stems = {name: PurePath(name).name.removesuffix(".toml") for name in series}
    words = [stem.split("-") for stem in stems.values()]
    shared = 0
    while (
        len(stems) > 1 and len({tuple(w[: shared + 1]) for w in words}) == 1 and all(len(w) > shared + 1 for w in words)
    ):
        shared += 1
    short = {name: "-".join(stem.split("-")[shared:]) for name, stem in stems.items()}
    return short if len(set(short.values())) == len(short) else {name: name for name in stems}
