"""Placements that serving stacks use, read from their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import INTEGERS, npz_names, one_line, read_npy, read_npz
from workloads.containers.torch_file import read_torch
from workloads.errors import WorkloadError
from workloads.placement import EMPTY, Placement
from workloads.routing.importers.common import flattened, integer_array, naming, read_json

_MAPS = ("physical_to_logical_map", "phy2log")


def read_placement(path: str | Path, ranks: int | None = None, part: str | None = None) -> Placement:
    """Read a placement: which experts each rank holds.

    Parameters
    ----------
    path
        JSON: an Ascend deployment table (``moe_layer_count``, ``layer_list``) or SGLang's --init-expert-location
        (``physical_to_logical_map``). npz or .pt: DeepSeek EPLB's ``phy2log`` [layers, slots], checked against
        ``log2phy`` and ``logcnt`` if they are there. npy or npz: Omni-infer's 0 and 1 [ranks, layers, experts].
    ranks
        Ranks that the slots of a map are spread over; the map itself does not say.
    part
        Which placement of an npz file that holds several.

    Raises
    ------
    WorkloadError
        One line per defect, naming the file and the place in it.
    """
    path = Path(path)
    with naming(path):
        if path.suffix == ".json":
            return _from_json(read_json(path), ranks)
        with one_line():
            arrays = _arrays(path)
        if any(name in arrays for name in _MAPS):
            return _from_maps(arrays, ranks)
        return from_zeros_and_ones(_one(arrays, part))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".npz":
        return read_npz(path, dict.fromkeys(npz_names(path), INTEGERS))
    if path.suffix == ".npy":
        return {"": read_npy(path, INTEGERS)}
    if path.suffix == ".pt":
        return {name.rsplit(".", 1)[-1]: array for name, array in flattened(read_torch(path)).items()}
    raise WorkloadError(f"{path.suffix or 'no suffix'}: must be .json, .npy, .npz or .pt")


def _one(arrays: dict[str, NDArray[Any]], part: str | None) -> NDArray[Any]:
    if part is not None and part not in arrays:
        raise WorkloadError(f"part: '{part}': not in the file; it holds {', '.join(arrays)}")
    if part is None and len(arrays) != 1:
        raise WorkloadError(f"part: the file holds {', '.join(arrays) or 'nothing'}; name one")
    return arrays[part] if part is not None else next(iter(arrays.values()))


def from_zeros_and_ones(held: NDArray[Any]) -> Placement:
    """Return the placement of Omni-infer's table ``[ranks, layers, experts]``, 1 where a rank holds an expert.

    Raises
    ------
    WorkloadError
        If it holds anything but 0 and 1, or lacks an expert.

    Source: omni-ai-npu/omni-infer, placement patterns.
    """
    if held.ndim != 3 or not held.size or not np.isin(held, (0, 1)).all():
        raise WorkloadError(f"placement: {held.dtype} {held.shape}: must be 0 and 1 of shape [ranks, layers, experts]")
    table = held.astype(bool).swapaxes(0, 1)
    slots = int(table.sum(axis=2).max())
    turn = np.cumsum(table, axis=2) - 1
    slot_expert = np.full((*table.shape[:2], max(1, slots)), EMPTY, dtype=np.int64)
    layer, rank, expert = np.nonzero(table)
    slot_expert[layer, rank, turn[layer, rank, expert]] = expert
    return Placement(slot_expert, int(held.shape[2]))


def _from_json(document: Any, ranks: int | None) -> Placement:
    if not isinstance(document, dict):
        raise WorkloadError("placement: must be a JSON object")
    if "layer_list" in document:
        return _from_table(document)
    if "physical_to_logical_map" in document:
        return _from_maps(document, ranks)
    if "logical_count" in document:
        raise WorkloadError("logical_count: a load, not a placement; bring it in with `epsim trace import eplb-weight`")
    raise WorkloadError("layer_list, physical_to_logical_map: missing; not a deployment table or a map")


def _from_table(document: dict[str, Any]) -> Placement:
    """Read an Ascend deployment table.

    Source: the fields that vllm-project/vllm-ascend:vllm_ascend/ops/expert_load_balancer.py@8df40d4d reads.
    """
    layers = document["layer_list"]
    stated = document.get("moe_layer_count")
    if not isinstance(layers, list) or not layers or stated != len(layers):
        found = len(layers) if isinstance(layers, list) else "no"
        raise WorkloadError(f"moe_layer_count: {stated!r:.20}: the table has {found} layers; truncated")
    rows = [_devices(layer, number) for number, layer in enumerate(layers)]
    if len({len(row) for row in rows}) > 1:
        raise WorkloadError(f"device_count: differs between layers: {sorted({len(row) for row in rows})}")
    slots = max(len(device) for row in rows for device in row)
    slot_expert = np.full((len(rows), len(rows[0]), slots), EMPTY, dtype=np.int64)
    for layer_number, row in enumerate(rows):
        for device_number, device in enumerate(row):
            slot_expert[layer_number, device_number, : len(device)] = device
    return Placement(slot_expert, int(slot_expert.max()) + 1)


def _devices(layer: Any, number: int) -> list[list[int]]:
    """Return the experts of each device of a layer."""
    place = f"layer_list[{number}]"
    try:
        devices, stated, known = layer["device_list"], layer["device_count"], layer["layer_id"]
        held = [(device["device_id"], device["device_expert"]) for device in devices]
    except (KeyError, TypeError) as error:
        raise WorkloadError(f"{place}: {error}: missing, or of another type") from error
    if stated != len(held) or not held:
        raise WorkloadError(f"{place}.device_count: {stated!r:.20}: the layer has {len(held)} devices; truncated")
    if known != number or [device for device, _ in held] != list(range(len(held))):
        raise WorkloadError(f"{place}: layer_id and device_id must count up from 0")
    for device, experts in held:
        where = f"{place}.device_list[{device}].device_expert"
        if not isinstance(experts, list) or any(type(expert) is not int or expert < 0 for expert in experts):
            raise WorkloadError(f"{where}: {experts!s:.40}: must be expert numbers from 0")
        if len(set(experts)) < len(experts):
            raise WorkloadError(f"{where}: {experts}: holds an expert twice")
    return [experts for _, experts in held]


def _from_maps(arrays: Mapping[str, Any], ranks: int | None) -> Placement:
    """Read the expert of each slot ``[layers, slots]``."""
    name = next(name for name in _MAPS if name in arrays)
    phy2log = integer_array(arrays[name], name, 2)
    if phy2log.min() < 0:
        raise WorkloadError(f"{name}: {phy2log.min()}: must be 0 or more")
    layers, slots = phy2log.shape
    logcnt = integer_array(arrays["logcnt"], "logcnt", 2) if "logcnt" in arrays else None
    experts = int(phy2log.max()) + 1 if logcnt is None else logcnt.shape[1]
    if ranks is None or ranks < 1 or slots % ranks:
        raise WorkloadError(f"{name}: {slots} slots: on how many ranks is not in the file; state a divisor of {slots}")
    placement = Placement(phy2log.astype(np.int64).reshape(layers, ranks, -1), experts)
    if logcnt is not None and not np.array_equal(logcnt, placement.replicas):
        raise WorkloadError(f"logcnt: not the replicas that {name} has")
    if "log2phy" in arrays:
        _check_log2phy(integer_array(arrays["log2phy"], "log2phy", 3), phy2log, experts)
    return placement


def _check_log2phy(log2phy: NDArray[Any], phy2log: NDArray[Any], experts: int) -> None:
    """Refuse slots of an expert ``[layers, experts, replicas]`` (-1 for none) that the map gives to another."""
    layers, slots = phy2log.shape
    if log2phy.shape[:2] != (layers, experts) or log2phy.min() < -1 or log2phy.max() >= slots:
        raise WorkloadError(f"log2phy: {log2phy.shape}: must be slots from 0 to {slots - 1} of {layers} x {experts}")
    layer, expert, turn = np.nonzero(log2phy >= 0)
    if len(layer) != phy2log.size or (phy2log[layer, log2phy[layer, expert, turn]] != expert).any():
        raise WorkloadError("log2phy: does not agree with phy2log")
