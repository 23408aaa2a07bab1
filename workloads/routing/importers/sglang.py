"""SGLang's expert distribution recorder.

Source: sgl-project/sglang:python/sglang/srt/eplb/expert_distribution.py (what each mode writes).
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.containers.torch_file import read_torch
from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Integers,
    Options,
    count_trace,
    dense_layers,
    integer_array,
    naming,
    to_logical,
    token_trace,
)
from workloads.routing.importers.linking import Piece, link

_EXTEND, _DECODE, _MIXED, _IDLE = 1, 2, 3, 4


class _Dump(NamedTuple):
    """One file of per_pass or per_token: its records, and the last placement."""

    path: Path
    records: list[dict[str, Any]]
    held: Integers  # [layers, positions]


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read the files of one recording; those of all ranks for per_pass and per_token."""
    contents = {}
    for path in paths:
        with naming(path):
            contents[path] = read_torch(path)
            if not isinstance(contents[path], dict) or not {"logical_count", "records"} & set(contents[path]):
                raise WorkloadError("neither logical_count nor records in it: not of the expert distribution recorder")
    if all("logical_count" in content for content in contents.values()):
        return _stat(contents, options)
    dumps = [_dump(path, content) for path, content in contents.items()]
    with_tokens = [all("topk_ids_of_layer" in record for record in dump.records) for dump in dumps]
    return _per_token(dumps, options) if all(with_tokens) else _per_pass(dumps, options)


def _stat(contents: dict[Path, dict[str, Any]], options: Options) -> Imported:
    parts, notes, in_order = [], [], True
    for path, content in contents.items():
        with naming(path):
            counts = integer_array(content["logical_count"], "logical_count", 3)
            filled = np.asarray(counts.any(axis=(1, 2)))
            if not filled.any():
                raise WorkloadError("logical_count: all 0; nothing was recorded")
            steps = int(filled.sum())
            if not filled[:steps].all() or steps == len(filled):
                in_order = False  # full: it may have gone round, and the file does not say where it starts
            parts.append(counts[filled])
            if steps < len(filled):
                notes.append(f"{len(filled) - steps} of {len(filled)} steps of the buffer are empty: left out")
    if not in_order:
        notes.append("the buffer is circular and full: the order of its steps is not known")
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise WorkloadError(f"logical_count: [layers, experts] differ between the files: {sorted(shapes)}")
    return count_trace(np.concatenate(parts), options, notes, in_order)


def _dump(path: Path, content: dict[str, Any]) -> _Dump:
    with naming(path):
        if "records" not in content or "last_physical_to_logical_map" not in content:
            raise WorkloadError(
                "records or last_physical_to_logical_map: missing; files of different modes, or damaged"
            )
        records = content["records"]
        if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
            raise WorkloadError("records: must be a list of at least one record")
        held = integer_array(content["last_physical_to_logical_map"], "last_physical_to_logical_map", 2)
        return _Dump(path, records, held)


def _per_pass(dumps: Sequence[_Dump], options: Options) -> Imported:
    """Add up what each rank counted in a pass."""
    passes: dict[int, Integers] = {}
    for dump in dumps:
        with naming(dump.path):
            for number, record in enumerate(dump.records):
                counts = integer_array(record.get("global_physical_count"), _place(number, "global_physical_count"), 2)
                logical = to_logical(counts[None], dump.held, options.routed_experts)[0]
                step = _integer(record, number, "forward_pass_id")
                if step in passes and passes[step].shape != logical.shape:
                    raise WorkloadError(
                        f"{_place(number, 'global_physical_count')}: other dimensions than other ranks'"
                    )
                passes[step] = passes.get(step, 0) + logical
    filled = [step for step in sorted(passes) if passes[step].any()]
    if not filled:
        raise WorkloadError("global_physical_count: all 0; nothing was recorded")
    notes = [] if len(filled) == len(passes) else [f"{len(passes) - len(filled)} passes without tokens: left out"]
    return count_trace(np.stack([passes[step] for step in filled]), options, notes + _moved(dumps))


