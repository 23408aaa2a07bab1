"""Why large errors are likely there, said by mechanism and never by row."""

import re

from simulator.validation.cells import Cells, data

TIME_UNITS = {"s", "ms", "us"}


def likely_cause(cells: Cells, unit: str, error: float) -> str:
    """Return the likely cause of an error beyond the limit of `causes.toml`, or empty text.

    Parameters
    ----------
    unit
        Unit of the metric: of a time, a positive error means slower than measured, of a rate faster.
    error
        Predicted over measured minus one.
    """
    table = data("causes")
    if abs(error) <= table["beyond"]:
        return ""
    than = "slower" if (error > 0) == (unit in TIME_UNITS) else "faster"
    for cause in table[cells.area]:
        fits = all(re.fullmatch(pattern, cells.stated(column)) for column, pattern in cause["when"].items())
        if fits and cause.get("than", than) == than:
            return str(cause["text"])
    return ""
