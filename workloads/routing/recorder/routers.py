"""The routers of Hugging Face models, and what they choose while the model runs.

Source: huggingface/transformers:src/transformers/models/*/modeling_*.py (5.x), where every router returns logits,
weights and ids ``[tokens, top_k]`` of the experts that its layer then uses, group limits and bias included.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

# model_type of the configuration -> class of its routers
ROUTERS = {
    "mixtral": "MixtralTopKRouter",
    "qwen2_moe": "Qwen2MoeTopKRouter",
    "qwen3_moe": "Qwen3MoeTopKRouter",
    "olmoe": "OlmoeTopKRouter",
    "deepseek_v2": "DeepseekV2TopkRouter",
    "deepseek_v3": "DeepseekV3TopkRouter",
    "gpt_oss": "GptOssTopKRouter",
}
Heard = list[list[tuple[NDArray[np.uint16], NDArray[np.float32]]]]


def check_type(model_type: str) -> None:
    """Refuse an architecture whose routers are not known.

    Raises
    ------
    WorkloadError
        Naming those that are.
    """
    if model_type not in ROUTERS:
        raise WorkloadError(f"model_type '{model_type}': its routers are not known; known: {', '.join(ROUTERS)}")


def routers(model: Any) -> list[Any]:
    """Return the router of each MoE layer, first to last.

    Raises
    ------
    WorkloadError
        If the architecture is unknown, or the model has no MoE layer.
    """
    check_type(model.config.model_type)
    name = ROUTERS[model.config.model_type]
    found = [module for module in model.modules() if type(module).__name__ == name]
    if not found:
        raise WorkloadError(f"model: {model.config.model_type} without MoE layers: nothing to record")
    return found


@contextmanager
def listening(model: Any) -> Iterator[Heard]:
    """Collect ids and weights ``[tokens, top_k]`` of every call of the routers, a list per MoE layer.

    Raises
    ------
    WorkloadError
        As `routers`.
    """
    found = routers(model)
    heard: Heard = [[] for _ in found]

    def hear(calls: list[Any], output: Any) -> None:
        _, weights, ids = output
        calls.append((ids.detach().cpu().numpy().astype(np.uint16), weights.detach().float().cpu().numpy()))

    handles = [
        router.register_forward_hook(lambda _module, _inputs, output, calls=calls: hear(calls, output))
        for router, calls in zip(found, heard, strict=True)
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
