"""Recorded routing written for other tools."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace
from workloads.routing.measures import batch_load
from workloads.routing.trace import ONLY_COUNTS, Trace

Recorded = Trace | CountTrace


def load_of(trace: Recorded) -> NDArray[np.int64]:
    """Return ``[layers, experts]`` tokens per expert of the whole recording."""
    if isinstance(trace, CountTrace):
        total: NDArray[np.int64] = trace.counts.sum(axis=0, dtype=np.int64)
        return total
    whole: NDArray[np.int64] = batch_load(trace, trace.tokens)[0]
    return whole


def sglang_counts(trace: Recorded, dense_layers: int) -> bytes:
    """Return what SGLang's --init-expert-location balances by: JSON ``logical_count`` [layers, experts], dense ones 0.

    Source: sgl-project/sglang:python/sglang/srt/eplb/expert_location.py.
    """
    load = load_of(trace)
    rows = np.vstack([np.zeros((dense_layers, load.shape[1]), dtype=np.int64), load])
    return (json.dumps({"logical_count": rows.tolist()}) + "\n").encode()


def eplb_weight(trace: Recorded, dense_layers: int) -> bytes:
    """Return the ``weight`` of deepseek-ai/EPLB:eplb.py as npy [layers, experts]."""
    buffer = io.BytesIO()
    np.save(buffer, load_of(trace), allow_pickle=False)
    return buffer.getvalue()


def mindspeed(trace: Recorded, dense_layers: int) -> bytes:
    """Return MindSpeed-RL's token_collects_all.json: layer -> expert -> tokens."""
    rows = {
        str(layer + dense_layers): {str(expert): tokens for expert, tokens in enumerate(row)}
        for layer, row in enumerate(load_of(trace).tolist())
    }
    return (json.dumps(rows) + "\n").encode()


def routed_experts(trace: Recorded, dense_layers: int) -> bytes:
    """Return npz with an int32 array [tokens, layers, top_k] per sequence, dense layers 0, as SGLang and vLLM give it.

    Raises
    ------
    WorkloadError
        If only counts were recorded.
    """
    ids = np.pad(_tokens(trace).experts.astype(np.int32), ((0, 0), (dense_layers, 0), (0, 0)))
    ends = np.cumsum(_tokens(trace).seq_lens)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"{number:06d}": part for number, part in enumerate(np.split(ids, ends[:-1]))}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def llama_csv(trace: Recorded, dense_layers: int) -> bytes:
    """Return ``layer,expert`` rows: for each sequence layer by layer, in each layer token by token.

    Raises
    ------
    WorkloadError
        If only counts were recorded.
    """
    ends = np.cumsum(_tokens(trace).seq_lens)
    layer = np.arange(trace.moe_layers)[:, None] + dense_layers
    lines = ["layer,expert"]
    for part in np.split(_tokens(trace).experts, ends[:-1]):
        expert = part.swapaxes(0, 1).reshape(trace.moe_layers, -1)
        pairs = np.stack([np.broadcast_to(layer, expert.shape), expert], axis=-1).reshape(-1, 2)
        lines += [f"{of},{one}" for of, one in pairs.tolist()]
    return ("\n".join(lines) + "\n").encode()


def _tokens(trace: Recorded) -> Trace:
    if isinstance(trace, CountTrace):
        raise WorkloadError(f"trace: {ONLY_COUNTS}")
    return trace


# kind -> (function, what it writes)
EXPORTS: dict[str, tuple[Callable[[Recorded, int], bytes], str]] = {
    "sglang": (sglang_counts, "logical_count for SGLang's --init-expert-location: .json"),
    "eplb-weight": (eplb_weight, "tokens per layer and expert for DeepSeek EPLB: .npy"),
    "mindspeed": (mindspeed, "token_collects_all.json of MindSpeed-RL"),
    "routed-experts": (routed_experts, "each token's experts, an array per sequence: .npz"),
    "llama-csv": (llama_csv, "llama.cpp layer,expert rows: .csv"),
}
