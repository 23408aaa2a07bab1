"""Native trace files: what they look like as Parquet, and how they are written whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from workloads.errors import WorkloadError

_TYPES = {int: "an integer from 0 to 65536", str: "a string", bool: "true or false"}
# As for npz: a schema that claims more than this much more than the file has is a lie.
_MOST_INFLATION = 1000
_SHIPPED = Path(__file__).parent / "traces"
ABOUT_KEY = "epsim"  # of the schema, and `about` in npz: JSON that says what was recorded


def shipped_traces() -> dict[str, Path]:
    """Return the recorded traces that ship, by name."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.npz"))}


def trace_file(name_or_path: str | Path) -> Path:
    """Return the file of a shipped trace, or the path as given.

    A shipped name wins over a path of the same spelling; start with ``./`` to mean the path.
    """
    return shipped_traces().get(str(name_or_path)) or Path(name_or_path)


def is_parquet(path: Path) -> bool:
    """Return whether the file starts as Parquet does.

    Raises
    ------
    WorkloadError
        If the path is no readable file, empty, or neither Parquet nor npz.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        shipped = ", ".join(shipped_traces())
        raise WorkloadError(f"{error.strerror}; give a trace file, or one that ships: {shipped}") from error
    if not start:
        raise WorkloadError("empty file")
    if start not in (b"PAR1", b"PK\x03\x04"):
        raise WorkloadError(
            "not a trace, or damaged: neither npz nor Parquet; bring in what other tools recorded with "
            "`epsim trace import FILE --model NAME -o TRACE.npz`"
        )
    return start == b"PAR1"


def check_name(path: Path) -> None:
    """Refuse a name that no trace can be written under.

    Raises
    ------
    WorkloadError
        If it ends neither in .npz nor in .parquet.
    """
    if path.suffix not in (".npz", ".parquet"):
        raise WorkloadError(f"{path}: must end in .npz or .parquet")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a trace file for writing under a temporary name, which takes its own name when all is written.

    Raises
    ------
    WorkloadError
        If the name ends neither in .npz nor in .parquet, or the file can't be written.
    """
    check_name(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror or error}; can't be written") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_about(
    text: str, known: Mapping[str, type], given: Mapping[str, Any], required: Sequence[str]
) -> dict[str, Any]:
    """Return what a file says about itself.

    Parameters
    ----------
    text
        JSON object.
    known
        Name to type of each value; others are ignored.
    given
        Values to take where the file is silent.
    required
        Names that must be there.

    Raises
    ------
    WorkloadError
        One line per value that is missing or of another type.
    """
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"about: not JSON: {error}") from error
    if not isinstance(stated, dict):
        raise WorkloadError("about: must be a JSON object")
    values = {**given, **{name: stated[name] for name in known if name in stated}}
    problems = [f"about.{name}: missing; state it" for name in required if name not in values]
    problems += [
        f"about.{name}: {value!r:.40}: must be {_TYPES[known[name]]}"
        for name, value in values.items()
        if type(value) is not known[name] or (type(value) is int and not 0 <= value <= 2**16)
    ]
    if problems:
        raise WorkloadError(*problems)
    return values


def parquet_names(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet file.

    Raises
    ------
    WorkloadError
        If it is damaged.
    """
    pa, pq = _arrow()
    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise WorkloadError(f"not a trace, or damaged: {str(error).splitlines()[0]}") from error


def _arrow() -> tuple[Any, Any]:
    """Import pyarrow late (it is slow and rarely needed), untyped as it is."""
    return import_module("pyarrow"), import_module("pyarrow.parquet")


def read_parquet(path: Path, lists: Mapping[str, str], scalars: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read columns of a Parquet file, and the texts of its schema.

    Parameters
    ----------
    lists
        Columns of fixed-size lists and the type of their values; a name that ends in ``?`` may be absent.
    scalars
        Columns of int32.

    Returns
    -------
    Arrays by name, lists as ``[rows, width]``; and the texts of the schema by key.

    Raises
    ------
    WorkloadError
        If the file is damaged, or its columns are not those asked for.
    """
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            columns = _check_schema(schema, lists, scalars, rows, _MOST_INFLATION * path.stat().st_size)
            table = file.read(columns=columns).combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, WorkloadError):
            raise
        raise WorkloadError(f"not a trace, or damaged: {str(error).splitlines()[0]}") from error
    if not rows:
        raise WorkloadError("empty; record at least one token")
    found = {name: table.column(name).chunk(0) for name in columns}
    flat = {name: column if name in scalars else column.flatten() for name, column in found.items()}
    if any(column.null_count for column in (*found.values(), *flat.values())):
        raise WorkloadError(f"{', '.join(columns)}: empty cells; fill each")
    arrays = {name: column.to_numpy() for name, column in flat.items()}
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in schema.metadata.items()}
    return {name: array if name in scalars else array.reshape(rows, -1) for name, array in arrays.items()}, texts


def _check_schema(schema: Any, lists: Mapping[str, str], scalars: Sequence[str], rows: int, limit: int) -> list[str]:
    """Return the columns to read, or refuse those that are not of a trace."""
    pa, _ = _arrow()
    kinds = dict(zip(schema.names, schema.types, strict=True))
    columns = list(scalars)
    for scalar in scalars:
        if kinds.get(scalar) != pa.int32():
            raise WorkloadError(f"{scalar}: {kinds.get(scalar)}: must be int32")
    for name, wanted in lists.items():
        column = name.removesuffix("?")
        kind: Any = kinds.get(column)
        if kind is None and column != name:
            continue
        if kind is None or not pa.types.is_fixed_size_list(kind) or str(kind.value_type) != wanted:
            raise WorkloadError(f"{column}: {kind}: must be a fixed-size list of {wanted}")
        claimed = rows * kind.list_size * kind.value_type.bit_width // 8
        if kind.list_size < 1 or claimed > limit:
            raise WorkloadError(f"{column}: claims {claimed} bytes, which the file does not hold")
        columns.append(column)
    if ABOUT_KEY.encode() not in (schema.metadata or {}):
        raise WorkloadError(f"{ABOUT_KEY}: missing in the schema; state what the trace is of")
    return columns


def write_parquet(file: IO[bytes], columns: Mapping[str, NDArray[Any]], texts: Mapping[str, str]) -> None:
    """Write arrays ``[rows]`` and ``[rows, width]`` as columns, and texts under keys of the schema."""
    pa, pq = _arrow()
    arrays = {
        name: pa.array(array)
        if array.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        for name, array in columns.items()
    }
    fields = [(name, array.type) for name, array in arrays.items()]
    schema = pa.schema(fields, metadata={key.encode(): text.encode() for key, text in texts.items()})
    pq.write_table(pa.Table.from_arrays(list(arrays.values()), schema=schema), file, compression="zstd")
