"""The timeline holds every operation once, and its compute and idle lanes fill the step without overlap."""

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from simulator.run import Simulation, simulate
from simulator.scenario_file import load_scenario
from simulator.timeline import timeline

SMALL = ("cluster.chips=128", "model.layers=8", "plan.pipeline=2", "workload.global_batch_sequences=512")


def events(simulation: Simulation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(timeline(simulation))["traceEvents"]
    return found


@pytest.mark.parametrize("schedule", ["1f1b", "1f1b-overlap", "zb-h2", "dualpipe-v"])
@pytest.mark.parametrize("fidelity", ["analytic", "des"])
def test_compute_and_idle_fill_every_stage(schedule: str, fidelity: str) -> None:
    own = ("routing.kind=fitted", f"plan.schedule={schedule}", f"fidelity={fidelity}")
    simulation = simulate(load_scenario("dsv3-train-h800", (*SMALL, *own)), allow_oom=True)
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events(simulation):
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    end_us = float(simulation.end_s.max()) * 1e6
    for stage in range(2):
        filled = sorted(lanes[stage, 0] + lanes[stage, 3])
        assert filled[0][0] == 0.0
        assert filled[-1][1] == pytest.approx(end_us, abs=0.01)
        for (_, before), (after, _) in pairwise(filled):
            assert after == pytest.approx(before, abs=0.01)
    slices = sum(len(lane) for (_, tid), lane in lanes.items() if tid != 3)
    assert slices == int((simulation.end_s > simulation.start_s).sum())


def test_two_micro_batches_overlap_in_serving() -> None:
    found = events(simulate(load_scenario("dsv3-decode-h800")))
    names = {event["name"] for event in found if event["ph"] == "X"}
    assert {"layer 5, micro-batch 1", "dispatch, layer 5, micro-batch 0", "experts, layer 5, micro-batch 1"} <= names
    lanes = {event["args"]["name"] for event in found if event["name"] == "thread_name"}
    assert lanes == {"compute", "communication", "idle"}


def test_slices_say_what_their_time_is_spent_on() -> None:
    found = events(simulate(load_scenario("dsv3-decode-h800")))
    dispatch = next(event for event in found if event["name"].startswith("dispatch, layer 5"))
    spent_ms = sum(float(text.removesuffix(" ms")) for text in dispatch["args"].values())
    assert spent_ms * 1e3 == pytest.approx(dispatch["dur"], rel=1e-4)
