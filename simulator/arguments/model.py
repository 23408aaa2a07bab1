"""The model of a launch script: one of the catalogue with its dimensions, or a configuration of its own."""

from typing import Any

from simulator.arguments.values import Values
from workloads.models import load_model, models
from workloads.models.specs import ModelSpec


def model_table(values: Values, named: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the scenario's `[model]`, and a Hugging Face configuration where the catalogue has no such model.

    Parameters
    ----------
    named
        The model's name where the user gives it; its dimensions are not checked then.
    """
    layers, depth = values.number("num-layers"), {}
    if layers:
        layers -= len(noop_layers(values))
    if named:
        found: ModelSpec | None = load_model(named)
    else:
        found = _known(values)
    if found is None:
        if not (layers and values.number("hidden-size") and values.number("num-attention-heads")):
            values.problems.append(
                "--num-layers, --hidden-size, --num-attention-heads: not all given; add them, or name the model"
            )
            return {}, None
        return {}, _config(values, layers)
    if layers and layers != found.layers:
        depth = {"layers": layers, "dense_layers": min(_dense_layers(values, layers, found.dense_layers), layers)}
        if not found.experts:
            depth.pop("dense_layers")
    mtp = values.number("mtp-num-layers") or 0
    if mtp != found.mtp_layers:
        depth["mtp_layers"] = mtp
    return {"name": named or found.id, **depth}, None


def noop_layers(values: Values) -> list[int]:
    """Return the positions that MindSpeed leaves empty."""
    text = values.word("noop-layers")
    if text and not all(each.strip().isdecimal() and len(each) < 6 for each in text.split(",")):
        values.refuse("noop-layers", "not whole numbers joined by commas")
        return []
    return sorted({int(each) for each in text.split(",")}) if text else []


def _known(values: Values) -> ModelSpec | None:
    """Return the model of the catalogue with the same widths; of several the one of the same depth, if any."""
    fitting = [spec for spec in models() if _fits(values, spec)]
    layers = values.number("num-layers")
    fitting.sort(key=lambda spec: (spec.estimate, spec.layers != layers, spec.id))
    return fitting[0] if fitting else None


def _fits(values: Values, spec: ModelSpec) -> bool:
    a, experts = spec.attention, spec.experts
    heads = values.number("num-attention-heads")
    is_latent = values.has("multi-latent-attention") or values.number("kv-lora-rank") is not None
    same = [
        values.number("hidden-size") == spec.hidden,
        heads == a.heads,
        is_latent == (a.kind == "mla"),
        (values.number("num-experts") or 0) == (experts.routed_experts if experts else 0),
    ]
    if not is_latent:
        same.append((values.number("num-query-groups") or heads) == a.kv_heads)
    if experts and values.number("moe-ffn-hidden-size"):
        same.append(values.number("moe-ffn-hidden-size") == experts.expert_ffn)
    if experts and values.number("moe-router-topk"):
        same.append(values.number("moe-router-topk") == experts.top_k)
    if not experts and values.number("ffn-hidden-size"):
        same.append(values.number("ffn-hidden-size") == spec.dense_ffn)
    vocabulary = values.number("vocab-size")
    if vocabulary:  # padded to a multiple for TP
        same.append(spec.vocab <= vocabulary <= 1.05 * spec.vocab)
    if not experts:
        same.append((values.number("num-layers") or spec.layers) == spec.layers)
    return all(same)


def _dense_layers(values: Values, layers: int, default: int) -> int:
    """Return the leading dense layers, from MindSpeed's count or Megatron's pattern `([0]*3+[1]*58)`."""
    first = values.number("first-k-dense-replace")
    if first is not None:
        return first
    pattern = values.word("moe-layer-freq").replace(" ", "")
    if pattern.startswith("([0]*"):
        digits = pattern[5:].partition("+")[0]
        if digits.isdecimal():
            return int(digits)
    return default if values.number("num-experts") else layers


def _config(values: Values, layers: int) -> dict[str, Any]:
    """Return a Hugging Face configuration with the arguments' dimensions."""
    hidden, heads = values.number("hidden-size") or 1, values.number("num-attention-heads") or 1
    ffn = values.number("ffn-hidden-size") or 4 * hidden
    vocabulary = values.number("vocab-size")
    if not vocabulary:
        values.problems.append("--vocab-size: missing (tokenizers are not read); add it, or name the model")
    if not values.has("swiglu"):
        values.problems.append(
            "--swiglu: missing; models of two-matrix feed-forward blocks are known by name only, name the model"
        )
    common = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "vocab_size": vocabulary or 1,
        "tie_word_embeddings": not values.has("untie-embeddings-and-output-weights"),
        "intermediate_size": ffn,
        "num_nextn_predict_layers": values.number("mtp-num-layers") or 0,
    }
    grouped = {
        "num_key_value_heads": values.number("num-query-groups") or heads,
        "head_dim": values.number("kv-channels") or hidden // heads,
    }
    experts = values.number("num-experts")
    if experts is None:
        return {"model_type": "llama", **common, **grouped}
    width = values.number("moe-ffn-hidden-size") or ffn
    shared = values.number("moe-shared-expert-intermediate-size") or (values.number("n-shared-experts") or 0) * width
    routed = {
        "num_experts_per_tok": values.number("moe-router-topk") or 2,
        "moe_intermediate_size": width,
        "n_routed_experts": experts,
        "n_shared_experts": shared // width,
        "first_k_dense_replace": _dense_layers(values, layers, 0),
    }
    if shared % width:
        values.problems.append(f"--moe-shared-expert-intermediate-size {shared}: not a multiple of {width}")
    if values.has("multi-latent-attention") or values.number("kv-lora-rank"):
        return {"model_type": "deepseek_v3", **common, **routed, **_latent(values)}
    return {"model_type": "glm4_moe", **common, **grouped, **routed}


def _latent(values: Values) -> dict[str, Any]:
    """Return the dimensions of latent attention; what is not given is Megatron-LM's default."""
    return {
        "q_lora_rank": values.number("q-lora-rank") or 0,
        "kv_lora_rank": values.number("kv-lora-rank") or 32,
        "qk_nope_head_dim": values.number("qk-head-dim") or 128,
        "qk_rope_head_dim": values.number("qk-pos-emb-head-dim") or 64,
        "v_head_dim": values.number("v-head-dim") or 128,
    }
