"""What a scenario says of serving requests: pools, router, KV memory, failures."""

from typing import Literal

from pydantic import Field

from simulator.section import MAX_TOKENS, Section


class ServingFailure(Section):
    """A rank that fails while requests are served."""

    pool: Literal["prefill", "decode"] = Field(default="decode", description="without pools of their own: 'prefill'")
    instance: int = Field(default=0, ge=0, description="number of the instance in its pool")
    at_s: float = Field(ge=0, description="seconds after the first request")
    policy: Literal["restart", "redundant"] = Field(
        default="restart",
        description="restart: the instance is gone for down_s; redundant: it goes on without the rank, whose experts "
        "others hold too",
    )
    down_s: float = Field(default=300.0, gt=0, description="time to restart an instance")


class Serving(Section):
    """Request-level simulation: instances of a decode scenario, and how requests get to them."""

    prefill: str | None = Field(
        default=None,
        description="scenario (shipped, or beside this file) of the instances that compute prompts; default: those "
        "that decode do, in chunks",
    )
    instances: int = Field(default=1, ge=1, le=4096, description="decode instances, or those that do both")
    prefill_instances: int = Field(default=1, ge=1, le=4096, description="instances that only compute prompts")
    router: Literal["round-robin", "least-loaded", "cache-aware"] = Field(
        default="least-loaded", description="how requests are spread over the instances that compute prompts"
    )
    token_budget: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TOKENS,
        description="tokens of a rank's iteration, decode first, then prompt chunks; default: tokens_per_rank of the "
        "prefill scenario, else 4096",
    )
    max_sequences_per_rank: int | None = Field(
        default=None, ge=1, le=100_000, description="default: workload.batch_per_rank"
    )
    kv_block_tokens: int = Field(default=64, ge=1, le=65_536, description="tokens of a KV block")
    preemption: Literal["recompute", "swap"] = Field(
        default="recompute", description="what happens to sequences whose rank runs out of KV blocks"
    )
    host_bytes_per_s: float = Field(
        default=25e9,
        gt=0,
        description="assumed: a rank's rate to and from host memory (PCIe 4.0 x16 achieves about so)",
    )
    prefix_cache_bytes: float = Field(
        default=0.0, ge=0, description="prefix cache of an instance, beside device memory; 0: none"
    )
    prefix_cache_scope: Literal["instance", "all"] = Field(
        default="instance", description="all: one cache, of all instances' size, for all of them (pooled memory)"
    )
    prefix_cache_bytes_per_s: float | None = Field(
        default=None, gt=0, description="a rank's rate of loading cached prefixes; default: host_bytes_per_s"
    )
    failures: tuple[ServingFailure, ...] = Field(default=(), strict=False, description="ranks that fail")
