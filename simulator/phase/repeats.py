"""How often a recorded trace is used over to fill a run."""

import numpy as np

from simulator.phase.recorded import recorded_trace, served_trace
from simulator.scenario import Routing
from workloads.routing.counts import CountTrace, split_steps


def repeat_warnings(routing: Routing, top_k: int, tokens: int, batches: int) -> tuple[str, ...]:
    """Return a line if a trace has fewer tokens than the batches drawn from it.

    Parameters
    ----------
    top_k
        Experts per token of the model.
    tokens, batches
        Tokens of one batch of an EP group, and how many batches were drawn.
    """
    if routing.kind != "trace":
        return ()
    recorded = _served_tokens(routing, top_k)
    times = tokens * batches / recorded
    if times <= 1:
        return ()
    often = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return (
        f"routing.trace: {recorded:,} recorded tokens fill {batches:,} batches of {tokens:,} by being used {often} "
        "times over; batches differ less than real ones would",
    )


def _served_tokens(routing: Routing, top_k: int) -> int:
    trace = recorded_trace(routing)
    if not isinstance(trace, CountTrace):
        return served_trace(routing).tokens
    routes = float(np.mean(split_steps(trace, routing.holdout)[1].counts.sum(axis=(0, 2))))
    return max(1, round(routes / top_k))
