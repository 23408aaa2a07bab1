"""Lines of a benchmark's output with their numbers, and the rows that readers make of them."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simulator.errors import UserError

MAX_FILE_BYTES = 50_000_000
MAX_PROBLEMS = 20
# What launchers put before each line: Open MPI's --tag-output, Slurm's --label, MPICH's -prepend-rank.
_LAUNCHER = re.compile(r"^(?:\[\d+,\d+\]<std(?:out|err)>: ?|\s*\d+: (?=\s*[#\d\[])|\[\d+\] (?=\s*[#\d]))")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Row = Mapping[str, str]
COLUMNS = (
    "id",
    "op",
    "ranks",
    "ranks_per_node",
    "size_bytes",
    "time_us",
    "notify_us",
    "algbw_GBps",
    "busbw_GBps",
    "tokens_per_rank",
    "hidden",
    "experts",
    "top_k",
    "topk_groups",
    "payload_dtype",
    "comm_cores",
    "router",
    "evidence",
    "mode",
    "transport",
    "time_scope",
    "algorithm",
)


@dataclass(frozen=True)
class Given:
    """What the user says beside the files; empty or 0 where nothing is said."""

    op: str = ""
    ranks: int = 0
    ranks_per_node: int = 0
    tokens: int = 0
    hidden: int = 0
    top_k: int = 0


@dataclass(frozen=True)
class Output:
    """One file of a benchmark: lines without what launchers put before them, and what is wrong with it."""

    name: str
    sha256: str
    lines: tuple[str, ...]
    wrong_lines: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The file's name without folder; characters that a calibration file could not hold are replaced."""
        return "".join(
            letter if letter.isprintable() and letter not in '"\\' else "?" for letter in Path(self.name).name
        )

    def wrong(self, number: int, message: str) -> None:
        """Record a problem of a line, counted from 1."""
        self.wrong_lines.setdefault(message, []).append(number)

    @property
    def problems(self) -> list[str]:
        """One line per problem, with the first line of the file that has it."""
        more = {message: len(lines) - 1 for message, lines in self.wrong_lines.items()}
        return [
            f"{self.name}:{lines[0]}: {message}" + (f" (and {more[message]} more lines)" if more[message] else "")
            for message, lines in self.wrong_lines.items()
        ]

    def place(self, number: int) -> str:
        """Return `file:line`, the id of the row that stands there."""
        return f"{self.title}:{number}"

    def contradicted(self, number: int, option: str, said: int | str, found: int | str) -> bool:
        """Record where the text and an option disagree, and say whether they do."""
        differs = bool(said) and bool(found) and said != found
        if differs:
            self.wrong(number, f"{option} {said}: the output says {found}; leave the option out, or give other files")
        return differs


def read_output(path: str) -> Output:
    """Return the lines of a text file.

    Raises
    ------
    UserError
        If it can't be read, is too large, or is no text.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise UserError(f"{path}: a directory; give files of measurements")
        if not file.is_file():
            raise UserError(f"{path}: no such file; give the output of a benchmark, or a CSV table")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: over {MAX_FILE_BYTES // 10**6} MB; cut it down to the tables")
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; give the output of a benchmark, or a CSV table") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path[:60]!r}: not a path; give the output of a benchmark, or a CSV table") from None
    if "\0" in text:
        raise UserError(f"{path}: not text; give the output of a benchmark, or a CSV table")
    lines = tuple(_LAUNCHER.sub("", _COLOUR.sub("", line)).rstrip() for line in text.splitlines())
    return Output(path, hashlib.sha256(content).hexdigest(), lines)


def row(**values: str | float) -> Row:
    """Return a row of measurements, its other columns empty."""
    unknown = set(values) - set(COLUMNS)
    if unknown:
        raise KeyError(*sorted(unknown))
    return dict.fromkeys(COLUMNS, "") | {name: _text(value) for name, value in values.items()}


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"


def amount(name: str, text: str, whole: bool, most: float, zero: bool = False) -> str:
    """Return what is wrong with a cell that should hold a number; empty where nothing is."""
    value = number(text)
    if value is not None and (0 < value <= most or (zero and value == 0)) and (not whole or value.is_integer()):
        return ""
    return f"{name} = '{text[:40]}': must be a {'whole ' * whole}number above 0, at most {most:g}"


def number(text: str) -> float | None:
    """Return a finite number, or None where the text is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
