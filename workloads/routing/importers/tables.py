"""Rows of whole numbers in text files."""

import gzip
from pathlib import Path

import numpy as np

from workloads.containers.numpy_file import one_line
from workloads.errors import WorkloadError
from workloads.routing.importers.common import Integers

_MOST_INFLATION = 100  # recorded ids pack by less than 10


def whole_numbers(text: str, place: str, least: int = 0) -> Integers:
    """Return the numbers of a line that are separated by tabs, commas or blanks.

    Raises
    ------
    WorkloadError
        If one is no whole number of at least `least`, naming it.
    """
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not word.removeprefix("-").isdecimal() or len(word) > 18]
    if wrong:
        raise WorkloadError(f"{place}: '{wrong[0]:.20}': must be a whole number")
    numbers = np.array(words, dtype=np.int64)
    if numbers.size and numbers.min() < least:
        raise WorkloadError(f"{place}: {numbers.min()}: must be {least} or more")
    return numbers


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file, or of one packed by gzip, without empty ones at its end.

    Raises
    ------
    WorkloadError
        If it can't be read, has none, or unpacks to more than `_MOST_INFLATION` times its size.
    """
    with one_line():
        text = _unpacked(path) if path.suffix == ".gz" else path.read_text(encoding="utf-8-sig")
    lines = text.rstrip().splitlines()
    if not lines:
        raise WorkloadError("empty file")
    return lines


def _unpacked(path: Path) -> str:
    limit = _MOST_INFLATION * path.stat().st_size
    with gzip.open(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise WorkloadError(f"unpacks to more than {limit:,} bytes; give the unpacked file if it is a recording")
    return content.decode("utf-8-sig")
