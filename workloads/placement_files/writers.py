"""Placements as the files that serving stacks read."""

import io
import json

import numpy as np

from workloads.errors import WorkloadError
from workloads.placement import EMPTY, Placement


def ascend_table(placement: Placement) -> bytes:
    """Return the deployment table of Ascend's serving stacks: JSON, layer by layer the experts of each device.

    Raises
    ------
    WorkloadError
        If a device holds an expert twice, which the stacks can't address.

    Source: the fields that vllm-project/vllm-ascend:vllm_ascend/ops/expert_load_balancer.py@8df40d4d reads.
    """
    ordered = np.sort(placement.slot_expert, axis=2)
    twice = np.argwhere((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != EMPTY))
    if twice.size:
        layer, rank, slot = twice[0]
        raise WorkloadError(
            f"placement: layer {layer}, rank {rank}: holds expert {ordered[layer, rank, slot]} twice, which Ascend's "
            "table can't say; use fewer redundant slots, or more ranks"
        )
    layers = [
        {
            "layer_id": layer,
            "device_count": placement.ranks,
            "device_list": [
                {"device_id": rank, "device_expert": held[held != EMPTY].tolist()} for rank, held in enumerate(ranks)
            ],
        }
        for layer, ranks in enumerate(placement.slot_expert)
    ]
    return (json.dumps({"moe_layer_count": len(layers), "layer_list": layers}) + "\n").encode()


def sglang_locations(placement: Placement, dense_layers: int = 0) -> bytes:
    """Return what SGLang's --init-expert-location reads: JSON, the expert of every slot of every layer.

    Parameters
    ----------
    dense_layers
        Layers without routed experts in front; SGLang counts them, whatever their rows hold.

    Raises
    ------
    WorkloadError
        If a slot is empty.

    Source: `physical_to_logical_map` of sgl-project/sglang:python/sglang/srt/eplb/expert_location.py.
    """
    rows = np.vstack([np.tile(_full(placement, "SGLang")[:1], (dense_layers, 1)), _full(placement, "SGLang")])
    return (json.dumps({"physical_to_logical_map": rows.tolist()}) + "\n").encode()


def eplb_maps(placement: Placement) -> bytes:
    """Return the maps of DeepSeek's load balancer as npz.

    ``phy2log`` [layers, slots] expert of each slot; ``log2phy`` [layers, experts, most replicas] slots of each expert,
    -1 where it has fewer; ``logcnt`` [layers, experts] replicas.

    Raises
    ------
    WorkloadError
        If a slot is empty.

    Source: deepseek-ai/EPLB:eplb.py, what `rebalance_experts` returns.
    """
    phy2log = _full(placement, "EPLB")
    layers, slots = phy2log.shape
    order = np.argsort(phy2log, axis=1, kind="stable")
    first = np.cumsum(placement.replicas, axis=1) - placement.replicas
    expert = np.take_along_axis(phy2log, order, axis=1)
    turn = np.arange(slots) - np.take_along_axis(first, expert, axis=1)
    log2phy = np.full((layers, placement.experts, int(placement.replicas.max())), -1, dtype=np.int64)
    log2phy[np.arange(layers)[:, None], expert, turn] = order
    buffer = io.BytesIO()
    np.savez_compressed(buffer, phy2log=phy2log, log2phy=log2phy, logcnt=placement.replicas)
    return buffer.getvalue()


def _full(placement: Placement, reader: str) -> np.ndarray:
    rows: np.ndarray = placement.slot_expert.reshape(len(placement.slot_expert), -1)
    if (rows == EMPTY).any():
        raise WorkloadError(f"placement: has empty slots, which {reader}'s format can't say; write the Ascend table")
    return rows
