"""What a machine is: frozen records of chips, fabrics and clusters.

SI units, spelled out in each field name. Bandwidth is per direction. Peaks are dense.
Every record that holds a number holds its source.
"""

from typing import Literal

from pydantic import Field

from topologies.record import Record
from topologies.shapes import AnyScaleOut, AnyScaleUp, ScaleOut, ScaleUp, SidePlane

__all__ = [
    "Accelerator",
    "ClusterSpec",
    "Dtype",
    "Fabric",
    "GraphFile",
    "Memory",
    "Peak",
    "Power",
    "Price",
    "Record",
    "ScaleOut",
    "ScaleUp",
]

Dtype = Literal["fp16", "bf16", "fp8", "int8", "fp4", "int4"]


class Peak(Record):
    """Dense peak arithmetic rate of one chip as sold, by data type [FLOP/s or OP/s]."""

    bf16_flop_per_s: float = Field(gt=0)
    fp8_flop_per_s: float | None = Field(default=None, gt=0)
    int8_flop_per_s: float | None = Field(default=None, gt=0)
    fp4_flop_per_s: float | None = Field(default=None, gt=0)
    source: str
    notes: str = ""


class Memory(Record):
    """Device memory of one chip as sold."""

    capacity_bytes: float = Field(gt=0)
    bandwidth_bytes_per_s: float = Field(gt=0)
    source: str
    notes: str = ""


class Power(Record):
    """Electrical power of one chip [W]: the board, and its share of host, switches and fans."""

    board_w: float | None = Field(default=None, gt=0)
    system_w: float | None = Field(default=None, gt=0)
    source: str
    notes: str = ""


class Price(Record):
    """Purchase price of one chip [USD]: the card alone, and its share of a whole system."""

    chip_usd: float | None = Field(default=None, gt=0)
    system_usd: float | None = Field(default=None, gt=0)
    source: str
    notes: str = ""


class Accelerator(Record):
    """One chip as the vendor sells it (a package), with `ranks_per_chip` dies that each run one rank."""

    id: str
    name: str
    vendor: str
    family: str
    status: Literal["shipping", "announced"] = "shipping"
    released: str = ""
    aliases: tuple[str, ...] = ()
    ranks_per_chip: int = Field(default=1, ge=1)
    compute_cores: int | None = Field(default=None, ge=1)
    peak: Peak
    memory: Memory
    power: Power | None = None
    price: Price | None = None
    notes: str = ""

    def peak_flop_per_s(self, dtype: Dtype) -> float | None:
        """Return the dense peak of one chip for `dtype` [FLOP/s], or None where the chip has no such units.

        FP16 runs at the BF16 rate on every part in the catalogue; INT4 weights are computed in INT8.
        """
        fields = {"fp16": "bf16", "int4": "int8"}
        value: float | None = getattr(self.peak, f"{fields.get(dtype, dtype)}_flop_per_s")
        return value


class Fabric(Record):
    """One kind of interconnect port, per rank."""

    id: str
    name: str
    kind: Literal["scale-up", "scale-out"]
    shape: Literal["switch", "mesh"] = "switch"
    port_bytes_per_s: float = Field(gt=0, description="per chip and direction, all links together")
    links: int | None = Field(default=None, ge=1, description="links that make up the port")
    near_latency_s: float = Field(gt=0, description="one way, one switch hop (or the direct link of a mesh)")
    far_latency_s: float | None = Field(default=None, gt=0, description="one way, across the next switch tier")
    status: Literal["shipping", "announced"] = "shipping"
    aliases: tuple[str, ...] = ()
    source: str
    notes: str = ""


class GraphFile(Record):
    """A file that holds a cluster's graph: where it is, its SHA-256, and the fabric of each plane."""

    path: str
    sha256: str
    fabrics: tuple[str, ...]


class ClusterSpec(Record):
    """A cluster: chips in nodes, nodes in a scale-up domain, domains on a scale-out network."""

    id: str
    name: str
    chip: str
    chips: int = Field(ge=1, description="nominal size; a scenario may ask for another")
    chips_per_node: int = Field(ge=1)
    max_chips: int | None = Field(default=None, ge=1, description="largest size that the described network can reach")
    status: Literal["shipping", "announced"] = "shipping"
    aliases: tuple[str, ...] = ()
    scale_up: AnyScaleUp
    scale_out: AnyScaleOut | None = None
    side_planes: tuple[SidePlane, ...] = ()
    graph: GraphFile | None = Field(default=None, description="the network as it is drawn in a file")
    source: str
    notes: str = ""
