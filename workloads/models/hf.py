"""Read a model's dimensions from a Hugging Face `config.json`.

Each supported `model_type` names its keys below. Unknown types are refused rather than guessed: a wrong guess at what
a key means gives a plausible but wrong model.
"""

import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from workloads.errors import WorkloadError
from workloads.models.specs import Attention, Experts, ModelSpec, SparseLayers

# Configurations are a few kilobytes; what is larger isn't one and isn't worth parsing.
_LARGEST_BYTES = 1 << 20
# Larger than any dimension in use, small enough that products of dimensions stay exact in a double.
_LARGEST_DIMENSION = 10**8


class _Config:
    """A configuration's values, with every problem noted instead of raised, so that all are told at once."""

    def __init__(self, place: str, values: dict[str, Any]) -> None:
        self.place = place
        self.values = values
        self.problems: list[str] = []

    def integer(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """Return the first of `keys` that is set, or the default; a missing or wrong value is noted."""
        key = next((key for key in keys if self.values.get(key) is not None), None)
        if key is None:
            if default is None:
                self.problems.append(f"{self.place}: {keys[0]}: missing; add it as a whole number")
                return least
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST_DIMENSION:
            self.refuse(key, f"expected a whole number from {least} to {_LARGEST_DIMENSION}")
            return least
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a yes-or-no value."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(key, "expected true or false")
            return default
        return value

    def listing(self, key: str) -> list[Any]:
        """Return a list, empty where it is not set."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(key, "expected a list")
            return []
        return value

    def refuse(self, key: str, why: str) -> None:
        """Note a value that can't be used."""
        shown = repr(self.values.get(key))
        self.problems.append(f"{self.place}: {key}: {shown if len(shown) <= 60 else shown[:60] + '...'}: {why}")


def read_config(place: str) -> ModelSpec:
    """Return the model that a configuration describes.

    Parameters
    ----------
    place
        Path of a `config.json`, or of the directory that holds one.

    Raises
    ------
    WorkloadError
        If the file can't be read, isn't a configuration, or is of an unsupported `model_type`; all wrong or missing
        keys at once.

    Source: configuration classes of huggingface/transformers:src/transformers/models.
    """
    path, text = _read(place)
    config = _Config(str(path), _parse(str(path), text))
    kind = config.values.get("model_type")
    if not isinstance(kind, str) or kind not in READERS:
        config.refuse("model_type", f"not supported; supported are {', '.join(sorted(READERS))}")
        raise WorkloadError(*config.problems)
    fields = _common(config) | READERS[kind](config)
    _raise(config)
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    spec = ModelSpec(id=name, name=name, source=f"Hugging Face configuration {place}", **fields)
    _check_together(config, spec)
    _raise(config)
    return spec


def _raise(config: _Config) -> None:
    if config.problems:
        raise WorkloadError(*dict.fromkeys(config.problems))


def _read(place: str) -> tuple[Path, bytes]:
    """Read at most a little more than a configuration can hold. Pipes and devices are refused: they could block."""
    try:
        path = Path(place).expanduser()
        if path.is_dir():
            path /= "config.json"
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with path.open("rb") as file:
            return path, file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise WorkloadError(f"{path}: no such file; give a config.json or the directory that holds one") from None
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise WorkloadError(f"{place[:200]!r}: can't be read ({why}); give a readable config.json") from None


def _parse(place: str, text: bytes) -> dict[str, Any]:
    if len(text) > _LARGEST_BYTES:
        raise WorkloadError(f"{place}: larger than 1 MiB: not a model configuration, which is a few kilobytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{place}: not valid JSON ({str(error)[:80]}); give a Hugging Face config.json") from None
    if not isinstance(values, dict):
        raise WorkloadError(f"{place}: holds a {type(values).__name__}, not an object of keys and values")
    return values


def _common(config: _Config) -> dict[str, Any]:
    return {
        "layers": config.integer("num_hidden_layers"),
        "hidden": config.integer("hidden_size"),
        "vocab": config.integer("vocab_size"),
        "tied_embeddings": config.flag("tie_word_embeddings"),
        "context": config.integer("max_position_embeddings", default=0, least=0) or None,
        "mtp_layers": config.integer("num_nextn_predict_layers", default=0, least=0),
    }


def _grouped(config: _Config, bias: bool = False, head_dim: int = 0) -> Attention:
    """Read multi-head, grouped or multi-query attention; `head_dim` defaults to hidden / heads."""
    heads = config.integer("num_attention_heads")
    kv_heads = config.integer("num_key_value_heads", default=heads)
    width = config.integer("head_dim", default=head_dim or max(1, config.integer("hidden_size") // heads))
    kind: Literal["gqa", "mha", "mqa"] = "mha" if kv_heads == heads else "mqa" if kv_heads == 1 else "gqa"
    window, window_layers = _window(config)
    return Attention(
        kind=kind,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        v_dim=width,
        bias=config.flag("attention_bias", bias),
        window=window,
        window_layers=window_layers,
    )


def _window(config: _Config) -> tuple[int | None, int]:
    """Read the sliding window and how many layers use it: those in `layer_types`, or past `max_window_layers`."""
    if config.values.get("sliding_window") is None or not config.flag("use_sliding_window", True):
        return None, 0
    kinds = config.listing("layer_types")
    full = config.integer("max_window_layers", default=0, least=0)
    layers = kinds.count("sliding_attention") if kinds else max(0, config.integer("num_hidden_layers") - full)
    return (config.integer("sliding_window"), layers) if layers else (None, 0)


def _latent(config: _Config) -> Attention:
    """Read multi-head latent attention (DeepSeek-V2 and its descendants)."""
    heads = config.integer("num_attention_heads")
    nope, rope = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    return Attention(
        kind="mla",
        heads=heads,
        kv_heads=heads,
        head_dim=nope + rope,
        v_dim=config.integer("v_head_dim"),
        q_lora_rank=config.integer("q_lora_rank", default=0, least=0),
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_dim=nope,
        qk_rope_dim=rope,
        bias=config.flag("attention_bias"),
        sparse=_selecting(config),
    )


def _selecting(config: _Config) -> tuple[SparseLayers, ...]:
    """Read the indexer of DeepSeek-V3.2, which every layer has."""
    if "index_topk" not in config.values:
        return ()
    return (
        SparseLayers(
            layers=config.integer("num_hidden_layers"),
            selected=config.integer("index_topk"),
            indexer_heads=config.integer("index_n_heads", default=64),
            indexer_dim=config.integer("index_head_dim", default=128),
        ),
    )


def _deepseek(config: _Config) -> dict[str, Any]:
    return _first_dense(config) | {"attention": _latent(config)}


def _glm(config: _Config) -> dict[str, Any]:
    return _first_dense(config) | {"attention": _grouped(config)}


def _first_dense(config: _Config) -> dict[str, Any]:
    """Read experts in every layer after the first `first_k_dense_replace`."""
    ffn = config.integer("moe_intermediate_size")
    shared = config.integer("n_shared_experts", default=0, least=0)
    if config.integer("moe_layer_freq", default=1) != 1:
        config.refuse("moe_layer_freq", "only 1 is supported (experts in every layer after the dense ones)")
    groups = config.integer("n_group", default=1)
    experts = Experts(
        routed_experts=config.integer("n_routed_experts"),
        top_k=config.integer("num_experts_per_tok"),
        expert_ffn=ffn,
        shared_experts=shared,
        shared_ffn=shared * ffn,
        n_group=groups,
        topk_group=config.integer("topk_group", default=1),
    )
    return {
        "dense_layers": config.integer("first_k_dense_replace", default=0, least=0),
        "dense_ffn": config.integer("intermediate_size"),
        "experts": experts,
    }


def _all_experts(config: _Config) -> dict[str, Any]:
    """Read experts of width `intermediate_size` in every layer (Mixtral, OLMoE, gpt-oss)."""
    experts = Experts(
        routed_experts=config.integer("num_local_experts", "num_experts"),
        top_k=config.integer("num_experts_per_tok", "experts_per_token"),
        expert_ffn=config.integer("intermediate_size"),
    )
    return {"dense_layers": 0, "experts": experts, "attention": _grouped(config)}


def _gpt_oss(config: _Config) -> dict[str, Any]:
    if not config.listing("layer_types"):
        config.refuse("layer_types", "expected the list of sliding and full attention layers")
    fields = _all_experts(config)
    return fields | {"attention": _grouped(config, bias=True, head_dim=64), "lacks": "Attention sinks, expert biases."}


def _qwen_moe(config: _Config) -> dict[str, Any]:
    """Read experts in every `decoder_sparse_step`-th layer that isn't in `mlp_only_layers`."""
    layers, step = config.integer("num_hidden_layers"), config.integer("decoder_sparse_step", default=1)
    dense = {layer for layer in config.listing("mlp_only_layers") if isinstance(layer, int) and 0 <= layer < layers}
    shared = config.integer("shared_expert_intermediate_size", default=0, least=0)
    experts = Experts(
        routed_experts=config.integer("num_experts", "num_local_experts"),
        top_k=config.integer("num_experts_per_tok"),
        expert_ffn=config.integer("moe_intermediate_size"),
        shared_experts=1 if shared else 0,
        shared_ffn=shared,
    )
    sparse = layers // step - sum((layer + 1) % step == 0 for layer in dense)
    return {
        "dense_layers": layers - sparse,
        "dense_ffn": config.integer("intermediate_size") if layers > sparse else 0,
        "experts": experts,
        "attention": _grouped(config, bias=config.values["model_type"] == "qwen2_moe"),
    }


def _dense(config: _Config) -> dict[str, Any]:
    return {
        "dense_layers": config.integer("num_hidden_layers"),
        "dense_ffn": config.integer("intermediate_size"),
        "attention": _grouped(config, bias=config.values["model_type"] == "qwen2"),
    }


READERS: dict[str, Callable[[_Config], dict[str, Any]]] = {
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_v32": _deepseek,
    "kimi_k2": _deepseek,
    "glm4_moe": _glm,
    "mixtral": _all_experts,
    "olmoe": _all_experts,
    "gpt_oss": _gpt_oss,
    "qwen2_moe": _qwen_moe,
    "qwen3_moe": _qwen_moe,
    "llama": _dense,
    "mistral": _dense,
    "qwen2": _dense,
    "qwen3": _dense,
}


def _check_together(config: _Config, spec: ModelSpec) -> None:
    """Note values that are fine alone but not together."""
    experts, attention = spec.experts, spec.attention
    if spec.dense_layers > spec.layers:
        config.problems.append(f"{config.place}: {spec.dense_layers} dense layers of {spec.layers}: too many")
    if attention.heads % attention.kv_heads:
        config.refuse("num_key_value_heads", f"does not divide {attention.heads} attention heads")
    if experts and experts.top_k > experts.routed_experts:
        config.refuse("num_experts_per_tok", f"more than the {experts.routed_experts} routed experts")
    if experts and (experts.routed_experts % experts.n_group or experts.topk_group > experts.n_group):
        config.refuse("n_group", f"{experts.routed_experts} experts and topk_group {experts.topk_group} do not fit it")
