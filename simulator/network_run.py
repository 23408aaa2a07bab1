"""Operations of a step, simulated flow by flow: records for tables."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperationRun:
    """One operation among those that ran at once; times are at line rate, without latency and launch.

    Parameters
    ----------
    flows, sent_bytes
        Flows between different ranks, and their bytes.
    time_s, alone_s
        Simulated time until its last flow has ended: beside the others, and alone [s].
    bound_s
        Bytes of its busiest link at line rate [s].
    predicted_s
        Its time alone at the rates that libraries achieve, latency and launch included [s].
    note
        What the flows stand for.
    """

    operation: str
    flows: int
    sent_bytes: float
    time_s: float
    alone_s: float
    bound_s: float
    predicted_s: float
    note: str


@dataclass(frozen=True, slots=True)
class RankRun:
    """A rank, when the last flow that it sends or takes in has ended [s], and of which operation that is."""

    rank: int
    operation: str
    end_s: float
    sent_bytes: float
    received_bytes: float


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A flow, and when it ended [s]."""

    source: int
    target: int
    operation: str
    size_bytes: float
    end_s: float


@dataclass(frozen=True, slots=True)
class LinkRun:
    """A link that was full: first and last time [s], how long in all [s], and its bytes."""

    link: str
    fabric: str
    first_s: float
    last_s: float
    full_s: float
    size_bytes: float


@dataclass(frozen=True, slots=True)
class NetworkRun:
    """Operations of a scenario that start at once on the network.

    Parameters
    ----------
    time_s, bound_s
        Simulated time of all, and bytes of the link that is busiest with all of them at line rate [s].
    operations
        Each operation.
    ranks, flows
        The last ones to end, latest first.
    links
        Links that were full, in the order in which they became so; of those at once, the longest full first.
    full_links
        How many were full in all.
    """

    scenario: str
    cluster: str
    time_s: float
    bound_s: float
    operations: tuple[OperationRun, ...]
    ranks: tuple[RankRun, ...]
    flows: tuple[FlowRun, ...]
    links: tuple[LinkRun, ...]
    full_links: int
