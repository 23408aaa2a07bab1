"""What request-level simulation answers: frozen records, every number with its unit."""

from simulator.result import Record, Source


class Spread(Record):
    """A distribution over requests (or steps): mean and percentiles; None where nothing was counted."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


class PoolResult(Record):
    """One pool of instances over the whole run.

    `breakdown` holds the shares of the instances' time by part of `simulator.engine.serving.records.ITERATION_PARTS`.
    """

    pool: str
    chip: str
    chips: int
    instances: int
    ranks_per_instance: int
    plan: dict[str, int | str]
    kv_tokens_per_rank: int
    max_sequences_per_rank: int
    token_budget: int
    iterations: int
    iteration_s: float | None
    batch: float  # decoding sequences per rank, averaged over time with work
    kv_occupancy: float  # share of the blocks, averaged over time with work
    kv_occupancy_peak: float
    breakdown: dict[str, float]


class ServingResult(Record):
    """Requests served by a deployment. Statistics are of requests that arrive, and tokens that come, in the window."""

    scenario: str
    digest: str
    seed: int
    model: str
    requests: int
    source: str
    offered_per_s: float
    saturation_per_s: float
    stable: bool
    window_s: tuple[float, float]
    counted: int
    unfinished: int
    end_s: float
    chips: int
    ttft_s: Spread
    tpot_s: Spread
    inter_token_s: Spread
    end_to_end_s: Spread
    queue_s: Spread
    input_tokens_per_s: float
    output_tokens_per_s: float
    input_tokens_per_s_per_chip: float
    output_tokens_per_s_per_chip: float
    slo: dict[str, float]
    goodput_per_s: float | None  # requests within all limits
    goodput_share: float | None
    cached_share: float  # of prompt tokens, from prefix caches
    preemptions: int
    iterations: int
    events: int
    pools: tuple[PoolResult, ...]
    usd_per_hour: float | None
    usd_per_million_input_tokens: float | None
    usd_per_million_output_tokens: float | None
    energy_j_per_output_token: float | None
    sources: tuple[Source, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
