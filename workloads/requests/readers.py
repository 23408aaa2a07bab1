"""Recorded request traces: Azure and BurstGPT CSV, Mooncake and vLLM/SGLang benchmark JSONL."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import WorkloadError
from workloads.requests.table import Requests

MAX_FILE_BYTES = 4 * 2**30
MAX_TOKENS = 2**31
SHOWN = 5
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
# Names that benchmark scripts of vLLM and SGLang, and tools that replay their files, give to the same three figures.
JSON_ARRIVAL = ("timestamp", "arrival_time", "arrival_s", "start_time")
JSON_PROMPT = ("input_length", "prompt_len", "input_len", "prompt_tokens", "input_tokens")
JSON_OUTPUT = ("output_length", "output_len", "output_tokens", "expected_output_len", "completion_tokens")
MOONCAKE_BLOCK_TOKENS = 512  # kvcache-ai/Mooncake: one hash per 512-token block


class Line(NamedTuple):
    """One request as a line of a file gives it."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    hashes: tuple[int, ...] = ()
    priority: int = 0


def read_requests(path: Path | str, skip_bad_lines: bool = False) -> tuple[Requests, tuple[str, ...]]:
    """Return the requests of a recorded trace, and one line for each kind of line that was left out.

    Parameters
    ----------
    path
        CSV with the columns of Azure or BurstGPT, or JSON lines as Mooncake or the benchmarks of vLLM and SGLang write.
    skip_bad_lines
        Leave malformed lines out and count them, instead of refusing the file.

    Raises
    ------
    WorkloadError
        If the file can't be read, has no known form, or has bad lines: one line per kind, with line numbers.
    """
    file = Path(path)
    text = _text(file)
    first = text.split("\n", 1)[0].strip()
    if not first:
        raise WorkloadError(f"{file}: empty first line; give a CSV with a header, or JSON lines")
    parse = _json_lines(text) if first.startswith("{") else _csv_lines(file, text, first)
    lines: list[Line] = []
    bad: dict[str, list[int]] = {}
    last = -np.inf
    for number, line in parse:
        reason = line if isinstance(line, str) else _wrong(line, last)
        if isinstance(line, str) or reason:
            bad.setdefault(str(reason), []).append(number)
            continue
        last = line.arrival_s
        lines.append(line)
    problems = [_said(file, reason, numbers) for reason, numbers in bad.items()]
    if problems and not skip_bad_lines:
        raise WorkloadError(*(f"{problem}; mend the file, or --skip-bad-lines" for problem in problems))
    if not lines:
        raise WorkloadError(f"{file}: no usable request")
    return _table(file, lines), tuple(f"{problem}: left out" for problem in problems)


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            raise WorkloadError(f"{file}: no such file; give a request trace (CSV or JSON lines), or 'synthetic'")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise WorkloadError(f"{file}: larger than {MAX_FILE_BYTES // 2**30} GiB; cut it into parts")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WorkloadError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{file}: not UTF-8 text; give a request trace (CSV or JSON lines)") from None


def _wrong(line: Line, last_s: float) -> str | None:
    """Return what is wrong with a line that has all fields, or None."""
    if not np.isfinite(line.arrival_s):
        return "arrival time is not a finite number"
    if line.arrival_s < last_s:
        return "time goes backwards"
    if line.prompt_tokens < 1:
        return "prompt of no tokens"
    if line.output_tokens < 1:
        return "answer of no tokens"
    if max(line.prompt_tokens, line.output_tokens) > MAX_TOKENS:
        return f"more than {MAX_TOKENS:,} tokens"
    return None


def _said(file: Path, reason: str, numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")
    where = f"line {shown}" if len(numbers) == 1 else f"{len(numbers):,} lines ({shown})"
    return f"{file}: {where}: {reason}"


def _csv_lines(file: Path, text: str, header: str) -> Iterator[tuple[int, Line | str]]:
    names = [name.strip() for name in next(csv.reader([header]))]
    forms: tuple[tuple[tuple[str, ...], Callable[[str], float]], ...] = ((AZURE, _stamp_s), (BURSTGPT, float))
    for wanted, clock in forms:
        if set(wanted) <= set(names):
            return _rows(text, tuple(names.index(name) for name in wanted), len(names), clock)
    raise WorkloadError(
        f"{file}: columns {', '.join(names)[:120]}: of no known form; Azure has {', '.join(AZURE)}, BurstGPT "
        f"{', '.join(BURSTGPT)}"
    )


def _rows(
    text: str, columns: tuple[int, ...], width: int, clock: Callable[[str], float]
) -> Iterator[tuple[int, Line | str]]:
    reader = csv.reader(io.StringIO(text))
    try:
        next(reader)
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                yield reader.line_num, f"not {width} columns"
                continue
            stamp, prompt, output = (row[column] for column in columns)
            try:
                yield reader.line_num, Line(clock(stamp), _whole(prompt), _whole(output))
            except ValueError:
                yield reader.line_num, "not a time and two whole numbers"
    except csv.Error as error:
        yield reader.line_num + 1, f"not CSV ({error})"


def _stamp_s(text: str) -> float:
    """Return seconds of `2023-11-16 18:17:03.9799600`; fractions of seven digits are cut to microseconds."""
    whole, _, fraction = text.strip().partition(".")
    seconds = (datetime.fromisoformat(whole) - datetime(2000, 1, 1)).total_seconds()
    return seconds + (float(f"0.{fraction}") if fraction else 0.0)


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _json_lines(text: str) -> Iterator[tuple[int, Line | str]]:
    mooncake = '"hash_ids"' in text.split("\n", 1)[0]
    for number, row in enumerate(text.split("\n"), start=1):
        if not row.strip():
            continue
        try:
            entry = json.loads(row)
        except (ValueError, RecursionError):
            yield number, "not JSON"
            continue
        if not isinstance(entry, dict):
            yield number, "not a JSON object"
            continue
        yield number, _entry(entry, 1e-3 if mooncake else 1.0)


def _entry(entry: dict[str, Any], seconds: float) -> Line | str:
    found = [next((entry[name] for name in names if name in entry), None) for names in (JSON_PROMPT, JSON_OUTPUT)]
    if None in found:
        return f"without a prompt or output length ({JSON_PROMPT[0]}, {JSON_OUTPUT[0]} or alike)"
    arrival = next((entry[name] for name in JSON_ARRIVAL if name in entry), 0.0)
    hashes = entry.get("hash_ids", [])
    try:
        if isinstance(arrival, bool) or not isinstance(hashes, list):
            raise ValueError
        prefix = tuple(_whole(value) for value in hashes)
        return Line(
            float(arrival) * seconds, _whole(found[0]), _whole(found[1]), prefix, _whole(entry.get("priority", 0))
        )
    except (TypeError, ValueError, OverflowError):
        return "lengths, time or hashes are not numbers"


def _table(file: Path, lines: list[Line]) -> Requests:
    arrival = np.array([line.arrival_s for line in lines])
    sizes = np.array([len(line.hashes) for line in lines])
    shared = bool(sizes.any())
    priority = np.array([line.priority for line in lines])
    return Requests(
        arrival - arrival[0],
        np.array([line.prompt_tokens for line in lines]),
        np.array([line.output_tokens for line in lines]),
        file.name,
        np.array([value for line in lines for value in line.hashes], dtype=np.int64) if shared else None,
        np.concatenate([[0], np.cumsum(sizes)]) if shared else None,
        MOONCAKE_BLOCK_TOKENS,
        priority if priority.any() else None,
    )
