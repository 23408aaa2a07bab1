"""A scenario chooses how collectives are done."""

import pytest

from simulator.errors import UserError
from simulator.run import run
from simulator.scenario import Scenario
from simulator.scenario_file import load_scenario


def decode(**network: str) -> Scenario:
    """Two ranks share the matrices of each layer, and all-reduce after every block."""
    chosen = [f"network.{key}={value}" for key, value in network.items()]
    size = ["cluster.chips=32", "plan.expert=32", "plan.tensor=8", "model.layers=4"]
    return load_scenario("dsv3-decode-h800", [*size, *chosen])


def test_the_algorithm_changes_tensor_parallel_time_only() -> None:
    auto, tree = run(decode()), run(decode(all_reduce="tree"))
    assert tree.breakdown_s["tensor_parallel"] != pytest.approx(auto.breakdown_s["tensor_parallel"], rel=1e-3)
    assert tree.breakdown_s["compute"] == auto.breakdown_s["compute"]
    worse = run(decode(all_reduce="direct"))
    assert worse.breakdown_s["tensor_parallel"] > 0


def test_what_the_groups_cannot_do_is_one_line() -> None:
    with pytest.raises(UserError, match=r"network\.all_reduce = 'in-switch-tree': can't do this among 8 ranks here"):
        run(decode(all_reduce="in-switch-tree"))
    with pytest.raises(UserError, match=r"network\.all_reduce"):
        decode(all_reduce="telepathy")
