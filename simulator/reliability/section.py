"""The scenario's [reliability] table: what fails, how it is noticed and mended, how state is saved."""

from typing import Literal

from pydantic import Field

from simulator.section import Section

DAY = 86_400.0


class Reliability(Section):
    """Failures, checkpoints and spares of a long training run (`epsim goodput`)."""

    fleet: str = Field(
        default="llama-3",
        description="published failure rates per chip and class: llama-3, rsc-1, rsc-2, ft-hsdp, huawei-10k",
    )
    failures_per_chip_hour: float | None = Field(
        default=None, ge=0, le=1, description="your own rate instead of a fleet's; each takes its node"
    )
    history: str | None = Field(
        default=None, description="CSV of recorded interruptions (hours, component) that is replayed instead"
    )
    detection_s: float = Field(
        default=600.0,
        ge=0,
        le=DAY,
        description="failure to dead job; default: 10 min, without inspection (arXiv:2509.16293, arXiv:2402.15627)",
    )
    restart_s: float | None = Field(
        default=None,
        ge=0,
        le=DAY,
        description="reschedule, set up communication, first steps; default: 90 s + 8.2 ms per chip, a line through "
        "the cold recoveries of 16,000 to 98,000 H100 (arXiv:2602.00277)",
    )
    checkpoint: Literal["synchronous", "asynchronous", "in-memory"] = Field(
        default="asynchronous",
        description="work stops for the write; for the copy to host memory only; the same, and kept in a peer's memory",
    )
    checkpoint_interval_s: float | None = Field(
        default=None, gt=0, le=30 * DAY, description="work between checkpoints; default: the best (Daly, exact)"
    )
    storage_bytes_per_s: float = Field(
        default=2e12, gt=0, le=1e18, description="all of storage; default: Llama 3's (arXiv:2407.21783 section 3.3.1)"
    )
    storage_bytes_per_s_per_node: float = Field(
        default=10 * 2.0**30, gt=0, le=1e15, description="one node to storage; default: Fire-Flyer's (arXiv:2408.14158)"
    )
    snapshot_bytes_per_s: float = Field(
        default=20e9, gt=0, le=1e15, description="one chip to host memory; default assumed: PCIe 4.0 x16 at 2/3"
    )
    spare_nodes: int = Field(default=8, ge=0, le=100_000, description="nodes beyond those that work")
    spares: Literal["hot", "cold"] = Field(default="hot", description="hot: take part at once; cold: start first")
    spare_start_s: float = Field(default=600.0, ge=0, le=DAY, description="until a cold spare can take part; assumed")
    repair_s: float = Field(default=DAY, ge=0, le=365 * DAY, description="failure to return of a node; assumed")
    elastic_nodes: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="nodes that may be missing beyond the spares before the job waits; each costs one DP replica",
    )
    jitter: float = Field(
        default=0.0, ge=0, le=1, description="deviation of a rank's step time over its mean; the slowest sets the pace"
    )
    slow_share: float = Field(default=0.0, ge=0, le=1, description="share of chips that are slow")
    slow_speed: float = Field(default=0.94, gt=0, le=1, description="their speed; MegaScale's straggler machines: 6 %")
