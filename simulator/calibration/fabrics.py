"""What fabrics and their libraries achieve: fitted or measured fractions and latencies, apart from the datasheet."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.errors import UserError


class Record(BaseModel):
    """A frozen record that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Provenance(Record):
    """How the constants beside it were found."""

    kind: Literal["measured", "fitted", "assumed"]
    source: str
    rows: tuple[str, ...] = ()
    mean_abs_error: float | None = Field(default=None, ge=0)


class Protocol(Record):
    """How one protocol of a collective library moves data.

    `fraction` is achieved over nominal port bandwidth, `step_s` the time of one step of an algorithm apart from bytes.
    """

    fraction: float = Field(gt=0, le=1)
    step_s: float = Field(ge=0)


class CollectiveConstants(Provenance, Protocol):
    """Collectives on one fabric (NCCL, HCCL, RCCL): the protocol for large messages, and those beside it.

    `launch_s` is paid once. `small` trades bandwidth for shorter steps (NCCL's LL and LL128); `in_switch` reduces and
    multicasts in the switch (NVLS), for all-reduce only.
    """

    launch_s: float = Field(ge=0)
    small: Protocol | None = None
    in_switch: Protocol | None = None


class ExpertParallelConstants(Provenance):
    """Dispatch and combine of one library in one mode on one fabric (DeepEP, CANN EP).

    `fixed_s` is the time of an empty operation, `doubling_s` what each doubling of the EP group adds (flags and
    signalling), `core_share` the share of the chip's cores taken from compute while it runs. `overlap_exponent` p says
    how well the stages of a path hide behind each other, (sum of t^p)^(1/p): 1 not at all, infinity perfectly. It is
    read from the outermost plane, and counts only where copies are forwarded from one plane to another.
    `once_per_rank` marks a low-latency library that sends a token once per rank, not once per expert.
    """

    fraction: float = Field(gt=0, le=1)
    dispatch_fixed_s: float = Field(ge=0)
    combine_fixed_s: float = Field(ge=0)
    doubling_s: float = Field(ge=0)
    overlap_exponent: float | None = Field(default=None, ge=1)
    core_share: float = Field(ge=0, lt=1)
    once_per_rank: bool = False


class FabricCalibration(Record):
    """All constants of one fabric."""

    fabric: str
    collective: CollectiveConstants
    normal: ExpertParallelConstants
    low_latency: ExpertParallelConstants


@cache
def fabric_calibration(fabric: str) -> FabricCalibration:
    """Return the calibration of a fabric id.

    Raises
    ------
    UserError
        If the fabric has none.
    """
    path = files("simulator.calibration").joinpath("fabrics", f"{fabric}.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"fabric {fabric}: no calibration; add simulator/calibration/fabrics/{fabric}.toml") from None
    return FabricCalibration.model_validate(tomllib.loads(text))
