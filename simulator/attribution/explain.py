"""One scenario in, the reasons for its time out."""

from simulator.attribution.changes import changes
from simulator.attribution.classes import class_times
from simulator.attribution.exchanges import exchanges
from simulator.attribution.path import critical_path
from simulator.attribution.tree import tree
from simulator.calibration.chips import SAME
from simulator.run import operator_constants, simulate
from simulator.scenario import Scenario
from simulator.why import Why

LIGHT_NOTE = (
    "speed of light: for operators the time at the binding datasheet rate (arithmetic or memory), for communication "
    "the busiest link's bytes at line rate, over the time predicted for the whole operation"
)
CHANGE_NOTE = "changes are judged one at a time, without contention between operations; their gains do not add up"


def explain(scenario: Scenario, allow_oom: bool = False, what_if: bool = True) -> Why:
    """Simulate a scenario and say what its time is made of, what its critical path is, and what would help.

    Parameters
    ----------
    scenario
        What to simulate.
    allow_oom
        Answer even if the plan does not fit device memory.
    what_if
        Also run again with one cause removed at a time.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If the scenario can't be run, every problem on a line of its own.
    """
    simulation = simulate(scenario, allow_oom)
    resolved, result = simulation.resolved, simulation.result
    used = {(kind, SAME.get(dtype, dtype)) for kind, dtype in operator_constants(resolved)}
    found = list(class_times(resolved, used))
    return Why(
        scenario=scenario.name,
        step_s=result.step_s,
        tokens_per_s=result.tokens_per_s,
        tree=tree(result, found, exchanges(resolved, simulation.routed)),
        path=critical_path(simulation.program, simulation.start_s, simulation.end_s),
        changes=changes(scenario, simulation, allow_oom) if what_if else (),
        notes=(LIGHT_NOTE, *([CHANGE_NOTE] if what_if else [])),
    )
