"""Device memory of a rank: what it holds, item by item [bytes]."""

from simulator.plan import Layout
from simulator.result import MemoryUse
from simulator.schedules.table import SCHEDULES
from workloads.models.counts import Parameters
from workloads.models.specs import ModelSpec
from workloads.operators import SCORE_BYTES

# Mixed-precision training state per parameter: weights in BF16, gradients accumulated in FP32, and FP32 master weights
# with two Adam moments (Rajbhandari et al., arXiv:1910.02054 section 3.1; Megatron-LM's distributed optimizer).
WEIGHT_BYTES = 2.0
GRADIENT_BYTES = 4.0
OPTIMIZER_BYTES = 12.0
ACTIVATION_BYTES = 2.0
# Runtime context, communication buffers and allocator fragmentation: assumed, as no source gives one figure for all.
RESERVE_BYTES = 4.0 * 2**30
DTYPE_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}


def stage_parameters(
    model: ModelSpec, counts: Parameters, layers: range, first: bool, last: bool, tensor: int
) -> tuple[float, float]:
    """Return the parameters of one rank outside the routed experts, and of all routed experts of its stage.

    Parameters
    ----------
    layers
        Transformer layers of the stage, numbered over the model; the first `model.dense_layers` are dense.
    first, last
        Whether the stage holds the embedding, and the LM head with the MTP layers.
    tensor
        TP ranks that share the matrices.
    """
    dense = sum(1 for layer in layers if layer < model.dense_layers or not model.experts)
    moe = len(layers) - dense
    own = len(layers) * counts.attention_per_layer + dense * counts.dense_ffn_per_layer
    own += moe * (counts.router_per_layer + counts.shared_experts_per_layer)
    all_routed = counts.expert * (model.experts.routed_experts if model.experts else 0)
    own += counts.embedding * first + counts.head * last
    experts = moe * all_routed
    if last:
        own += counts.mtp - model.mtp_layers * all_routed
        experts += model.mtp_layers * all_routed
    return own / tensor, experts


def part_parameters(model: ModelSpec, counts: Parameters, layout: Layout, part: int) -> tuple[float, float]:
    """Return `stage_parameters` of one of the model parts that a layout makes."""
    last = len(layout.stage_layers) - 1
    return stage_parameters(model, counts, layout.layers_of(part), part == 0, part == last, layout.tensor)


def held_parts(layout: Layout, schedule: str, stage: int) -> list[int]:
    """Return the model parts that a rank of a stage holds; in DualPipe also those of the stage at the other end."""
    held = layout.parts_of(stage)
    return [*held, *(len(layout.stage_layers) - 1 - part for part in held if copies(layout, schedule) > 1)]


def copies(layout: Layout, schedule: str) -> int:
    """Return on how many stages each model part is held, which ZeRO-1 shards optimizer state over too."""
    return SCHEDULES[schedule].copies if layout.pipeline > 1 else 1


def activation_bytes_per_token(
    model: ModelSpec, dense: bool, recompute: str, dtype: str, imbalance: float, expert_tensor: int = 1
) -> float:
    """Return the bytes that one layer keeps per token for its backward pass, with flash attention.

    `none` keeps every GEMM input, queries, keys and values, and both sides of the activation function, in BF16.
    `light` keeps the inputs of norms, compressed latents, the attention output and the activation function's input,
    GEMM inputs in the GEMM's format (DeepSeek-V3, arXiv:2412.19437 sections 3.2.3 and 3.3.3); `selective` is the same
    without the attention output; `full` keeps the layer's input only (arXiv:2205.05198 section 5).

    Parameters
    ----------
    dtype
        GEMM format.
    imbalance
        Tokens on the busiest expert rank over the mean, which scales what the routed experts keep.
    expert_tensor
        Ranks that gather each other's expert inputs and split the experts' width.
    """
    attention, hidden, experts = model.attention, model.hidden, model.experts
    if recompute == "full":
        return hidden * ACTIVATION_BYTES
    output = attention.heads * attention.v_dim
    queries_keys_values = (
        attention.heads + attention.kv_heads
    ) * attention.head_dim + attention.kv_heads * attention.v_dim
    compressed = attention.q_lora_rank + attention.kv_lora_rank + attention.qk_rope_dim
    gates = model.ffn_matrices - 1
    width = model.dense_ffn if dense or experts is None else experts.shared_ffn
    routed = 0 if dense or experts is None else experts.top_k * imbalance
    expert_ffn = experts.expert_ffn if experts else 0
    gathered = hidden * expert_tensor
    if recompute == "none":
        inputs = 2 * hidden + compressed + queries_keys_values + output
        ffn = 2 * hidden + (gates + 1) * width + routed * (gathered + (gates + 1) * expert_ffn)
        return (inputs + ffn) * ACTIVATION_BYTES
    input_bytes = DTYPE_BYTES[dtype]
    block = (2 * hidden + compressed + (output if recompute == "light" else 0)) * ACTIVATION_BYTES
    return block + (gates * width + routed * (gathered + gates * expert_ffn)) * input_bytes


