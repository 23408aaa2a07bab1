"""What a model is: dimensions, as its configuration prints them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A frozen record that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SparseLayers(Record):
    """Layers whose queries see a part of the keys: DeepSeek-V3.2's sparse, V4's compressed attention.

    `compression` tokens make one entry; of these each query takes `selected` (None: all), which an indexer with heads
    and keys of its own chooses, and the last `window` tokens beside.
    """

    layers: int = Field(ge=1)
    compression: int = Field(default=1, ge=1)
    selected: int | None = Field(default=None, ge=1)
    window: int = Field(default=0, ge=0)
    indexer_heads: int = Field(default=0, ge=0)
    indexer_dim: int = Field(default=0, ge=0)


class Attention(Record):
    """Attention of one layer. MLA stores `kv_lora_rank + qk_rope_dim` values per token, the others keys and values.

    `head_dim` is the width of a query/key head (for MLA `qk_nope_dim + qk_rope_dim`), `v_dim` of a value head.
    """

    kind: Literal["mla", "gqa", "mha", "mqa"]
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    v_dim: int = Field(ge=1)
    q_lora_rank: int = Field(default=0, ge=0)
    kv_lora_rank: int = Field(default=0, ge=0)
    qk_nope_dim: int = Field(default=0, ge=0)
    qk_rope_dim: int = Field(default=0, ge=0)
    bias: bool = False
    window: int | None = Field(default=None, ge=1, description="tokens a sliding-window layer looks back")
    window_layers: int = Field(default=0, ge=0, description="how many layers use the window")
    sparse: tuple[SparseLayers, ...] = Field(default=(), description="layers that see a selection of the keys")
    shared_entry: bool = Field(default=False, description="keys and values are one stored entry (DeepSeek-V4)")
    output_groups: int = Field(default=0, ge=0, description="grouped low-rank output projection (DeepSeek-V4)")
    output_rank: int = Field(default=0, ge=0)


class Experts(Record):
    """The mixture-of-experts part of one MoE layer."""

    routed_experts: int = Field(ge=1)
    top_k: int = Field(ge=1)
    expert_ffn: int = Field(ge=1)
    shared_experts: int = Field(default=0, ge=0)
    shared_ffn: int = Field(default=0, ge=0, description="width of all shared experts together")
    n_group: int = Field(default=1, ge=1, description="expert groups (node-limited routing)")
    topk_group: int = Field(default=1, ge=1, description="groups that one token may reach")


class Published(Record):
    """Totals as the authors print them, in parameters."""

    total_params: float = Field(gt=0)
    active_params: float = Field(gt=0)
    source: str


class ModelSpec(Record):
    """A transformer language model."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    layers: int = Field(ge=1)
    dense_layers: int = Field(ge=0, description="layers with a dense feed-forward block, the first ones unless noted")
    hidden: int = Field(ge=1)
    vocab: int = Field(ge=1)
    dense_ffn: int = Field(default=0, ge=0)
    ffn_matrices: Literal[2, 3] = 3
    tied_embeddings: bool = False
    context: int | None = Field(default=None, ge=1)
    mtp_layers: int = Field(default=0, ge=0)
    attention: Attention
    experts: Experts | None = None
    published: Published | None = None
    estimate: bool = Field(default=False, description="press or analyst estimate, not a released configuration")
    lacks: str = Field(default="", description="what this description of the model leaves out")
    source: str
    notes: str = ""

    @property
    def moe_layers(self) -> int:
        """Layers whose feed-forward block is a mixture of experts."""
        return self.layers - self.dense_layers if self.experts else 0
