"""One row of a table of measurements: cells as numbers, documented defaults for empty ones, reasons for bad ones."""

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Row = Mapping[str, str]
MAX_TEXT = 60


class RowError(ValueError):
    """A row that no prediction can be built for, and why."""


@cache
def data(name: str) -> Mapping[str, Any]:
    """Return one of this package's TOML tables."""
    return tomllib.loads(files("simulator.validation").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def shorten(text: str) -> str:
    """Return text cut to a length that fits into one line of a report."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


class Cells:
    """The cells of one row, remembering which documented defaults were used.

    Parameters
    ----------
    row
        Column to text; a missing column is an empty cell.
    area
        training, inference or collectives: whose defaults hold.
    """

    def __init__(self, row: Row, area: str) -> None:
        self.row = row
        self.area = area
        self.used: dict[str, str] = {}
        self.fabric = ""  # what joins the row's ranks, once they are placed
        self.mfu: float | None = None  # of a predicted training run
        self._defaults: Mapping[str, Mapping[str, str]] = data("defaults")[area]

    def stated(self, column: str) -> str:
        """Return the cell, or empty text."""
        return str(self.row.get(column) or "").strip()

    def text(self, column: str) -> str:
        """Return the cell, or its documented default."""
        found = self.stated(column)
        if found or column not in self._defaults:
            return found
        self.used[column] = self._defaults[column]["value"]
        return self.used[column]

    def resolve(self, column: str, value: object) -> None:
        """Record what a default that is a rule came to."""
        rule = self._defaults[column]["value"]
        self.used[column] = f"{value} ({rule})"

    def note(self, what: str, value: object) -> None:
        """Record an assumption that has no column of its own."""
        self.used[what] = str(value)

    def number(self, column: str) -> float:
        """Return the cell or its default as a finite number that is not negative.

        Raises
        ------
        RowError
            If the cell is empty and has no default, or holds no such number.
        """
        found = self.text(column)
        if not found:
            raise RowError(f"missing: {column}")
        try:
            value = float(found)
        except ValueError:
            raise RowError(f"{column} = {shorten(found)}: not a number") from None
        if not math.isfinite(value) or value < 0:
            raise RowError(f"{column} = {shorten(found)}: must be finite and not negative")
        return value

    def whole(self, column: str) -> int:
        """Return the cell or its default as a whole number.

        Raises
        ------
        RowError
            If it is none.
        """
        value = self.number(column)
        if value != int(value):
            raise RowError(f"{column} = {value:g}: not a whole number")
        return int(value)

    def positive(self, column: str) -> float:
        """Return the cell or its default as a number above zero.

        Raises
        ------
        RowError
            If it is none.
        """
        value = self.number(column)
        if value <= 0:
            raise RowError(f"{column} = 0: must be positive")
        return value

    def at_least_one(self, column: str) -> int:
        """Return the cell or its default as a whole number above zero.

        Raises
        ------
        RowError
            If it is none.
        """
        self.positive(column)
        return self.whole(column)

    @property
    def defaults(self) -> str:
        """The defaults used, as `column = value` joined by semicolons."""
        return "; ".join(f"{column} = {value}" for column, value in self.used.items())
