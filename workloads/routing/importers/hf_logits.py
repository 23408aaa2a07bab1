"""Router logits of Hugging Face transformers, one array [batch x tokens, experts] per MoE layer.

Source: `router_logits` of the outputs of huggingface/transformers MoE models (output_router_logits=True).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Integers, Options, named_arrays, naming, token_trace


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read saved logits; the top-k of each row are the experts, its softmax over all experts their weights.

    A file may hold ``attention_mask`` [batch, tokens] too: rows of the mask are sequences, its zeros padding. Without
    one a file is a sequence.
    """
    top_k = options.needed("top_k", "--top-k")
    ids, gates, lens = [], [], []
    for path in paths:
        with naming(path):
            arrays = named_arrays(path)
            mask = next((arrays.pop(name) for name in list(arrays) if name.endswith("attention_mask")), None)
            logits = _layers(arrays, options.routed_experts)
            kept, own_lens = _kept(mask, logits.shape[1])
            own_ids, own_gates = _chosen(logits[:, kept], top_k)
            ids.append(own_ids)
            gates.append(own_gates)
            lens.append(own_lens)
            experts = logits.shape[2]
    if len({part.shape[1] for part in ids}) > 1:
        raise WorkloadError("router_logits: layers differ between the files")
    stated = Options(options.model, options.phase, options.source, options.licence, routed_experts=experts, top_k=top_k)
    return token_trace(np.concatenate(ids), np.concatenate(lens), stated, (), np.concatenate(gates))


def _layers(arrays: dict[str, NDArray[Any]], experts: int | None) -> NDArray[np.float64]:
    """Return ``[layers, rows, experts]`` in the order of the layers."""
    if not arrays:
        raise WorkloadError("router_logits: no array in the file")
    wrong = [
        f"{name or 'router_logits'}: {array.dtype} {array.shape}: must be floats [tokens, experts]"
        for name, array in arrays.items()
        if array.dtype.kind != "f" or array.ndim != 2 or not array.size
    ]
    if not wrong and len({array.shape for array in arrays.values()}) > 1:
        wrong = [f"router_logits: shapes differ: {sorted({array.shape for array in arrays.values()})}"]
    if wrong:
        raise WorkloadError(*wrong[:5])
    ordered = sorted(arrays, key=lambda name: [int(word) if word.isdecimal() else -1 for word in _words(name)])
    logits = np.stack([arrays[name].astype(np.float64) for name in ordered])
    if not np.isfinite(logits).all():
        layer, row, expert = np.argwhere(~np.isfinite(logits))[0]
        raise WorkloadError(f"router_logits: layer {layer}, token {row}, expert {expert}: not a finite number")
    if experts not in (None, logits.shape[2]):
        raise WorkloadError(f"router_logits: {logits.shape[2]} experts, but {experts} stated")
    return logits


def _words(name: str) -> list[str]:
    return name.replace(".", " ").replace("_", " ").split()


def _kept(mask: NDArray[Any] | None, rows: int) -> tuple[NDArray[np.bool_], Integers]:
    if mask is None:
        return np.ones(rows, dtype=bool), np.array([rows])
    if mask.ndim != 2 or mask.size != rows or not np.isin(mask, (0, 1)).all():
        raise WorkloadError(f"attention_mask: {mask.shape}: must be 0 and 1 for each of {rows} tokens")
    lens = mask.sum(axis=1).astype(np.int64)
    return mask.astype(bool).ravel(), lens[lens > 0]


def _chosen(logits: NDArray[np.float64], top_k: int) -> tuple[Integers, NDArray[np.float32]]:
    """Return experts and weights ``[tokens, layers, top_k]``, the largest first."""
    if not 0 < top_k <= logits.shape[2]:
        raise WorkloadError(f"top_k: {top_k}: must be 1 to {logits.shape[2]}")
    order = np.argsort(-logits, axis=2, kind="stable")[:, :, :top_k].swapaxes(0, 1)
    weight = np.exp(logits - logits.max(axis=2, keepdims=True))
    weight /= weight.sum(axis=2, keepdims=True)
    gates = np.take_along_axis(weight.swapaxes(0, 1), order, axis=2)
    return order, gates.astype(np.float32)
