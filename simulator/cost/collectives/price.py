"""From loads at line rate to time: the protocols of a library, and what its fabric achieves."""

from collections.abc import Iterator, Sequence

from simulator.calibration.fabrics import CollectiveConstants, Protocol
from simulator.cost.collectives.records import Call, CommCost, Phase
from simulator.cost.links import LinkTime


def constants(call: Call, plane: int) -> CollectiveConstants:
    """Return what collectives achieve on a plane."""
    return call.calibration(call.network.planes[plane].fabric).collective


def price(call: Call, algorithm: str, phases: Sequence[Phase], kept_bytes: float = 0.0) -> CommCost:
    """Return the cost of phases that follow each other, by the protocol that is fastest for them.

    Every phase takes its busiest link's bytes at the rate achieved there, and its steps. The launch and the filling of
    buffers are paid once, as the outermost plane in use has them.

    Parameters
    ----------
    kept_bytes
        Bytes that each rank copies from its own buffer into its own result.
    """
    costs = [_with_protocol(call, algorithm, phases, kept_bytes, name) for name in _offered(call, phases)]
    return min(costs, key=lambda cost: cost.time_s)


def _planes(phases: Sequence[Phase]) -> set[int]:
    return {0} | {link.plane for phase in phases for link in phase.links}


def _offered(call: Call, phases: Sequence[Phase]) -> Iterator[str]:
    used = [constants(call, plane) for plane in _planes(phases)]
    yield "large"
    yield from (name for name in ("medium", "small") if any(getattr(found, name) for found in used))


def _with_protocol(call: Call, algorithm: str, phases: Sequence[Phase], kept_bytes: float, protocol: str) -> CommCost:
    used = {plane: constants(call, plane) for plane in range(len(call.network.planes))}
    outermost = max(_planes(phases))
    chosen = {plane: _protocol(found, protocol) for plane, found in used.items()}
    slowest = [
        max(phase.links, key=lambda link: link.time_s / (used[link.plane].fraction * chosen[link.plane].share))
        for phase in phases
    ]
    bandwidth_s = sum(link.time_s / (used[link.plane].fraction * chosen[link.plane].share) for link in slowest)
    steps_s = sum(used[plane].step_s * count for phase in phases for plane, count in enumerate(phase.steps))
    hottest = max(slowest, key=lambda link: link.time_s)
    return CommCost(
        used[outermost].launch_s + chosen[outermost].ramp_s + steps_s,
        bandwidth_s + _kept_s(call, kept_bytes),
        _bound_s(phases),
        hottest.link,
        outermost,
        f"{algorithm}, {protocol}" if any((used[plane].medium or used[plane].small) for plane in used) else algorithm,
    )


def _protocol(found: CollectiveConstants, name: str) -> Protocol:
    own: Protocol | None = getattr(found, name) if name != "large" else None
    return own or Protocol(share=1.0, ramp_s=found.ramp_s)


def _kept_s(call: Call, kept_bytes: float) -> float:
    inner = constants(call, 0)
    if inner.copy_gain is None:
        return 0.0
    port = float(call.network.planes[0].port_bytes_per_s[call.groups].min())
    return kept_bytes / (inner.copy_gain * inner.fraction * port)


def _bound_s(phases: Sequence[Phase]) -> float:
    return sum(max(link.time_s for link in phase.links) for phase in phases)


def kernel_cost(
    call: Call, algorithm: str, links: Sequence[LinkTime], fractions: Sequence[float], latency_s: float, plane: int
) -> CommCost:
    """Return the cost of stages that work at the same time, each link at its own achieved fraction."""
    achieved = [link.time_s / fraction for link, fraction in zip(links, fractions, strict=True)]
    slowest = max(range(len(links)), key=achieved.__getitem__)
    return CommCost(
        latency_s, achieved[slowest], max(link.time_s for link in links), links[slowest].link, plane, algorithm
    )
