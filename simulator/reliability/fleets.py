"""Failure rates of published fleets, per chip and class, each with its source."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from simulator.errors import UserError, did_you_mean
from simulator.reliability.job import DAY_S, FailureClass


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet whose interruptions were published."""

    name: str
    what: str
    source: str
    classes: tuple[FailureClass, ...]


def fleet(name: str) -> Fleet:
    """Return a fleet by name.

    Raises
    ------
    UserError
        If it is unknown.
    """
    known = _tables()
    if name not in known:
        raise UserError(
            f"reliability.fleet: '{name[:40]}' unknown{did_you_mean(name[:40], known)}; one of {', '.join(known)}"
        )
    table = known[name]
    classes = tuple(
        FailureClass(each["name"], _per_chip_s(table, each), each.get("takes_node", False), each.get("planned", False))
        for each in table["classes"]
    )
    return Fleet(name, table["what"], table["source"], classes)


def _per_chip_s(table: dict[str, Any], kind: dict[str, Any]) -> float:
    if "count" in kind:
        return float(kind["count"] / (table["days"] * DAY_S * table["chips"]))
    return float(kind["per_1000_node_days"] / (1000 * DAY_S * table["chips_per_node"]))


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("simulator.reliability").joinpath("fleets.toml").read_text(encoding="utf-8"))
