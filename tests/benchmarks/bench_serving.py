"""How long steady-state serving takes: a point, and a sweep for a Pareto curve."""

import time

import numpy as np

from simulator.phase.setup import setup
from simulator.phase.steady import SteadyState
from simulator.run import run
from simulator.scenario_file import load_scenario

POINTS = 200
POINT_S = 5e-3
SWEEP_S = 10.0


def test_steady_state_point_and_sweep() -> None:
    """A resolved point takes under 5 ms of processor time, 200 points over batch and KV length under 10 s."""
    scenario = load_scenario("dsv3-decode-h800", ())
    state = SteadyState(setup(scenario))
    start = time.perf_counter()
    batches, contexts = np.linspace(4, 256, POINTS // 4), (1024.0, 2048.0, 4096.0, 8192.0)
    points = [state.point(float(round(batch)), context) for batch in batches for context in contexts]
    sweep_s = time.perf_counter() - start
    begin = time.process_time()
    for context in range(50):
        state.point(128.0, 4096.0 + context)
    point_s = (time.process_time() - begin) / 50
    print(f"\nsteady state: point {1e3 * point_s:.1f} ms (5 ms), {len(points)} points {sweep_s:.1f} s (10 s)")
    assert len(points) == POINTS
    assert state.point(128.0, 4096.0).step_s == run(scenario).step_s
    assert point_s < POINT_S
    assert sweep_s < SWEEP_S
