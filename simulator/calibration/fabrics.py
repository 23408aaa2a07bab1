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
    """One protocol of a collective library beside that for large messages.

    `share` is its rate over the large-message rate, `ramp_s` the time that it takes to fill its buffers, paid once.
    """

    share: float = Field(gt=0, le=1)
    ramp_s: float = Field(default=0.0, ge=0)


class Kernel(Record):
    """A kernel of its own: achieved over nominal port bandwidth, and a time apart from bytes that is paid once."""

    fraction: float = Field(gt=0, le=1)
    ramp_s: float = Field(default=0.0, ge=0)


class CollectiveConstants(Provenance):
    """Collectives of one library on one fabric.

    `fraction` is achieved over nominal port bandwidth with large messages, `step_s` the time of one step of an
    algorithm apart from bytes, `launch_s` is paid once, `ramp_s` too: filling the buffers of the large-message
    protocol. `medium` and `small` trade bandwidth for that (NCCL's LL128 and LL); `in_switch` reduces and multicasts in
    the switch (NVLS); `exchange` is send and receive, which all-to-all is made of. `copy_gain` is the rate at which a
    rank copies its own share into the result over the rate at which it sends; None where that costs nothing.
    """

    library: Literal["NCCL", "HCCL", "RCCL"] = "NCCL"
    fraction: float = Field(gt=0, le=1)
    step_s: float = Field(ge=0)
    launch_s: float = Field(ge=0)
    ramp_s: float = Field(default=0.0, ge=0)
    copy_gain: float | None = Field(default=None, gt=0)
    medium: Protocol | None = None
    small: Protocol | None = None
    in_switch: Kernel | None = None
    exchange: Kernel | None = None


class CopyConstants(Provenance):
    """Copies between two ranks that no collective library makes (copy engines, HIXL, RDMA): writes and reads.

    Fractions are achieved over nominal bandwidth; `launch_s` is paid per copy, above the fabric's latency.
    """

    write_fraction: float = Field(gt=0, le=1)
    read_fraction: float = Field(gt=0, le=1)
    launch_s: float = Field(ge=0)


class ExpertParallelConstants(Provenance):
    """Dispatch and combine of one library in one mode on one fabric (DeepEP, Hybrid-EP, CANN EP).

    A rank's own copies are handled in three stages that work side by side: cores copy, the inner plane forwards, the
    outer plane carries. `fraction` is achieved over nominal rate of this fabric's links. `cores` are taken from compute
    while the operation runs; one of them copies `core_bytes_per_s` (`combine_core_bytes_per_s` while it also adds up),
    and needs `core_copy_s` for each copy beside. Without a rate, cores are not what limits.

    `dispatch_fixed_s` and `combine_fixed_s` are the time of an empty operation, `host_s` what launches and host code
    around the kernels add, `doubling_s` what each doubling of the EP group adds (flags and signalling).
    `overlap_exponent` p says how well the stages hide behind each other, (sum of t^p)^(1/p): 1 not at all; without it
    perfectly. All but `fraction` are read from the outermost fabric that is used. `copies` says what is sent once: a
    token per expert that it is routed to, or per rank (per node, and forwarded inside it, where it crosses planes).
    """

    fraction: float = Field(gt=0, le=1)
    dispatch_fixed_s: float = Field(ge=0)
    combine_fixed_s: float = Field(ge=0)
    doubling_s: float = Field(default=0.0, ge=0)
    host_s: float = Field(default=0.0, ge=0)
    overlap_exponent: float | None = Field(default=None, ge=1)
    cores: int = Field(default=0, ge=0)
    core_bytes_per_s: float | None = Field(default=None, gt=0)
    combine_core_bytes_per_s: float | None = Field(default=None, gt=0)
    core_copy_s: float = Field(default=0.0, ge=0)
    copies: Literal["expert", "rank"]


class LibraryConstants(ExpertParallelConstants):
    """A library beside the usual one of its mode."""

    mode: Literal["normal", "low-latency"]


# What every fabric has: collectives, copies, and the usual library of each mode of dispatch and combine.
PARTS = ("collective", "copies", "normal", "low_latency")


class FabricCalibration(Record):
    """All constants of one fabric: collectives, copies, the usual libraries of both modes, and others by name."""

    fabric: str
    collective: CollectiveConstants
    copies: CopyConstants
    normal: ExpertParallelConstants
    low_latency: ExpertParallelConstants
    libraries: dict[str, LibraryConstants] = Field(default_factory=dict)


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
