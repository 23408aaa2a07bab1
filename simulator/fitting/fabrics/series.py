"""What a fit needs: the rows of one library on one fabric, and which of its constants are free."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.calibration.fabrics import PARTS

# One of PARTS, which every fabric has; any other part is a library by its own name.
Part = str
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
    copies
        What dispatch sends once: a token per expert that it is routed to, or per rank or node.
    mode
        Of a library that is not the usual one of its mode.
    """

    fabric: str
    part: Part
    rows: Rows
    free: tuple[str, ...]
    source: str
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    scale_up: str = ""
    copies: Literal["expert", "rank", ""] = ""
    mode: Literal["normal", "low-latency"] = "normal"

    @property
    def runs_as(self) -> Literal["normal", "low-latency"]:
        """Mode of the library."""
        if self.part in PARTS:
            return "low-latency" if self.part == "low_latency" else "normal"
        return self.mode

    @property
    def marks(self) -> dict[str, Any]:
        """What the record of the series says beside numbers."""
        if self.part in {"collective", "copies"}:
            return {}
        sent_once = self.copies or ("rank" if self.runs_as == "normal" else "expert")
        return {"copies": sent_once} | ({} if self.part in PARTS else {"mode": self.mode})


@dataclass(frozen=True)
class Assumption:
    """A fabric without measurements of its own takes the constants of `like`, a `fabric/part`, but for `save`."""

    fabric: str
    part: Part
    like: str
    because: str
    save: Mapping[str, float] = field(default_factory=dict)
