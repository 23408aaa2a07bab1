"""Operations of a step on the network at once, flow by flow: what skew and sharing of links do to them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.engine.flows import FlowTimes, Transfer, simulate_flows
from simulator.errors import UserError
from simulator.network_run import FlowRun, LinkRun, NetworkRun, OperationRun, RankRun
from simulator.phase.setup import setup
from simulator.phase.traffic import Traffic, traffic
from simulator.scenario import Scenario

Floats = NDArray[np.float64]
MAX_FLOWS = 4_000_000
ROUNDING = 1e-9


def network_run(scenario: Scenario, operations: Sequence[str], top: int) -> NetworkRun:
    """Simulate operations that start at once, at max-min fair rates on links at line rate.

    Parameters
    ----------
    operations
        See `simulator.phase.traffic.OPERATIONS`; each once.
    top
        How many ranks, flows and links are listed.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario cannot be run, has no such operation, or the operations use different networks.
    """
    if twice := sorted({name for name in operations if operations.count(name) > 1}):
        raise UserError(f"--phase: '{twice[0]}': given more than once; name each operation once")
    resolved = setup(scenario)
    found = [traffic(resolved, name, drawn=True) for name in operations]
    _check(operations, found)
    net = found[0].network
    transfers = [_transfer(each) for each in found]
    times = simulate_flows(net, transfers)
    alone = [times.end_s[0]] if len(found) == 1 else [simulate_flows(net, [each]).end_s[0] for each in transfers]
    size = np.concatenate([each.size_bytes for each in transfers])
    rows = zip(operations, found, transfers, times.end_s, alone, times.bound_s, strict=True)
    return NetworkRun(
        scenario=scenario.name,
        cluster=resolved.machine.spec.name,
        time_s=float(times.end_s.max()),
        bound_s=times.links.busiest(size).time_s,
        operations=tuple(_operation(*row) for row in rows),
        ranks=_ranks(operations, transfers, times, net.ranks, top),
        flows=_flows(operations, transfers, times, top),
        links=_links(found[0], times, size, top),
        full_links=int(np.isfinite(times.saturation.first_s).sum()),
    )


def _check(operations: Sequence[str], found: Sequence[Traffic]) -> None:
    for name, each in zip(operations, found, strict=True):
        if len(each.network.tiers) != len(found[0].network.tiers):
            raise UserError(
                f"--phase: '{operations[0]}' and '{name}' use different networks (transport.path = 'nic' keeps "
                "dispatch and combine to NICs); simulate them one at a time"
            )
    if (flows := sum(each.source.size for each in found)) > MAX_FLOWS:
        raise UserError(f"--phase: {flows:,} flows, at most {MAX_FLOWS:,} are simulated; set cluster.chips to fewer")


def _transfer(found: Traffic) -> Transfer:
    """Return the flows between different ranks."""
    away = (found.source != found.target) & (found.size_bytes > 0)
    return Transfer(found.source[away], found.target[away], found.size_bytes[away])


def _operation(
    name: str, found: Traffic, flows: Transfer, end_s: float, alone_s: float, bound_s: float
) -> OperationRun:
    return OperationRun(
        name,
        flows.source.size,
        float(flows.size_bytes.sum()),
        float(end_s),
        float(alone_s),
        float(bound_s),
        found.time_s,
        found.note,
    )


def _ranks(
    operations: Sequence[str], transfers: Sequence[Transfer], times: FlowTimes, ranks: int, top: int
) -> tuple[RankRun, ...]:
    end_s = np.zeros((len(transfers), ranks))
    moved = np.zeros((2, ranks))
    for row, (each, finish_s) in enumerate(zip(transfers, times.finish_s, strict=True)):
        for way, side in enumerate((each.source, each.target)):
            np.maximum.at(end_s[row], side, finish_s)
            moved[way] += np.bincount(side, each.size_bytes, ranks)
    last, which = end_s.max(axis=0), end_s.argmax(axis=0)
    (sent, received), order = moved, [i for i in _latest(last, moved.max(axis=0))[:top].tolist() if last[i] > 0]
    return tuple(RankRun(i, operations[which[i]], float(last[i]), float(sent[i]), float(received[i])) for i in order)


def _latest(end_s: Floats, size_bytes: Floats) -> NDArray[np.int64]:
    """Return an order, latest first; of what ends at once but for rounding, the largest first."""
    step_s = float(end_s.max(initial=0.0)) * ROUNDING or 1.0
    order: NDArray[np.int64] = np.lexsort((-size_bytes, -np.round(end_s / step_s)))
    return order


def _flows(operations: Sequence[str], transfers: Sequence[Transfer], times: FlowTimes, top: int) -> tuple[FlowRun, ...]:
    source, target, size = (
        np.concatenate([getattr(each, name) for each in transfers]) for name in ("source", "target", "size_bytes")
    )
    owner = np.repeat(np.arange(len(transfers)), [each.source.size for each in transfers])
    end_s = np.concatenate(times.finish_s)
    return tuple(
        FlowRun(int(source[i]), int(target[i]), operations[owner[i]], float(size[i]), float(end_s[i]))
        for i in _latest(end_s, size)[:top].tolist()
    )


def _links(found: Traffic, times: FlowTimes, size_bytes: Floats, top: int) -> tuple[LinkRun, ...]:
    links, full = times.links, times.saturation
    carried = links.bytes_on_links(size_bytes)
    order = np.lexsort((-full.full_s, full.first_s))  # NaN comes last
    listed = []
    for i in order[:top].tolist():
        if np.isnan(full.first_s[i]):
            break
        kind = next(kind for kind in reversed(links.kinds) if kind.first <= i)
        fabric = found.network.planes[kind.plane].name
        listed.append(
            LinkRun(
                kind.link_name(i - kind.first),
                fabric,
                float(full.first_s[i]),
                float(full.last_s[i]),
                float(full.full_s[i]),
                float(carried[i]),
            )
        )
    return tuple(listed)