def _per_token(dumps: Sequence[_Dump], options: Options) -> Imported:
    """Put the tokens of each rank's passes together into sequences, by their positions."""
    ids, lens, notes = [], [], _moved(dumps)
    seen: set[bytes] = set()
    for dump in dumps:
        with naming(dump.path):
            pieces = list(_pieces(dump))
            if not pieces:
                notes.append(f"{dump.path.name}: no token; left out")
                continue
            own, own_lens = link(pieces)
            content = hashlib.sha256(np.ascontiguousarray(own).data).digest()
            if content in seen:
                notes.append(f"{dump.path.name}: the same tokens as another rank's; left out")
                continue
            seen.add(content)
            ids.append(own)
            lens.append(own_lens)
    if not ids:
        raise WorkloadError("records: no token in any; nothing was recorded")
    if len({part.shape[1:] for part in ids}) > 1:
        raise WorkloadError("topk_ids_of_layer: [layers, top_k] differ between the files")
    return token_trace(np.concatenate(ids), np.concatenate(lens), options, notes)


def _pieces(dump: _Dump) -> Iterator[Piece]:
    order = sorted(range(len(dump.records)), key=lambda n: (_integer(dump.records[n], n, "forward_pass_id"), n))
    for number in order:
        record = dump.records[number]
        mode = _integer(record, number, "forward_mode")
        if mode not in (_EXTEND, _DECODE, _MIXED, _IDLE):
            raise WorkloadError(
                f"{_place(number, 'forward_mode')}: {mode}: must be 1 (extend), 2 (decode), 3 (mixed) or 4 (idle); "
                "record without speculative decoding"
            )
        if mode == _IDLE or not record.get("input_ids"):
            continue
        ids = integer_array(record["topk_ids_of_layer"], _place(number, "topk_ids_of_layer"), 3).swapaxes(0, 1)
        positions = integer_array(record.get("positions"), _place(number, "positions"), 1)
        if not len(positions) == len(record["input_ids"]) == len(ids):
            raise WorkloadError(
                f"{_place(number, 'topk_ids_of_layer')}: {len(ids)} tokens, but {len(positions)} positions and "
                f"{len(record['input_ids'])} input_ids; truncated"
            )
        lens = np.ones(len(ids), dtype=np.int64) if mode == _DECODE else _lens(record, number, len(ids))
        tokens = int(lens.sum())
        yield Piece(
            _logical(ids[:tokens], dump.held, number), positions[:tokens], lens, mode == _DECODE, mode == _EXTEND
        )


def _lens(record: dict[str, Any], number: int, tokens: int) -> Integers:
    lens = integer_array(record.get("extend_seq_lens"), _place(number, "extend_seq_lens"), 1)
    if lens.min() < 1 or lens.sum() > tokens:  # fewer: the rest is padding
        raise WorkloadError(
            f"{_place(number, 'extend_seq_lens')}: {lens.tolist()}: must be positive and sum to {tokens}"
        )
    return lens


def _logical(ids: Integers, held: Integers, number: int) -> Integers:
    """Return logical ids for physical ones ``[tokens, layers, top_k]``."""
    if ids.shape[1] != len(held):
        raise WorkloadError(
            f"{_place(number, 'topk_ids_of_layer')}: {ids.shape[1]} layers, but the map has {len(held)}"
        )
    if ids.min() < -1 or ids.max() >= held.shape[1]:
        token, layer, choice = np.argwhere((ids < -1) | (ids >= held.shape[1]))[0]
        raise WorkloadError(
            f"{_place(number, 'topk_ids_of_layer')}: layer {layer}, token {token}: {ids[token, layer, choice]}: "
            f"must be a position from 0 to {held.shape[1] - 1}, or -1"
        )
    logical = np.where(ids == -1, -1, held[np.arange(len(held))[:, None], ids])
    logical[:, dense_layers(ids)] = 0  # whatever expert is held at position 0
    return logical.astype(np.int32)


def _moved(dumps: Sequence[_Dump]) -> list[str]:
    if any((dump.held != np.arange(dump.held.shape[1])).any() for dump in dumps):
        return ["positions were read by the last placement; the recording does not say whether it changed meanwhile"]
    return []


def _place(number: int, name: str) -> str:
    return f"records[{number}].{name}"


def _integer(record: dict[str, Any], number: int, name: str) -> int:
    value = record.get(name)
    if type(value) is not int:
        raise WorkloadError(f"{_place(number, name)}: {value!r:.40}: must be an integer")
    return value
