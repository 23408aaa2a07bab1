"""Expert ids token by token in JSON, in the two shapes in which public traces have them.

Source: AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting:data (``router_data``: token -> layer -> ``selected_experts``,
``selected_probs``; one request, or a list of them) and angerybob/HD-MoE:expert_trace (layer -> token -> ids, sequences
one after another without a mark between them).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Integers,
    Options,
    integer_array,
    naming,
    read_json,
    token_trace,
)

_UNMARKED = "sequences are not marked in the file: each file is taken as one"
Sequenced = tuple[Integers, Any]  # ids, and weights or None: [tokens, layers, top_k]


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read requests, or files of one sequence each."""
    found: list[Sequenced] = []
    notes: list[str] = []
    for path in paths:
        with naming(path):
            document = read_json(path)
            if _is_by_layer(document):
                found.append((_by_layer(document), None))
                notes = [_UNMARKED]
            else:
                found += _requests(document)
    if len(shapes := {ids.shape[1:] for ids, _ in found}) > 1:
        raise WorkloadError(f"[layers, top_k] differ between sequences: {', '.join(map(str, sorted(shapes)))}")
    ids = np.concatenate([ids for ids, _ in found])
    known = all(gates is not None for _, gates in found)
    gates = np.concatenate([gates for _, gates in found]) if known else None
    return token_trace(ids, np.array([len(own) for own, _ in found]), options, notes, gates)


def _is_by_layer(document: Any) -> bool:
    return isinstance(document, dict) and bool(document) and all(name.isdecimal() for name in document)


def _by_layer(document: dict[str, Any]) -> Integers:
    layers = {int(name): integer_array(value, f"layer {name}", 2) for name, value in document.items()}
    if len(shapes := {array.shape for array in layers.values()}) > 1:
        raise WorkloadError(f"layers differ in [tokens, top_k]: {', '.join(map(str, sorted(shapes)))}; truncated")
    _check_numbers(sorted(layers), "")
    return np.stack([layers[number] for number in sorted(layers)], axis=1)


def _requests(document: Any) -> Iterator[Sequenced]:
    requests = document if isinstance(document, list) else [document]
    if not requests:
        raise WorkloadError("no request in it")
    for number, request in enumerate(requests):
        place = f"[{number}].router_data" if isinstance(document, list) else "router_data"
        steps = request.get("router_data") if isinstance(request, dict) else None
        if not isinstance(steps, list) or not steps:
            raise WorkloadError(
                f"{place}: missing or empty; must be a list of tokens, or the file layer -> token -> ids"
            )
        yield _request(steps, place)


def _request(steps: list[Any], place: str) -> Sequenced:
    ids, gates = [], []
    for number, step in enumerate(steps):
        for token, layers in _items(step, "token_", f"{place}[{number}]"):
            where = f"{place}[{number}].token_{token}"
            chosen = _items(layers, "layer_", where)
            _check_numbers([layer for layer, _ in chosen], f"{where}: ")
            ids.append([_field(each, "selected_experts", f"{where}.layer_{layer}") for layer, each in chosen])
            gates.append([_field(each, "selected_probs", f"{where}.layer_{layer}") for layer, each in chosen])
    experts = integer_array(_even(ids, f"{place}: selected_experts"), f"{place}: selected_experts", 3)
    weights = _even(gates, f"{place}: selected_probs")
    if weights.shape != experts.shape or weights.dtype.kind not in "fiu":
        raise WorkloadError(f"{place}: selected_probs {weights.shape}: must be numbers {experts.shape}, one per expert")
    return experts, weights.astype(np.float32)


def _items(value: Any, prefix: str, place: str) -> list[tuple[int, Any]]:
    """Return the entries of an object by the number in their name, in its order."""
    if not isinstance(value, dict) or not value:
        raise WorkloadError(f"{place}: must be an object with {prefix}0, {prefix}1 ...")
    numbers = [name.removeprefix(prefix) if name.startswith(prefix) else "" for name in value]
    if wrong := [name for name, number in zip(value, numbers, strict=True) if not number.isdecimal()]:
        raise WorkloadError(f"{place}: '{wrong[0]:.20}': must be {prefix}NUMBER")
    return sorted(zip(map(int, numbers), value.values(), strict=True), key=lambda entry: entry[0])


def _field(layer: Any, name: str, place: str) -> list[Any]:
    value = layer.get(name) if isinstance(layer, dict) else None
    if not isinstance(value, list) or not value:
        raise WorkloadError(f"{place}.{name}: missing; must be a list")
    return value


def _even(rows: list[Any], place: str) -> Any:
    try:
        return np.asarray(rows)
    except (ValueError, OverflowError) as error:
        raise WorkloadError(f"{place}: layers or ids per token differ between tokens; truncated") from error


def _check_numbers(layers: list[int], place: str) -> None:
    if lacking := sorted(set(range(layers[0], layers[-1] + 1)) - set(layers)):
        raise WorkloadError(f"{place}layer {lacking[0]}: missing; give all layers")
