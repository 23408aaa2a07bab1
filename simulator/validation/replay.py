"""Rows of measurements beside what the simulator predicts for them.

A status is `predicted`; `fitted-on` where a calibration was fitted on that very row; `unsupported:` or `skipped:` with
the reason; `failed:` for a defect of the simulator.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from simulator.errors import USER_ERRORS
from simulator.validation import collectives, inference, reliability, scaling, training
from simulator.validation.causes import likely_cause
from simulator.validation.cells import Cells, Row, RowError
from simulator.validation.serving_groups import system_of
from simulator.validation.summary import left_out_errors, operation
from simulator.validation.training_groups import run_columns

COLUMNS = (
    "id",
    "predicted",
    "measured",
    "error",
    "status",
    "area",
    "metric",
    "unit",
    "evidence",
    "source",
    "defaults",
    "cause",
    "operation",
    "fabric",
    "library",
    "left_out",
    "chip",
    "kind",
    "mfu",
    "case",
    "system",
)
PREDICT: Mapping[str, Callable[[Cells], tuple[float, str]]] = {
    "training": training.predict,
    "inference": inference.predict,
    "collectives": collectives.predict,
    "reliability": reliability.predict,
    "scaling": scaling.predict,
}
MEASURED: Mapping[str, Callable[[Cells], float]] = {
    "collectives": collectives.measured,
    "reliability": reliability.measured,
}


def replay(rows: Iterable[Row], area: str) -> pd.DataFrame:
    """Return one row per measurement: predicted, measured, error, status.

    Parameters
    ----------
    rows
        In the structured columns of an area; rows marked `usable` = no are listed with their reason.
    area
        training, inference or collectives.
    """
    return pd.DataFrame(list(replay_each(rows, area)), columns=list(COLUMNS))


def replay_each(rows: Iterable[Row], area: str) -> Iterator[dict[str, Any]]:
    """Yield the columns of `replay` row by row."""
    for row in rows:
        yield _replayed(row, area)


def _replayed(row: Row, area: str) -> dict[str, Any]:
    cells = Cells(row, area)
    found: dict[str, Any] = {
        "id": cells.stated("id"),
        "area": _group(cells, area),
        "metric": cells.stated("metric_norm") or cells.stated("op") or cells.stated("metric"),
        "predicted": None,
        "measured": None,
        "unit": "",
        "error": None,
        "evidence": cells.stated("evidence") or cells.stated("notes")[1:2],
        "source": cells.stated("source") or cells.stated("url_or_repo"),
        "cause": "",
        **dict.fromkeys(("operation", "fabric", "library"), ""),
        "left_out": None,
        **dict.fromkeys(("chip", "kind", "case", "system"), ""),
        "mfu": None,
    }
    found["status"] = _fill(cells, area, found)
    found["defaults"] = cells.defaults
    if area == "training":
        found |= run_columns(cells)
    if area == "inference":
        found["system"] = system_of(cells)
    if area == "collectives":
        about = {"operation": operation(cells), "fabric": cells.fabric, "library": cells.stated("library")}
        found |= {**about, "left_out": left_out_errors().get(found["id"])}
    return found


def _group(cells: Cells, area: str) -> str:
    """How rows are grouped in reports: by phase in inference, dispatch and combine apart from other collectives."""
    if area == "inference":
        return cells.stated("phase_norm") or area
    return "dispatch" if cells.stated("op") in {"dispatch", "combine"} else area


def _fill(cells: Cells, area: str, found: dict[str, Any]) -> str:
    """Fill in prediction, measurement and error; return the status."""
    if cells.stated("usable").lower() == "no":
        return f"skipped: {cells.stated('why_not') or 'marked as not usable'}"
    try:
        found["measured"] = MEASURED[area](cells) if area in MEASURED else cells.positive("value_norm")
        predicted, found["unit"] = PREDICT[area](cells)
    except RowError as reason:
        return f"unsupported: {reason}"
    except USER_ERRORS as error:
        return f"unsupported: {'; '.join(error.problems)}"
    except (ValueError, ArithmeticError, MemoryError) as error:
        return f"failed: {type(error).__name__}: {error}"  # a defect of the simulator: listed, so that other rows show
    found["predicted"] = predicted
    found["error"] = predicted / found["measured"] - 1
    found["cause"] = likely_cause(cells, found["unit"], found["error"])
    if not _is_fitted_on(found["id"]):
        return "predicted"
    found["area"] += " (fitted on)"  # reports keep them apart: they are no test of the simulator
    return "fitted-on"


def _is_fitted_on(row_id: str) -> bool:
    return any(fnmatchcase(row_id, pattern) for pattern in _calibration_rows())


@cache
def _calibration_rows() -> frozenset[str]:
    """Ids, with `*` for anything, of the rows that calibrations were fitted on."""
    found: set[str] = set()
    for folder in ("chips", "fabrics"):
        for file in files("simulator.calibration").joinpath(folder).iterdir():
            if file.name.endswith(".toml"):
                found.update(_rows_in(tomllib.loads(file.read_text(encoding="utf-8"))))
    return frozenset(re.sub(r" \(\d+ rows\)$", "", pattern) for pattern in found)


def _rows_in(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _rows_in(value)
        elif key == "rows":
            yield from value
