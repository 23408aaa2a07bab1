"""What a fit needs: the rows of one library on one fabric, and which of its constants are free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["collective", "normal", "low_latency"]
PARTS: tuple[Part, ...] = ("collective", "normal", "low_latency")
Rows = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Series:
    """Rows of one library on one fabric that share their constants.

    Parameters
    ----------
    fabric, part
        What is calibrated.
    rows
        Ids of rows, `*` for anything, by the catalogue cluster that they are replayed on.
    free
        Constants to fit; `fixed_s` is one value for dispatch and combine.
    source
        Where rows and fixed constants come from.
    fixed
        Constants that the rows can't tell: a value, or `fabric/part` that lends its own.
    scale_up
        Inner fabric where it is not the cluster's.
    once_per_rank
        Low-latency library that sends one copy per rank, not one per expert.
    """

    fabric: str
    part: Part
    rows: Rows
    free: tuple[str, ...]
    source: str
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    scale_up: str = ""
    once_per_rank: bool = False


@dataclass(frozen=True)
class Assumption:
    """A fabric without measurements of its own takes the constants of `like`, a `fabric/part`, but for `save`."""

    fabric: str
    part: Part
    like: str
    because: str
    save: Mapping[str, float] = field(default_factory=dict)
