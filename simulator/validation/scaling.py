"""Rows of scaling: training rows, some of which measured how much of a smaller size's throughput per chip is left."""

from collections.abc import Mapping

from simulator.validation import training
from simulator.validation.cells import Cells, RowError

EFFICIENCY = "scaling_efficiency"
# The other columns that tables of scaling use for the same.
SAME = {"seq_len_norm": "input_len", "precision_norm": "precision"}
SCHEDULES = {"DeepSeek in-house": "dualpipe"}  # arXiv:2412.19437 section 3.2.1


def predict(cells: Cells) -> tuple[float, str]:
    """Return the predicted value of the row's metric, and its unit.

    A scaling efficiency is throughput per chip at `chips` over that at `baseline_chips` with the same plan and batch.

    Raises
    ------
    RowError
        If the row can't be built, or its metric not predicted.
    UserError, TopologyError, WorkloadError
        If the simulator refuses the scenario.
    """
    row = _as_training(cells)
    if cells.stated("metric_norm") != EFFICIENCY:
        return _predict(cells, row)
    if not cells.stated("baseline_chips"):
        raise RowError("missing: baseline_chips")
    rate = row | {"metric_norm": "tokens_per_s_per_chip", "dp": ""}
    large, small = (_predict(cells, rate | {"chips": cells.stated(name)})[0] for name in ("chips", "baseline_chips"))
    return large / small, "efficiency"


def _predict(cells: Cells, row: Mapping[str, str]) -> tuple[float, str]:
    inner = Cells(row, "training")
    try:
        return training.predict(inner)
    finally:
        cells.used |= inner.used


def _as_training(cells: Cells) -> dict[str, str]:
    row = {str(name): cells.stated(str(name)) for name in cells.row}
    for name, other in SAME.items():
        row[name] = row.get(name) or cells.stated(other).lower().replace(" blockwise", "-block")
    row["schedule"] = row.get("schedule") or SCHEDULES.get(cells.stated("software"), "")
    return row