def in_flight(schedule: str, stage: int, layout: Layout) -> int:
    """Return the most micro-batches, or chunks of one with several parts, whose activations a rank holds at once."""
    return SCHEDULES[schedule].in_flight(stage, layout.pipeline, layout.micro_batches, layout.virtual_stages)


def training_memory(
    model: ModelSpec,
    counts: Parameters,
    layout: Layout,
    schedule: str,
    zero: int,
    recompute: str,
    dtype: str,
    tokens: float,
    imbalance: float,
    capacity_bytes: float,
    scores: float = 0.0,
) -> tuple[MemoryUse, ...]:
    """Return the memory of each pipeline stage's ranks; the busiest EP rank stands for its stage.

    Parameters
    ----------
    dtype
        GEMM format.
    tokens
        Tokens of one micro-batch on a CP rank, before TP.
    imbalance
        See `activation_bytes_per_token`.
    scores
        Attention scores per token of one layer that pass through memory: heads x context without fused attention.
    """
    uses, scores_bytes = [], SCORE_BYTES * scores
    for stage in range(layout.pipeline):
        held = held_parts(layout, schedule, stage)
        own = experts = kept = 0.0
        for part in held:
            more, routed = part_parameters(model, counts, layout, part)
            own, experts = own + more, experts + routed / layout.expert_shards
            kept += sum(
                activation_bytes_per_token(
                    model, layer < model.dense_layers, recompute, dtype, imbalance, layout.expert_tensor
                )
                for layer in layout.layers_of(part)
            )
            kept += scores_bytes * len(layout.layers_of(part)) * (recompute in {"none", "light"})
        kept /= len(held)
        holders = copies(layout, schedule)
        shards = layout.dense_copies * holders, layout.expert_groups * holders
        working = 0.0
        if recompute != "none":
            working = activation_bytes_per_token(model, False, "none", dtype, imbalance) + scores_bytes
        items = {
            "weights": WEIGHT_BYTES * _held(own, experts, shards, zero >= 3),
            "gradients": GRADIENT_BYTES * _held(own, experts, shards, zero >= 2),
            "optimizer": OPTIMIZER_BYTES * _held(own, experts, shards, zero >= 1),
            "activations": kept * tokens / layout.tensor * in_flight(schedule, stage, layout),
            "recomputed layer": working * tokens / layout.tensor,
            "logits": tokens * model.vocab / layout.tensor * 4.0 * (len(layout.stage_layers) - 1 in held),
            "reserve": RESERVE_BYTES,
        }
        if zero >= 3:
            items["gathered weights"] = WEIGHT_BYTES * _gathered(model, counts, layout)
        uses.append(
            MemoryUse(
                rank_class=f"stage {stage}", items=items, total_bytes=sum(items.values()), capacity_bytes=capacity_bytes
            )
        )
    return tuple(uses)


def _held(own: float, experts: float, shards: tuple[int, int], sharded: bool) -> float:
    return own / shards[0] + experts / shards[1] if sharded else own + experts


def _gathered(model: ModelSpec, counts: Parameters, layout: Layout) -> float:
    """Return the parameters of the layer that computes and of the next, which is prefetched: the largest, twice."""
    own, experts = stage_parameters(model, counts, range(model.layers - 1, model.layers), False, False, layout.tensor)
    return 2.0 * (own + experts / layout.expert_shards)


def serving_memory(
    model: ModelSpec,
    counts: Parameters,
    layout: Layout,
    weight_dtype: str,
    kv_bytes: float,
    slots: int,
    tokens: float,
    imbalance: float,
    capacity_bytes: float,
    shared_ranks: int,
) -> tuple[MemoryUse, ...]:
    """Return the memory of the ranks of a prefill or decode instance.

    Parameters
    ----------
    kv_bytes
        KV cache of one rank [bytes].
    slots
        Routed-expert slots per rank and layer.
    tokens
        Tokens that one rank computes per iteration.
    shared_ranks
        EP ranks that hold a copy of the shared expert instead of routed ones.
    """
    own, _ = stage_parameters(model, counts, range(model.layers), True, True, layout.tensor)
    embeddings = (counts.embedding + counts.head) / layout.tensor
    shared = model.moe_layers * counts.shared_experts_per_layer / layout.tensor
    body = own - embeddings - (shared if shared_ranks else 0.0)
    width = DTYPE_BYTES[weight_dtype]
    per_layer = 4 * model.hidden + 2 * model.attention.heads * model.attention.head_dim / layout.tensor
    top_k = model.experts.top_k if model.experts else 0
    buffers = 2 * tokens * top_k * imbalance * model.hidden * ACTIVATION_BYTES
    items = {
        "weights": body * width + embeddings * 2.0,
        "routed experts": model.moe_layers * counts.expert * slots * width,
        "kv cache": kv_bytes,
        "activations": tokens * per_layer * ACTIVATION_BYTES,
        "dispatch and combine buffers": buffers,
        "reserve": RESERVE_BYTES,
    }
    return (
        MemoryUse(
            rank_class="every rank" if not shared_ranks else "routed-expert rank",
            items=items,
            total_bytes=sum(items.values()),
            capacity_bytes=capacity_bytes,
        ),
    )
