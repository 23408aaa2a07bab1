"""Flow-level simulation of transfers on a network: what contention, order, background traffic and faults do to them."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.cost.flow_links import FlowLinks, flow_links
from simulator.engine.fabric import Fabric, Saturation
from simulator.errors import UserError
from topologies.network import Network

Floats = NDArray[np.float64]
Ranks = NDArray[np.int32]
Events = Generator[simpy.Event, object, None]
# Part of the flows under way whose ends are taken together, by how many flows there are at most; 0 is exact.
RESOLUTIONS = ((2_000, 0.0), (50_000, 0.01), (np.inf, 0.1))


@dataclass(frozen=True, slots=True)
class Transfer:
    """Flows that start together.

    Parameters
    ----------
    source, target, size_bytes
        ``[flows]`` ranks and bytes.
    start_s
        Earliest start [s].
    after
        Transfers, by their place in the list, that must end first.
    latency_s
        Time before the first byte moves [s].
    """

    source: Ranks
    target: Ranks
    size_bytes: Floats
    start_s: float = 0.0
    after: tuple[int, ...] = ()
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FlowTimes:
    """When transfers and their flows ran.

    Parameters
    ----------
    start_s, end_s
        ``[transfers]`` [s].
    finish_s
        Per transfer, when each of its flows ended, ``[flows]`` [s].
    bound_s
        ``[transfers]`` bytes of the transfer's busiest link at line rate [s]; none takes less.
    rounds
        How often rates were shared out anew.
    links
        The links at the start, and which flow of all transfers takes which.
    saturation
        When these links were full, until the network first changed.
    """

    start_s: Floats
    end_s: Floats
    finish_s: tuple[Floats, ...]
    bound_s: Floats
    rounds: int
    links: FlowLinks
    saturation: Saturation


def simulate_flows(
    network: Network,
    transfers: Sequence[Transfer],
    background: Transfer | None = None,
    changes: Sequence[tuple[float, Network]] = (),
    resolution: float | None = None,
) -> FlowTimes:
    """Run transfers at max-min fair rates.

    Parameters
    ----------
    background
        Traffic at a constant rate that gives way to nobody: its `size_bytes` are bytes per second. None for none.
    changes
        Times [s] at which the network becomes another one with the same ranks, flows under way included.
    resolution
        See `Fabric`; None chooses by the number of flows: exact up to 2,000, 0.01 up to 50,000, 0.1 beyond.

    Raises
    ------
    UserError
        If background traffic fills a link, or transfers wait for each other or can never end.
    """
    flows = sum(each.source.size for each in transfers)
    if resolution is None:
        resolution = next(value for limit, value in RESOLUTIONS if flows <= limit)
    return _Simulation(network, transfers, background, resolution).run(changes)


class _Simulation:
    """One run: a process per transfer, and one for the network's changes."""

    def __init__(
        self, network: Network, transfers: Sequence[Transfer], background: Transfer | None, resolution: float
    ) -> None:
        self.transfers, self.background = transfers, background
        self.source = np.concatenate([each.source for each in transfers]).astype(np.int32)
        self.target = np.concatenate([each.target for each in transfers]).astype(np.int32)
        self.first = np.cumsum([0, *(each.source.size for each in transfers)])
        self.links = self._links(network)
        self.env = simpy.Environment()
        self.fabric = Fabric(self.env, self.links.capacity_bytes_per_s, resolution)
        self.order: list[int] = []  # transfers as the fabric numbers them
        self.done = [self.env.event() for _ in transfers]
        self.start, self.end = np.full((2, len(transfers)), np.nan)
        self.finish: list[Floats] = [np.full(each.source.size, np.nan) for each in transfers]

    def run(self, changes: Sequence[tuple[float, Network]]) -> FlowTimes:
        links = self.links
        bound = [
            self._own(index).busiest(np.asarray(each.size_bytes, dtype=np.float64)).time_s
            for index, each in enumerate(self.transfers)
        ]
        for index in range(len(self.transfers)):
            self.env.process(self._transfer(index))
        self.env.process(self._change(changes))
        self.env.run()
        stuck = np.flatnonzero(np.isnan(self.end))
        if stuck.size:
            raise UserError(
                f"transfer {stuck[0]}: never ends (with {stuck.size - 1} more): its links have no capacity left, or "
                "transfers wait for each other; repair the links, or correct `after`"
            )
        fabric = self.fabric
        return FlowTimes(
            self.start, self.end, tuple(self.finish), np.array(bound), fabric.rounds, links, fabric.saturation
        )

    def _links(self, network: Network) -> FlowLinks:
        """Return the links of all flows, with what background traffic leaves of them."""
        extra = self.background
        if extra is None:
            return flow_links(network, self.source, self.target)
        source, target = np.append(self.source, extra.source), np.append(self.target, extra.target)
        both = flow_links(network, source, target)
        taken = both.bytes_on_links(np.append(np.zeros(self.source.size), extra.size_bytes))
        left = both.capacity_bytes_per_s - taken
        if (left <= 0).any():
            worst = both.busiest(np.append(np.zeros(self.source.size), extra.size_bytes)).link
            raise UserError(f"background traffic: leaves nothing of {worst}; use less")
        share = None if both.share is None else both.share[:, : self.source.size]
        return FlowLinks(both.link[:, : self.source.size], share, left, both.kinds)

    def _own(self, index: int) -> FlowLinks:
        own = slice(self.first[index], self.first[index + 1])
        share = None if self.links.share is None else self.links.share[:, own]
        return FlowLinks(self.links.link[:, own], share, self.links.capacity_bytes_per_s, self.links.kinds)

    def _transfer(self, index: int) -> Events:
        mine = self.transfers[index]
        for other in mine.after:
            if not self.done[other].processed:
                yield self.done[other]
        yield self.env.timeout(max(mine.start_s - self.env.now, 0.0))
        self.start[index] = self.env.now
        yield self.env.timeout(mine.latency_s)
        links = self._own(index)
        size = np.asarray(mine.size_bytes, dtype=np.float64)
        self.order.append(index)
        self.finish[index] = np.asarray((yield self.fabric.send(links.link, links.share, size)))
        self.end[index] = self.env.now
        self.done[index].succeed()

    def _change(self, changes: Sequence[tuple[float, Network]]) -> Events:
        for time_s, network in sorted(changes, key=lambda change: change[0]):
            yield self.env.timeout(max(time_s - self.env.now, 0.0))
            self.fabric.settle()
            self.links = self._links(network)
            owner, flow, _ = self.fabric.waiting
            columns = self.first[np.array(self.order, dtype=np.int64)[owner]] + flow
            share = None if self.links.share is None else self.links.share[:, columns]
            self.fabric.rewire(self.links.link[:, columns], share, self.links.capacity_bytes_per_s)
