"""What it costs to move experts to new ranks while training or serving goes on."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.memory import DTYPE_BYTES, OPTIMIZER_BYTES, WEIGHT_BYTES
from simulator.phase.routed import Routed
from simulator.phase.setup import Setup
from simulator.program import part


def rebalancing_parts(resolved: Setup, routed: Routed | None) -> NDArray[np.float64]:
    """Return the time that re-balancing adds to one iteration or step, ``[len(PARTS)]`` [s].

    The rank that fetches most sets the time: its experts' bytes at the line rate of its port of the outermost network
    that the EP group spans, shared out over the interval. In training the optimizer state moves along.
    """
    interval = resolved.scenario.routing.rebalance_interval
    if interval is None or routed is None or resolved.paths is None:
        return part("overhead", 0.0)
    scenario, placed = resolved.scenario, resolved.layout
    per_parameter = DTYPE_BYTES[scenario.precision.gemm]
    if scenario.workload.phase == "training":
        sharded = placed.expert_groups if scenario.plan.zero else 1
        per_parameter = WEIGHT_BYTES + OPTIMIZER_BYTES / sharded
    plane = max(load.plane for load in resolved.paths.loads)
    rate = float(resolved.machine.network.planes[plane].port_bytes_per_s.min())
    # a rank holds the layers of its stage
    moved_bytes = routed.moved / placed.pipeline * resolved.counts.expert * per_parameter
    return part("overhead", moved_bytes / rate / interval)
