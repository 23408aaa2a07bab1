"""Arguments in, a scenario's tables out, with what became of every argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulator.arguments.model import model_table
from simulator.arguments.plan import plan_table, precision_table, routing_table, transport_table
from simulator.arguments.values import Status, Values
from simulator.arguments.words import Argument
from simulator.errors import UserError
from topologies.catalogue import accelerator, cluster


@dataclass(frozen=True, slots=True)
class Converted:
    """A plan in this tool's terms.

    Parameters
    ----------
    tables
        Of a scenario, by section; `[cluster]` only as far as it is known, `[model]` without name where `config` is set.
    config
        Hugging Face configuration of a model that the catalogue does not have.
    statuses
        What became of every argument.
    """

    tables: dict[str, dict[str, Any]]
    config: dict[str, Any] | None
    statuses: tuple[Status, ...]


def convert(arguments: Sequence[Argument], model: str | None = None, machine: str | None = None) -> Converted:
    """Return the scenario that launch arguments describe.

    Parameters
    ----------
    model
        Name of the model, where its dimensions are not to be looked up.
    machine
        Name of the cluster.

    Raises
    ------
    UserError
        If arguments can't be used, every one on a line of its own.
    """
    values = Values(arguments)
    named, config = model_table(values, model)
    tables = {
        "model": named,
        "cluster": _cluster(values, machine),
        "workload": _workload(values),
        "plan": plan_table(values),
        "precision": precision_table(values),
        "routing": routing_table(values),
        "transport": transport_table(values),
    }
    statuses = values.statuses()
    problems = [
        f"--{each.argument} {each.value[:40]}".rstrip() + f": unknown ({each.note}); correct it, or leave it out"
        for each in statuses
        if each.status == "unknown" and each.note and _is_misspelt(each)
    ]
    if values.problems or problems:
        raise UserError(*dict.fromkeys([*values.problems, *problems]))
    return Converted({name: table for name, table in tables.items() if table}, config, statuses)


def _is_misspelt(status: Status) -> bool:
    """Return whether a name is within two letters of one that is understood: too near to be another argument."""
    near = status.note.partition("'")[2].partition("'")[0]
    short, long = sorted((status.argument, near), key=len)
    if len(long) - len(short) > 2:
        return False
    front = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    rest_short, rest_long = short[front:], long[front:]
    back = next(
        (i for i, (a, b) in enumerate(zip(rest_short[::-1], rest_long[::-1], strict=False)) if a != b), len(rest_short)
    )
    return len(rest_long) - back <= 2


def _workload(values: Values) -> dict[str, Any]:
    table: dict[str, Any] = {"phase": "training"}
    for key, name in (("sequence_tokens", "seq-length"), ("global_batch_sequences", "global-batch-size")):
        number = values.number(name)
        if number is None:
            if not any(problem.startswith(f"--{name}") for problem in values.problems):
                values.problems.append(f"--{name}: missing; add it")
        else:
            table[key] = number
    return table


def _cluster(values: Values, machine: str | None) -> dict[str, Any]:
    table: dict[str, Any] = {"name": machine} if machine else {}
    ranks = values.number("world-size")
    per_node, nodes = values.number("nproc-per-node"), values.number("nnodes")
    if ranks is None and per_node:
        ranks = per_node * (nodes or 1)
    if ranks is None:
        return table
    dies = accelerator(cluster(machine).chip).ranks_per_chip if machine else 1
    if ranks % dies:
        values.problems.append(f"{ranks} processes: the cluster's chips have {dies} ranks each; use a multiple")
    return table | {"chips": ranks // dies}
