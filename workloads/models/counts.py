"""How many parameters a model has, part by part, from its dimensions."""

from dataclasses import dataclass

from workloads.models.specs import Attention, Experts, ModelSpec


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameter counts of one model; `_per_layer` counts are of one layer that has the part.

    Parameters
    ----------
    embedding, head
        Input and output matrices; the head is 0 where they are tied.
    attention_per_layer, dense_ffn_per_layer, router_per_layer, shared_experts_per_layer
        One layer's projections, without norms.
    expert
        One routed expert.
    norms
        All norm weights of the model.
    mtp
        All multi-token-prediction layers, which no published total includes; embedding and head are shared.
    total
        Everything but `mtp`.
    active
        What one token passes through: `total` less the routed experts it does not reach.
    """

    embedding: int
    head: int
    attention_per_layer: int
    dense_ffn_per_layer: int
    router_per_layer: int
    expert: int
    shared_experts_per_layer: int
    norms: int
    mtp: int
    total: int
    active: int


def parameters(spec: ModelSpec) -> Parameters:
    """Return the parameter counts of a model.

    Feed-forward biases, learned positions and attention sinks are left out: below 0.1 % of any model here.
    """
    hidden, experts = spec.hidden, spec.experts
    attention = _attention(spec.attention, hidden) + _indexer(spec)
    dense = spec.ffn_matrices * hidden * spec.dense_ffn
    router = hidden * experts.routed_experts if experts else 0
    expert = spec.ffn_matrices * hidden * experts.expert_ffn if experts else 0
    shared = spec.ffn_matrices * hidden * experts.shared_ffn if experts else 0
    norm = 2 * hidden + spec.attention.q_lora_rank + spec.attention.kv_lora_rank
    embedding = spec.vocab * hidden
    head = 0 if spec.tied_embeddings else embedding
    norms = spec.layers * norm + hidden
    moe_layer = router + shared + expert * experts.routed_experts if experts else 0
    base = embedding + head + norms + spec.layers * attention + (spec.layers - spec.moe_layers) * dense
    return Parameters(
        embedding=embedding,
        head=head,
        attention_per_layer=attention,
        dense_ffn_per_layer=dense,
        router_per_layer=router,
        expert=expert,
        shared_experts_per_layer=shared,
        norms=norms,
        mtp=spec.mtp_layers * (attention + (moe_layer or dense) + norm + 2 * hidden**2 + 3 * hidden),
        total=base + spec.moe_layers * moe_layer,
        active=base + spec.moe_layers * (moe_layer - expert * _unreached(experts)),
    )


def _unreached(experts: Experts | None) -> int:
    return experts.routed_experts - experts.top_k if experts else 0


def _indexer(spec: ModelSpec) -> int:
    """Count the projections of the indexers, the mean over all layers."""
    a = spec.attention
    rank = a.q_lora_rank or spec.hidden
    each = (
        part.layers
        * (rank * part.indexer_heads * part.indexer_dim + spec.hidden * (part.indexer_dim + part.indexer_heads))
        for part in a.sparse
        if part.indexer_heads
    )
    return round(sum(each) / max(spec.layers, sum(part.layers for part in a.sparse)))


def _attention(attention: Attention, hidden: int) -> int:
    """Count query, key-value and output projections and their biases."""
    query_width = attention.heads * attention.head_dim
    value_width = attention.heads * attention.v_dim
    rank = attention.q_lora_rank
    query = hidden * rank + rank * query_width if rank else hidden * query_width
    key_value_width = attention.kv_heads * (attention.head_dim + (0 if attention.shared_entry else attention.v_dim))
    if attention.kind == "mla":
        compressed = attention.kv_lora_rank + attention.qk_rope_dim
        expanded = attention.heads * (attention.qk_nope_dim + attention.v_dim)
        key_value = hidden * compressed + attention.kv_lora_rank * expanded
    else:
        key_value = hidden * key_value_width
    if attention.output_groups:
        output = value_width * attention.output_rank + attention.output_groups * attention.output_rank * hidden
    else:
        output = value_width * hidden
    bias = query_width + key_value_width if attention.bias else 0
    return query + key_value + output + bias
