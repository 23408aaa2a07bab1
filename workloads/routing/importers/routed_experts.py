"""The routed_experts that SGLang and vLLM return with each response.

Source: the request options return_routed_experts of sgl-project/sglang (base64 of int32, flattened [tokens, layers,
top_k], in meta_info or sgl_ext of a response) and of vllm-project/vllm (array [tokens, layers, top_k] per completion).
The last token of a sequence, which nothing was computed from, is not in it.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.containers.numpy_file import one_line
from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Integers,
    Options,
    integer_array,
    named_arrays,
    naming,
    read_json,
    token_trace,
)

_KEY = "routed_experts"


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read arrays or responses; each is a sequence."""
    found: list[Integers] = []
    for path in paths:
        with naming(path):
            own = list(_responses(path, options) if path.suffix in (".json", ".jsonl") else _arrays(path))
            if not own:
                raise WorkloadError(f"{_KEY}: not in any response; ask the server for it")
            found += own
    shapes = {array.shape[1:] for array in found}
    if len(shapes) > 1:
        raise WorkloadError(f"{_KEY}: [layers, top_k] differ: {', '.join(map(str, sorted(shapes)))}")
    return token_trace(np.concatenate(found), np.array([len(array) for array in found]), options)


def _arrays(path: Path) -> Iterator[Integers]:
    for name, array in named_arrays(path).items():
        yield integer_array(array, name or _KEY, 3)


def _responses(path: Path, options: Options) -> Iterator[Integers]:
    for place, value in _values(_documents(path)):
        if isinstance(value, str):
            yield _decoded(value, place, options)
        elif value is not None:
            yield integer_array(value, place, 3)


def _documents(path: Path) -> Any:
    if path.suffix == ".json":
        return read_json(path)
    with one_line():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            documents.append(json.loads(line) if line.strip() else None)
        except (ValueError, RecursionError) as error:
            raise WorkloadError(f"line {number}: not JSON, or truncated: {error}") from error
    return documents


def _values(document: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Find every routed_experts, wherever the response has it."""
    if isinstance(document, dict):
        for key, value in document.items():
            here = f"{place}.{key}" if place else key
            if key == _KEY:
                yield here, value
            else:
                yield from _values(value, here)
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from _values(value, f"{place}[{number}]")


def _decoded(text: str, place: str, options: Options) -> Integers:
    layers, top_k = options.needed("layers", "--layers"), options.needed("top_k", "--top-k")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WorkloadError(f"{place}: not base64: {error}") from error
    if not raw or len(raw) % (4 * layers * top_k):
        raise WorkloadError(
            f"{place}: {len(raw)} bytes: must be a multiple of {layers} layers x {top_k} ids x 4 bytes; "
            "truncated, or of another model"
        )
    return np.frombuffer(raw, "<i4").reshape(-1, layers, top_k)
