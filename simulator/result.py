"""What a run answers: a frozen record, every number with its unit, every second attributed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

# Where the time of one step or iteration goes. `memory` is time bound by device-memory bandwidth, `imbalance_wait` the
# wait for the most loaded rank, `overhead` kernel launches and host work. Communication kinds hold exposed time only.
PARTS = (
    "compute",
    "memory",
    "dispatch",
    "combine",
    "tensor_parallel",
    "context_parallel",
    "pipeline",
    "data_parallel",
    "optimizer",
    "imbalance_wait",
    "bubble",
    "overhead",
)
PART_LABELS = {
    "compute": "compute",
    "memory": "memory-bound",
    "dispatch": "dispatch (exposed)",
    "combine": "combine (exposed)",
    "tensor_parallel": "TP collectives (exposed)",
    "context_parallel": "CP exchange (exposed)",
    "pipeline": "PP send/recv (exposed)",
    "data_parallel": "DP gradient collectives (exposed)",
    "optimizer": "optimizer",
    "imbalance_wait": "imbalance wait",
    "bubble": "pipeline bubble",
    "overhead": "launch and host overhead",
}


class Record(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MemoryUse(Record):
    """Device memory of one class of ranks (for training, one pipeline stage) [bytes].

    `items` sums to `total_bytes`; `short_bytes` is what is missing, 0 where it fits.
    """

    rank_class: str
    items: dict[str, float]
    total_bytes: float
    capacity_bytes: float

    @property
    def short_bytes(self) -> float:
        """Bytes missing on each rank of the class; 0 where the plan fits."""
        return max(0.0, self.total_bytes - self.capacity_bytes)


class Source(Record):
    """Where a figure that the run used comes from."""

    what: str
    kind: Literal["datasheet", "measured", "fitted", "assumed", "trace"]
    source: str


class Result(Record):
    """One simulated step (training) or iteration (prefill, decode) in steady state.

    Throughput counts trained, prefilled or generated tokens; `per_chip` divides by chips as sold (packages).
    `breakdown_s` has one entry per name in `PARTS` and sums to `step_s`.
    """

    scenario: str
    digest: str
    fidelity: Literal["analytic", "des"]
    seed: int
    phase: Literal["training", "prefill", "decode"]
    model: str
    cluster: str
    chip: str
    chips: int
    ranks: int
    plan: dict[str, int | str]
    step_s: float
    tokens_per_step: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    ttft_s: float | None
    tpot_s: float | None
    mfu: float
    breakdown_s: dict[str, float]
    imbalance: float | None  # tokens computed by the busiest EP rank over the mean, averaged over MoE layers
    memory: tuple[MemoryUse, ...]
    power_w: float | None  # whole cluster, PUE included
    energy_j_per_token: float | None
    usd_per_hour: float | None  # whole cluster
    usd_per_million_tokens: float | None
    sources: tuple[Source, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def bottleneck(self) -> str:
        """The part that takes most of the time."""
        return max(self.breakdown_s, key=lambda part: self.breakdown_s[part])
