"""Arrays in npz and npy files."""

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from workloads.errors import WorkloadError

INTEGERS, FLOATS, NUMBERS, TEXT = "iu", "f", "iuf", "U"
_WANTED = {
    INTEGERS: "little-endian integers",
    FLOATS: "little-endian floats",
    NUMBERS: "little-endian numbers",
    TEXT: "text",
}
# Real traces compress by less than 100; a header that claims more than this much more than the file has is a lie.
_MOST_INFLATION = 1000
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what reading a damaged file raises, or warns of, into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header from Python 2 is read as well
            yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise WorkloadError(f"not a trace, or damaged: {error!s:.120}") from error
    except (tokenize.TokenError, SyntaxError) as error:
        raise WorkloadError(f"header: damaged: {error!s:.120}") from error
    except WorkloadError:
        raise
    except OSError as error:
        raise WorkloadError(f"unreadable: {error.strerror or error}") from error
    except ValueError as error:
        raise WorkloadError(f"unreadable: {error!s:.200}") from error


def npz_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays of an npz file.

    Raises
    ------
    WorkloadError
        If it is no npz file.
    """
    with one_line(), zipfile.ZipFile(path) as archive:
        return tuple(entry.filename.removesuffix(".npy") for entry in archive.infolist())


def read_npz(path: Path, wanted: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Read named arrays of an npz file.

    Parameters
    ----------
    wanted
        Name to kind: `INTEGERS`, `FLOATS`, `NUMBERS` or `TEXT`.

    Raises
    ------
    WorkloadError
        If the file is damaged, or an array is missing, of another kind, or larger than the file can hold.
    """
    with one_line():
        with zipfile.ZipFile(path) as archive:
            present = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            missing = [name for name in wanted if name not in present]
            if missing:
                raise WorkloadError(
                    *(f"{name}: missing; the file has {', '.join(present) or 'nothing'}" for name in missing)
                )
            limit = _MOST_INFLATION * path.stat().st_size
            for name, kind in wanted.items():
                with archive.open(present[name]) as member:
                    _check(member, name, kind, present[name].file_size, limit)
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in wanted}


def read_npy(path: Path, kind: str) -> NDArray[Any]:
    """Read the array of an npy file.

    Raises
    ------
    WorkloadError
        If the file is damaged, or the array of another kind or larger than the file.
    """
    with one_line():
        size = path.stat().st_size
        with path.open("rb") as file:
            _check(file, "array", kind, size, size)
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array


def _check(member: IO[bytes], name: str, kind: str, size: int, limit: int) -> None:
    """Refuse an array by its header, before any of it is read."""
    version = npy.read_magic(member)
    if version not in _HEADERS:
        raise WorkloadError(f"{name}: npy version {version}: must be 1.0 or 2.0")
    shape, _, dtype = _HEADERS[version](member)
    claimed = dtype.itemsize * int(np.prod([int(side) for side in shape], dtype=object))
    if dtype.kind not in kind or (dtype.byteorder == ">" and kind != TEXT):
        raise WorkloadError(f"{name}: {dtype.str}: must be {_WANTED[kind]}")
    if claimed + member.tell() != size or claimed > limit:
        raise WorkloadError(f"{name}: shape {shape} claims {claimed} bytes, which the file does not hold")
