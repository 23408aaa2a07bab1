"""Tensors in a safetensors file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import one_line
from workloads.errors import WorkloadError

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read every tensor of a safetensors file.

    Raises
    ------
    WorkloadError
        If the file is damaged, claims more than it holds, or has a tensor of a type that counts and ids never have.

    Source: huggingface/safetensors:README.md (format: length of the header as 8 bytes, JSON header, data).
    """
    with one_line():
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise WorkloadError(f"header claims {length} bytes: not safetensors, or truncated")
            header = json.loads(file.read(length))
            if not isinstance(header, dict):
                raise WorkloadError("header: must be a JSON object")
            data = file.read()
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, data) for name, entry in header.items()}


def _tensor(name: str, entry: Any, data: bytes) -> NDArray[Any]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = int(np.prod([int(side) for side in shape], dtype=object))
    except (KeyError, TypeError, ValueError) as error:
        raise WorkloadError(f"{name}: header has no dtype, shape and data_offsets") from error
    if dtype not in _DTYPES:
        raise WorkloadError(f"{name}: {dtype}: must be one of {', '.join(_DTYPES)}")
    if not 0 <= begin <= end <= len(data) or numbers * np.dtype(_DTYPES[dtype]).itemsize != end - begin:
        raise WorkloadError(f"{name}: shape {shape} at bytes {begin} to {end}: the file holds {len(data)}; truncated")
    return np.frombuffer(data[begin:end], _DTYPES[dtype]).reshape(shape)
