"""Strong and weak scaling of a training scenario: efficiency of each size, and which part of the time ate the rest."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from simulator.errors import UserError
from simulator.phase.setup import setup
from simulator.result import PARTS
from simulator.scenario_file import load_scenario
from simulator.study.sweep import Task, run_tasks

Kind = Literal["strong", "weak"]
BATCH = "workload.global_batch_sequences"


def scaling_rows(
    scenario: str, overrides: Sequence[str], chips: Sequence[int], kind: Kind, jobs: int
) -> Iterator[dict[str, Any]]:
    """Yield one row per size, in order; sizes that can't be run carry their reason.

    Parameters
    ----------
    chips
        Sizes [chips].
    kind
        strong: the global batch stays; weak: it grows with the chips, from the scenario's own size and batch.

    Raises
    ------
    UserError
        If the scenario is no training, or a weak batch is no whole number: every size at which it is not.
    """
    asked = load_scenario(scenario, overrides)
    if asked.workload.phase != "training":
        raise UserError(
            f"workload.phase: {asked.workload.phase}: scale is of training; use epsim sweep --over plan.expert=..."
        )
    tasks: list[Task]
    if kind == "strong":
        tasks = [(scenario, tuple(overrides), (("cluster.chips", str(size)),)) for size in chips]
    else:
        batches = _weak_batches(setup(asked).machine.chips, asked.workload.global_batch_sequences or 0, chips)
        tasks = [
            (scenario, tuple(overrides), (("cluster.chips", str(size)), (BATCH, str(batch))))
            for size, batch in zip(chips, batches, strict=True)
        ]
    return run_tasks(tasks, jobs)


def _weak_batches(own_chips: int, own_batch: int, chips: Sequence[int]) -> list[int]:
    batches = [Fraction(own_batch * size, own_chips) for size in chips]
    problems = [
        f"--chips: {size}: a global batch of {own_batch} sequences on {own_chips} chips makes {float(batch):g}, "
        "no whole number; choose another size or --set workload.global_batch_sequences"
        for size, batch in zip(chips, batches, strict=True)
        if batch.denominator > 1 or batch < 1
    ]
    if problems:
        raise UserError(*problems)
    return [int(batch) for batch in batches]


def with_growth(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with efficiency, and by how much each part grew against the smallest size that runs.

    `growth_<part>` is the growth of the part's chip-seconds per token over all chip-seconds per token at the smallest
    size; they sum to 1 / efficiency - 1. `stopped_by` names the part that grew most, where efficiency is below 1.
    """
    feasible = sorted((row for row in rows if row["feasible"]), key=lambda row: row["chips"])
    if not feasible:
        return [dict(row) for row in rows]
    first = _chip_seconds_per_token(feasible[0])
    total = sum(first.values())
    found = []
    for row in rows:
        made = dict(row)
        if row["feasible"]:
            grown = {part: (cost - first[part]) / total for part, cost in _chip_seconds_per_token(row).items()}
            made["efficiency"] = row["tokens_per_s_per_chip"] / feasible[0]["tokens_per_s_per_chip"]
            made["stopped_by"] = max(grown, key=lambda part: grown[part]) if made["efficiency"] < 1 else ""
            made |= {f"growth_{part}": growth for part, growth in grown.items()}
        found.append(made)
    return found


def _chip_seconds_per_token(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a token costs, by part [chip s]."""
    tokens = row["tokens_per_s"] * row["step_s"]
    return {part: row[f"{part}_s"] * row["chips"] / tokens for part in PARTS}
