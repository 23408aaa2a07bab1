"""Arrays out of files from strangers: nothing is executed, and nothing is allocated that the file can't hold."""

import zipfile
import zlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from workloads.errors import WorkloadError

# Real traces compress by less than 100; a header that claims more than this much more than the file has is a lie.
_MOST_INFLATION = 1000
_ROW_KEY, _IDS_KEY, _ABOUT_KEY = "sequence", "experts", b"epsim"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_parquet(path: Path) -> bool:
    """Return whether the file starts as Parquet does.

    Raises
    ------
    WorkloadError
        If the path is no readable file, or empty.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise WorkloadError(f"{error.strerror}; give a trace file") from error
    if not start:
        raise WorkloadError("empty file")
    return start == b"PAR1"


def read_npz(path: Path, required: Sequence[str], texts: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read named integer arrays and text scalars of an npz file.

    Raises
    ------
    WorkloadError
        If the file is damaged, or an array is missing, of another kind, or larger than the file can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            present = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            missing = [name for name in (*required, *texts) if name not in present]
            if missing:
                raise WorkloadError(
                    *(f"{name}: missing; the file has {', '.join(present) or 'nothing'}" for name in missing)
                )
            limit = _MOST_INFLATION * path.stat().st_size
            for name in (*required, *texts):
                _check_member(archive, present[name], name, "U" if name in texts else "iu", limit)
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in (*required, *texts)}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise WorkloadError(f"not a trace, or damaged: {error}") from error
    except WorkloadError:
        raise
    except (OSError, ValueError) as error:
        raise WorkloadError(f"unreadable: {error}") from error


def _check_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, kinds: str, limit: int) -> None:
    """Refuse an array by its header, before any of it is read."""
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise WorkloadError(f"{name}: npy version {version}: must be 1.0 or 2.0")
        shape, _, dtype = _HEADERS[version](member)
        claimed = dtype.itemsize * int(np.prod([int(side) for side in shape], dtype=object))
        if dtype.kind not in kinds or (dtype.byteorder == ">" and kinds != "U"):
            wanted = "text" if kinds == "U" else "little-endian integers"
            raise WorkloadError(f"{name}: {dtype.str}: must be {wanted}")
        if claimed + member.tell() != entry.file_size or claimed > limit:
            raise WorkloadError(f"{name}: shape {shape} claims {claimed} bytes, which the file does not hold")


def _arrow() -> tuple[Any, Any]:
    """Import pyarrow late (it is slow and rarely needed), untyped as it is."""
    return import_module("pyarrow"), import_module("pyarrow.parquet")


def read_parquet(path: Path) -> tuple[NDArray[np.uint16], NDArray[np.int32], str]:
    """Read a trace's ids ``[tokens, layers, top_k]``, sequence lengths and JSON from Parquet.

    Raises
    ------
    WorkloadError
        If the file is damaged, or its columns are not those of a trace.
    """
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            width, top_k = _check_schema(schema, rows * 2, _MOST_INFLATION * path.stat().st_size)
            table = file.read(columns=[_ROW_KEY, _IDS_KEY]).combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, WorkloadError):
            raise
        raise WorkloadError(f"not a trace, or damaged: {str(error).splitlines()[0]}") from error
    if not rows:
        raise WorkloadError("empty; record at least one token")
    column = table.column(_IDS_KEY).chunk(0)
    row = table.column(_ROW_KEY).to_numpy()
    if column.null_count or column.flatten().null_count or table.column(_ROW_KEY).null_count:
        raise WorkloadError("experts, sequence: empty cells; give each token its ids")
    if row[0] != 0 or not np.isin(np.diff(row), (0, 1)).all():
        raise WorkloadError("sequence: must count up from 0, all tokens of a sequence together")
    ids = column.flatten().to_numpy().reshape(rows, width // top_k, top_k)
    return ids, np.bincount(row).astype(np.int32), schema.metadata[_ABOUT_KEY].decode(errors="replace")


def _check_schema(schema: Any, row_bytes: int, limit: int) -> tuple[int, int]:
    """Return ids per row and top-k, or refuse columns that are not those of a trace."""
    pa, _ = _arrow()
    kinds = dict(zip(schema.names, schema.types, strict=True))
    ids: Any = kinds.get(_IDS_KEY)
    if ids is None or not pa.types.is_fixed_size_list(ids) or ids.value_type != pa.uint16():
        raise WorkloadError(f"experts: {ids}: must be a fixed-size list of uint16")
    if kinds.get(_ROW_KEY) != pa.int32():
        raise WorkloadError(f"sequence: {kinds.get(_ROW_KEY)}: must be int32")
    try:
        top_k = int((schema.metadata or {})[b"top_k"])
    except (KeyError, ValueError) as error:
        raise WorkloadError("top_k: missing or no number in the schema; state it") from error
    if top_k < 1 or ids.list_size < 1 or ids.list_size % top_k or _ABOUT_KEY not in schema.metadata:
        raise WorkloadError(f"experts: {ids.list_size} ids per token: must be layers x top_k (top_k {top_k})")
    if row_bytes * ids.list_size > limit:
        raise WorkloadError(f"experts: claims {row_bytes * ids.list_size} bytes, which the file does not hold")
    return int(ids.list_size), top_k


def write_parquet(
    file: IO[bytes], experts: NDArray[np.integer[Any]], seq_lens: NDArray[np.integer[Any]], about: str
) -> None:
    """Write ids ``[tokens, layers, top_k]``, sequence lengths and JSON as Parquet."""
    pa, pq = _arrow()
    _, layers, top_k = experts.shape
    ids = pa.FixedSizeListArray.from_arrays(pa.array(experts.astype(np.uint16).ravel()), layers * top_k)
    row = pa.array(np.repeat(np.arange(seq_lens.size, dtype=np.int32), seq_lens))
    metadata = {_ABOUT_KEY: about.encode(), b"top_k": str(top_k).encode()}
    schema = pa.schema([(_ROW_KEY, row.type), (_IDS_KEY, ids.type)], metadata=metadata)
    pq.write_table(pa.Table.from_arrays([row, ids], schema=schema), file, compression="zstd")
