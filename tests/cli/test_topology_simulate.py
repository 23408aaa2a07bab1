"""`epsim topology simulate`: operations of a step flow by flow, at once and alone."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.phase.network_run import network_run
from simulator.phase.network_use import network_use
from simulator.phase.setup import setup
from simulator.phase.traffic import traffic
from simulator.scenario import Scenario

Epsim = Callable[..., Any]
OPERATIONS = ("dispatch", "combine", "pipeline", "gradients")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_operation_takes_at_least_its_busiest_link(small: Callable[..., Scenario], operation: str) -> None:
    scenario = small("training", "cluster.chips=32", "plan.expert=16")
    run = network_run(scenario, [operation], top=4)
    only = run.operations[0]
    assert only.time_s == only.alone_s == run.time_s
    assert only.time_s >= only.bound_s * (1 - 1e-9)
    assert only.bound_s == pytest.approx(run.bound_s)
    assert run.flows[0].end_s == run.ranks[0].end_s == run.time_s
    assert run.links
    assert all(link.full_s <= run.time_s * (1 + 1e-9) for link in run.links)


def test_balanced_routing_agrees_with_the_bound_that_topology_load_prints(small: Callable[..., Scenario]) -> None:
    scenario = small("prefill", "routing.kind=balanced")
    run = network_run(scenario, ["dispatch"], top=3)
    use = network_use(scenario, "dispatch", top=1, pairs=1)
    assert run.time_s == pytest.approx(run.bound_s)
    assert run.bound_s == pytest.approx(use.bound_s)
    assert run.operations[0].sent_bytes == pytest.approx(use.sent_bytes)
    assert run.operations[0].predicted_s == pytest.approx(use.time_s)


def test_operations_at_once_slow_each_other_down(small: Callable[..., Scenario]) -> None:
    scenario = small("training", "cluster.chips=32", "plan.expert=16")
    run = network_run(scenario, OPERATIONS, top=5)
    for each in run.operations:
        assert each.time_s >= each.alone_s * (1 - 1e-9)
    slowed = [each.operation for each in run.operations if each.time_s > 1.05 * each.alone_s]
    assert {"dispatch", "combine"} <= set(slowed)
    assert max(each.bound_s for each in run.operations) <= run.bound_s <= run.time_s * (1 + 1e-9)
    assert run.time_s <= sum(each.alone_s for each in run.operations)
    first = [link.first_s for link in run.links]
    assert first == sorted(first)


def test_background_traffic_and_faults_make_it_slower(small: Callable[..., Scenario]) -> None:
    plain, beside, broken = (
        network_run(small("prefill", *more), ["dispatch"], top=1).time_s
        for more in ((), ['network.background=["nic 3 at 50 %"]'], ['cluster.faults=["nic 3"]'])
    )
    assert plain < beside <= 2 * plain * (1 + 1e-9)
    assert broken > plain  # two ranks on one NIC


def test_each_group_dispatches_a_draw_of_its_own(small: Callable[..., Scenario]) -> None:
    scenario = small("training", "cluster.chips=32")
    mean, drawn = (traffic(setup(scenario), "dispatch", each) for each in (False, True))
    taken = [
        [
            np.bincount(one.target[one.target // 8 == group] % 8, one.size_bytes[one.target // 8 == group])
            for group in range(4)
        ]
        for one in (mean, drawn)
    ]
    np.testing.assert_allclose(taken[0], np.tile(taken[0][0], (4, 1)))
    assert np.ptp(taken[1], axis=0).min() > 0
    busiest = np.max(taken[1], axis=1)
    assert busiest.tolist() == sorted(busiest)
    assert busiest[0] < busiest[-1]
    # Tokens x experts per token do not depend on the draw; copies do, a little.
    assert drawn.size_bytes.sum() == pytest.approx(mean.size_bytes.sum(), rel=0.05)


def test_table_json_and_csv(epsim: Epsim, small_file: Callable[..., Path], tmp_path: Path) -> None:
    scenario = small_file("training")
    phases = ["--phase", "dispatch", "--phase", "pipeline"]
    done = epsim("topology", "simulate", scenario, *phases, "--csv", "runs.csv")
    assert done.code == 0
    assert "Links in the order they filled" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    found = json.loads(epsim("topology", "simulate", scenario, *phases, "--top", 2, "--json").out)
    assert [each["operation"] for each in found["operations"]] == ["dispatch", "pipeline"]
    assert [len(found[name]) for name in ("ranks", "flows", "links")] == [2, 2, 2]
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [float(row["time_s"]) for row in rows] == [each["time_s"] for each in found["operations"]]


@pytest.mark.parametrize(
    ("phase", "options", "message"),
    [
        ("training", ["--phase", "dispach"], "no such operation (did you mean 'dispatch'?)"),
        ("training", ["--phase", "dispatch", "--phase", "dispatch"], "given more than once"),
        ("training", ["--set", 'cluster.faults="nic 3"'], "should be a list"),
        ("decode", ["--phase", "gradients"], "only training has them"),
        (
            "training",
            ["--set", "transport.path=nic", "--set", "cluster.chips=32", "--phase", "dispatch", "--phase", "pipeline"],
            "use different networks",
        ),
    ],
)
def test_bad_input_is_one_line(
    epsim: Epsim, small_file: Callable[..., Path], phase: str, options: list[str], message: str
) -> None:
    done = epsim("topology", "simulate", small_file(phase), *options)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err
