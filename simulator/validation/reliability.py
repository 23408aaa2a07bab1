"""Rows of published reliability: mean time to failure and goodput of fleets."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from simulator.cost.memory import OPTIMIZER_BYTES, WEIGHT_BYTES
from simulator.reliability.job import DAY_S, Job
from simulator.reliability.renewal import goodput
from simulator.reliability.resolve import RESTART_S, RESTART_S_PER_CHIP, Sizes, build_job
from simulator.reliability.section import Reliability
from simulator.validation.cells import Cells, RowError, data, shorten

# Long enough that the end of the run does not matter.
RUN_S = 365 * DAY_S
NIC_BYTES_PER_S = 50e9  # 400 Gb/s per chip, as most of these fleets have; only in-memory checkpoints use it
UNITS = {
    "%": 0.01,
    "ratio": 1.0,
    "days": DAY_S,
    "hours": 3600.0,
    "minutes": 60.0,
    "min": 60.0,
    "s": 1.0,
}
Metric = tuple[str, str, Callable[[Job], float]]
METRICS: tuple[Metric, ...] = (
    (r"(effective training time|ettr( |$)|goodput|.*training availability).*", "goodput", goodput),
    (r"mtt[fb]?.*|mtbf.*", "s", lambda job: 1.0 / job.failures_per_s),
)
# Columns of a table of one's own that stand for keys of [reliability].
COLUMNS = ("fleet", "failures_per_chip_hour", "detection_s", "restart_s", "checkpoint", "checkpoint_interval_s")
INTERVAL = re.compile(r"with (\d+) min checkpoint")
OTHER_WAYS = re.compile(r"FT-HSDP$")


def predict(cells: Cells) -> tuple[float, str]:
    """Return the predicted value of the row's metric, and its unit.

    Raises
    ------
    RowError
        If the row's metric is not one, or it lacks its chips.
    UserError
        If it names a fleet that is unknown.
    """
    unit, metric = _metric(cells)
    chips = cells.at_least_one("chips")
    parameters = cells.positive("parameters")
    sizes = Sizes(
        chips, cells.at_least_one("chips_per_node"), 1, parameters * (WEIGHT_BYTES + OPTIMIZER_BYTES), NIC_BYTES_PER_S
    )
    return metric(build_job(_asked(cells, chips), sizes, RUN_S)), unit


def measured(cells: Cells) -> float:
    """Return the row's value as a fraction or in seconds.

    Raises
    ------
    RowError
        If it is no such number.
    """
    _metric(cells)
    unit = cells.stated("unit")
    if unit not in UNITS:
        raise RowError(f"unit '{shorten(unit)}': unknown; one of {', '.join(UNITS)}")
    return cells.positive("value") * UNITS[unit]


def _metric(cells: Cells) -> tuple[str, Callable[[Job], float]]:
    name = cells.stated("metric")
    if OTHER_WAYS.search(name):
        raise RowError("not supported: replicas that go on while another restarts")
    for pattern, unit, metric in METRICS:
        if re.fullmatch(pattern, name.lower()):
            return unit, metric
    raise RowError(f"metric '{shorten(name)}' is an input, or not predicted; goodput and mean times to failure are")


def _asked(cells: Cells, chips: int) -> Reliability:
    """Return the [reliability] table that describes the row: its own columns, else the fleet's practice."""
    table = _practice(cells, chips)
    interval = INTERVAL.search(cells.stated("metric"))
    if interval:
        table["checkpoint_interval_s"] = 60.0 * float(interval[1])
    for name in COLUMNS:
        if cells.stated(name):
            is_text = name in {"fleet", "checkpoint"}
            table[name] = cells.stated(name) if is_text else cells.number(name)
    if "fleet" not in table and "failures_per_chip_hour" not in table:
        table["fleet"] = cells.text("fleet")
    try:
        return Reliability.model_validate(table)
    except ValidationError as error:
        raise RowError("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())) from None


def _practice(cells: Cells, chips: int) -> dict[str, Any]:
    for entry in data("reliability")["practice"]:
        if re.fullmatch(entry["system"], cells.stated("system")) and _fits(entry, cells.stated("metric")):
            table = dict(entry["set"])
            if "restart_over" in entry:
                table["restart_s"] = (RESTART_S + RESTART_S_PER_CHIP * chips) / entry["restart_over"]
            cells.note("practice", entry["because"])
            return table
    return {}


def _fits(entry: Mapping[str, Any], metric: str) -> bool:
    return re.fullmatch(entry.get("metric", ".*"), metric) is not None
