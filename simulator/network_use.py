"""What one operation of a step does to the links: records for tables and pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairUse:
    """Bytes that one pair of ranks sends over a link."""

    source: int
    target: int
    size_bytes: float


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One link: what it carries, and who loads it most.

    Parameters
    ----------
    busy_s
        Time of its bytes at line rate [s].
    utilisation
        That time over the operation's.
    pairs
        The pairs of ranks that load it most, largest first.
    """

    link: str
    fabric: str
    size_bytes: float
    bytes_per_s: float
    busy_s: float
    utilisation: float
    pairs: tuple[PairUse, ...]


@dataclass(frozen=True, slots=True)
class KindUse:
    """All links of one kind: ``[links]`` utilisation of each, busiest first."""

    kind: str
    fabric: str
    utilisation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """One operation of a scenario on the network.

    Parameters
    ----------
    time_s, bound_s
        Predicted time of the operation, and that of its busiest link at line rate [s].
    sent_bytes
        Bytes that ranks send, each counted once however many links it takes.
    links
        The busiest links.
    kinds
        Every kind of link in use, outermost last.
    matrix_bytes
        ``[blocks, blocks]`` bytes between blocks of `block_ranks` neighbouring ranks, over the busiest link's plane.
    note
        What the flows stand for.
    """

    scenario: str
    operation: str
    cluster: str
    ranks: int
    time_s: float
    bound_s: float
    sent_bytes: float
    links: tuple[LinkUse, ...]
    kinds: tuple[KindUse, ...]
    matrix_bytes: NDArray[np.float64]
    block_ranks: int
    note: str
