"""Options that several commands share."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def settings(command: Command) -> Command:
    """Add `--set`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a scenario value, for example cluster.chips=512; repeatable.",
    )(command)


def table_output(command: Command) -> Command:
    """Add `--json` and `--csv`."""
    command = click.option("--csv", "csv_path", type=click.Path(), metavar="FILE", help="Also write the rows as CSV.")(
        command
    )
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def folder(out: str | None, default: str | Path) -> Path:
    """Return the folder for results: what `--out` says, or the default.

    Raises
    ------
    UserError
        If `--out` is empty.
    """
    from simulator.errors import UserError

    if out is None:
        return Path(default)
    if not out.strip():
        raise UserError("--out: empty; give a folder, or leave it out")
    return Path(out)


def chip_counts(text: str) -> list[int]:
    """Return rising whole numbers from `--chips 256,512,...,2048`.

    Raises
    ------
    UserError
        If one is none: each named.
    """
    from simulator.errors import UserError
    from simulator.study.sweep import filled_in

    words = filled_in([word.strip() for word in text.split(",") if word.strip()], "--chips")
    if not words:
        raise UserError("--chips: no sizes; give for example 256,512,1024")
    wrong = [word for word in words if not (word.isascii() and word.isdigit()) or int(word) < 1]
    if wrong:
        raise UserError(*(f"--chips: '{word[:40]}' is not a whole number above 0" for word in wrong))
    return sorted({int(word) for word in words})


def print_json(value: Any) -> None:
    """Print JSON, with empty numbers as null."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def write_csv(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Write rows as CSV, whole or not at all."""
    import pandas as pd

    from simulator.output import write_file

    write_file(Path(path), pd.DataFrame(list(rows)).to_csv(index=False, lineterminator="\n").encode())


def slug(text: str) -> str:
    """Return a name that is safe as a file name."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "unnamed"


def draw(function: Callable[..., Path], *arguments: Any, path: Path, **named: Any) -> Path:
    """Draw a picture, turning what the file system refuses into a user's error."""
    from simulator.errors import UserError

    try:
        return function(*arguments, path, **named)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}; give another folder") from None
