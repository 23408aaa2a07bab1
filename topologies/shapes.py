"""The shapes that a network can have, each with its own parameters.

Inside a scale-up domain: switches or one full mesh per node (`ScaleUp`), a full mesh along each of several dimensions
(`NdMesh`), a torus of chips (`TorusOfChips`). Between domains: a fat-tree (`ScaleOut`), a dragonfly (`Dragonfly`), a
torus of routers (`TorusOfRouters`). The key ``shape`` tells them apart; without it, the first of each is meant.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from topologies.record import Record

Size = Annotated[int, Field(ge=1, le=1_000_000)]


class ScaleUp(Record):
    """The inner network by its fabric's shape: switches in one or two tiers, or one full mesh per node."""

    shape: Literal["domain"] = "domain"
    fabric: str
    domain_chips: int = Field(ge=1)
    source: str = ""


class NdMesh(Record):
    """Chips of a rack fully meshed along each dimension, racks joined by switches or fully meshed themselves.

    `dims` are the chips along each dimension of a rack, the first of neighbouring chips; `links` counts a chip's links
    to each peer, per dimension. The `rack_uplinks` links of every chip that lead out of the rack end at its switches;
    racks are joined by `rack_links` links per peer along `rack_dims`, or by a non-blocking switch tier without them.
    """

    shape: Literal["nd-mesh"]
    fabric: str
    domain_chips: int = Field(ge=1)
    dims: tuple[Size, ...] = Field(min_length=1, max_length=8)
    links: tuple[Size, ...] = Field(min_length=1, max_length=8)
    rack_uplinks: int = Field(default=0, ge=0, le=1_000_000)
    rack_dims: tuple[Size, ...] = Field(default=(), max_length=8)
    rack_links: tuple[Size, ...] = Field(default=(), max_length=8)
    source: str = ""


class TorusOfChips(Record):
    """Chips linked to their neighbours along each dimension, ends joined; a port's links divide over all neighbours."""

    shape: Literal["torus"]
    fabric: str
    domain_chips: int = Field(ge=1)
    dims: tuple[Size, ...] = Field(min_length=1, max_length=8)
    source: str = ""


class ScaleOut(Record):
    """A tree of switches above the NICs, two layers or three.

    `leaf_nodes` nodes share one group of leaf switches. With `rail_optimised` the NICs of equal index meet on one
    leaf; with `planes` the rails never meet above it (multi-plane), so cross-rail traffic is forwarded in the node.
    `oversubscription` is leaf downlink over leaf uplink bandwidth. With `pod_nodes`, so many nodes share one group of
    spine switches, and pods meet at a third layer (core); `pod_oversubscription` is the spine's down over up.
    """

    shape: Literal["fat-tree"] = "fat-tree"
    fabric: str
    leaf_nodes: int = Field(ge=1)
    rail_optimised: bool = True
    planes: bool = False
    oversubscription: float = Field(default=1.0, ge=1.0)
    pod_nodes: int | None = Field(default=None, ge=1)
    pod_oversubscription: float = Field(default=1.0, ge=1.0)
    chips_per_nic: int = Field(default=1, ge=1, description="chips of a node that share one NIC")
    source: str = ""


class Dragonfly(Record):
    """Groups of switches, each group linked to every other.

    `switch_nodes` nodes hang on each of the `group_switches` switches of a group; `global_links` links of every switch
    lead to other groups, spread evenly over them, where `groups` is how many there are. Inside a group all switches are
    linked, `local_links` times each; or with `group_spines` (dragonfly+) they are the leaves of a non-blocking
    two-layer tree, whose spines hold the global links. Every link has the rate of the fabric's port.
    """

    shape: Literal["dragonfly"]
    fabric: str
    switch_nodes: Size
    group_switches: Size
    global_links: Size
    groups: Size
    local_links: Size = 1
    group_spines: Size | None = None
    chips_per_nic: int = Field(default=1, ge=1, description="chips of a node that share one NIC")
    source: str = ""


class TorusOfRouters(Record):
    """Routers linked to their neighbours along each dimension, ends joined, with the NICs of `switch_nodes` nodes each.

    Neighbours are joined by `links` links at the rate of the fabric's port.
    """

    shape: Literal["torus"]
    fabric: str
    switch_nodes: Size
    dims: tuple[Size, ...] = Field(min_length=1, max_length=8)
    links: Size = 1
    chips_per_nic: int = Field(default=1, ge=1, description="chips of a node that share one NIC")
    source: str = ""


def _tag(default: str) -> Callable[[Any], str]:
    def shape(value: Any) -> str:
        found = value.get("shape", default) if isinstance(value, dict) else getattr(value, "shape", default)
        return str(found)

    return shape


AnyScaleUp = Annotated[
    Annotated[ScaleUp, Tag("domain")] | Annotated[NdMesh, Tag("nd-mesh")] | Annotated[TorusOfChips, Tag("torus")],
    Discriminator(_tag("domain")),
]
AnyScaleOut = Annotated[
    Annotated[ScaleOut, Tag("fat-tree")]
    | Annotated[Dragonfly, Tag("dragonfly")]
    | Annotated[TorusOfRouters, Tag("torus")],
    Discriminator(_tag("fat-tree")),
]


class SidePlane(Record):
    """A further network between nodes, which traffic takes only if it is chosen by name."""

    name: str
    network: AnyScaleOut
