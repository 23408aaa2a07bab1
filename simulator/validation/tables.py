"""Tables of measurements: read, checked, and told apart by their columns."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from simulator.errors import UserError, did_you_mean

AREAS = ("training", "inference", "collectives", "reliability", "scaling")
# Other words for an area, and which of its rows they mean: column and the values to keep.
ALIASES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "prefill": ("inference", "phase_norm", ("prefill",)),
    "decode": ("inference", "phase_norm", ("decode", "service")),
    "serving": ("inference", "phase_norm", ("prefill", "decode", "service")),
    "dispatch": ("collectives", "op", ("dispatch", "combine")),
}
REQUIRED = {
    "training": ("id", "model", "chip", "chips", "seq_len_norm", "global_batch_sequences", "metric_norm", "value_norm"),
    "inference": ("id", "model", "chip", "ranks", "phase_norm", "metric_norm", "value_norm"),
    "collectives": ("id", "chip", "ranks", "op"),
    "scaling": (
        *("id", "model", "chip", "chips", "baseline_chips"),
        *("global_batch_sequences", "metric_norm", "value_norm"),
    ),
    "reliability": ("id", "system", "chips", "metric", "value", "unit"),
}
MAX_FILE_BYTES = 50_000_000


def load_rows(path: Path | str) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header, as text; missing cells are empty.

    Raises
    ------
    UserError
        If the file can't be read, or is no such table.
    """
    place = Path(path)
    try:
        if place.is_dir():
            raise UserError(f"{path}: a directory; give a CSV file")
        if place.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: larger than {MAX_FILE_BYTES // 10**6} MB; is this a table of measurements?")
        text = place.read_text(encoding="utf-8-sig")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8; give a CSV file") from None
    except ValueError as error:
        raise UserError(f"{path!r}: {error}; give a CSV file") from None
    return _parsed(text, str(path))


def _parsed(text: str, where: str) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restval="")
        header = reader.fieldnames
        if not header:
            raise UserError(f"{where}: empty; the first line names the columns")
        rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    except csv.Error as error:
        raise UserError(f"{where}: not CSV: {error}") from None
    doubled = sorted({name for name in header if list(header).count(name) > 1})
    if doubled:
        raise UserError(f"{where}: column {doubled[0]} occurs twice; name each column once")
    if not rows:
        raise UserError(f"{where}: no rows below the header; add one row per measurement")
    return rows


def shipped_rows(area: str) -> list[dict[str, str]]:
    """Return the published measurements of an area that ship with the project."""
    text = files("simulator.validation").joinpath("rows", f"{area}.csv").read_text(encoding="utf-8")
    return _parsed(text, f"{area}.csv")


def area_of(rows: Sequence[Mapping[str, str]], where: str, asked: str = "") -> str:
    """Return the area whose columns the rows have.

    Parameters
    ----------
    asked
        The area that the user named; its columns must be there.

    Raises
    ------
    UserError
        If columns are missing: which.
    """
    columns = set(rows[0]) if rows else set()
    missing = {area: [name for name in REQUIRED[area] if name not in columns] for area in AREAS}
    if asked:
        if missing[asked]:
            raise UserError(*_missing_lines(where, asked, missing[asked], columns))
        return asked
    fitting = [area for area in AREAS if not missing[area]]
    if fitting:
        return fitting[-1]  # rows of scaling have all that rows of training have
    nearest = min(AREAS, key=lambda area: len(missing[area]))
    raise UserError(*_missing_lines(where, nearest, missing[nearest], columns))


def _missing_lines(where: str, area: str, missing: Iterable[str], columns: Iterable[str]) -> list[str]:
    known = list(columns)
    return [f"{where}: column {name} is missing, which {area} rows need{did_you_mean(name, known)}" for name in missing]


def resolve_area(name: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the area of a name or alias, and the column and values that select its rows (empty: all).

    Raises
    ------
    UserError
        If the name is unknown.
    """
    if name in AREAS:
        return name, "", ()
    if name in ALIASES:
        return ALIASES[name]
    known = [*AREAS, *ALIASES]
    raise UserError(f"area '{name[:40]}': unknown{did_you_mean(name[:40], known)}; one of {', '.join(known)}")
