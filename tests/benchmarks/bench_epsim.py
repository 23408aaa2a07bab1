"""How long the main jobs take: `make bench`. Results and operation counts are asserted, times are printed."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.phase.setup import setup
from simulator.phase.training import TrainingStep, training_step
from simulator.scenario_file import load_scenario
from simulator.schedules.table import rank_orders
from topologies import catalogue
from topologies.generators import build_graph
from topologies.reduction import reduce_graph

Process = Callable[..., "subprocess.CompletedProcess[bytes]"]
Row = tuple[str, str, str]
TRAINING = "dsv3-train-h800"
SIZES = "64,128,256,512,1024,2048"
EP = "16,32,64,128,256,320"
MACHINES = ("cloudmatrix384", "910b", "h800")

ONE_RUN = """
import json, resource, sys, time
from simulator.run import run
from simulator.scenario_file import load_scenario
times = []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    result = run(load_scenario("dsv3-train-h800", ["fidelity=" + sys.argv[1], *sys.argv[3:]]), allow_oom=True)
    times.append(time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"first_s": times[0], "best_s": min(times), "peak_bytes": peak, "step_s": result.step_s,
                  "ranks": result.ranks, "routing": result.imbalance}))
"""


@pytest.fixture(scope="module")
def report() -> Iterator[list[Row]]:
    """Rows of job, figure and bound, printed as one table at the end."""
    rows: list[Row] = []
    yield rows
    width = max(len(job) for job, *_ in rows)
    print("\n\n" + "\n".join(f"{job:{width}}  {figure:>28}  {bound}" for job, figure, bound in rows))


def one_run(root: Path, fidelity: str, repeats: int, *settings: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", ONE_RUN, fidelity, str(repeats), *settings],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def operations(step: TrainingStep) -> int:
    """Chunks, transfers, gradients and optimizer steps that a step's program must have."""
    plan = step.setup.layout
    orders = rank_orders(step.setup.scenario.plan.schedule, plan.pipeline, plan.micro_batches, plan.virtual_stages)
    hops = 2 * (plan.pipeline * plan.virtual_stages - 1) * plan.micro_batches
    return step.replicas * (sum(map(len, orders)) + hops + 2 * plan.pipeline)


def test_help(epsim_process: Process, tmp_path: Path, report: list[Row]) -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert epsim_process(["--help"], tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    report.append(("epsim --help", f"{min(spent):.3f} s CPU", "< 0.25 s CPU"))


def test_network_of_2048_ranks(report: list[Row]) -> None:
    spec = catalogue.cluster("deepseek-h800-2048")
    fabrics = {entry.id: entry for entry in catalogue.fabrics()}
    start = time.perf_counter()
    graph = build_graph(spec, catalogue.accelerator(spec.chip), fabrics, 2048)
    built = time.perf_counter()
    network = reduce_graph(graph)
    reduced = time.perf_counter()
    assert network.ranks == 2048
    assert np.unique(network.node).size == 256
    figure = f"{built - start:.3f} + {reduced - built:.3f} s"
    report.append(("network of 2,048 ranks: graph + arrays", figure, f"{graph.number_of_edges():,} links"))


def test_analytic_run_on_2048_chips(root: Path, report: list[Row]) -> None:
    found = one_run(root, "analytic", 5)
    assert found["ranks"] == 2048
    report.append(("analytic run, 2,048 chips: first", f"{found['first_s']:.3f} s", "network built and read"))
    report.append(("analytic run, 2,048 chips: again", f"{found['best_s']:.3f} s", "< 0.2 s"))


def test_event_simulation_on_2048_chips(root: Path, report: list[Row]) -> None:
    skewed = ("routing.kind=fitted", "routing.mix=broad")
    step = training_step(setup(load_scenario(TRAINING, ["fidelity=des", *skewed])), draw_all=True)
    program = step.program()
    assert len(program.duration_s) == operations(step)
    found = one_run(root, "des", 1, *skewed)
    assert found["step_s"] == pytest.approx(one_run(root, "analytic", 1, *skewed)["step_s"], rel=0.05)
    report.append(
        (
            f"event simulation of its step, recorded skew, {len(program.duration_s):,} operations",
            f"{found['first_s']:.2f} s",
            "< 3 s",
        )
    )
    report.append(("  peak memory of the process", f"{found['peak_bytes'] / 1e6:.0f} MB", "< 500 MB"))


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (
            "demo: training sweep, 3 machines x 6 sizes",
            ["sweep", *(f"dsv3-scaling-{name}" for name in MACHINES), "--over", f"cluster.chips={SIZES}"],
        ),
        (
            "demo: decode sweep, 3 machines x 6 sizes",
            [
                *("sweep", *(f"dsv3-decode-{name}" for name in MACHINES), "--over", f"plan.expert={EP}"),
                *("--set", "workload.batch_per_rank=32"),
            ],
        ),
    ],
)
def test_demo_sweeps(epsim_process: Process, tmp_path: Path, report: list[Row], job: str, arguments: list[str]) -> None:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = epsim_process([*arguments, "--json"], tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 18
    assert all(row["feasible"] or row["reason"] for row in rows)
    assert sum(row["feasible"] for row in rows) >= 6
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figure = f"{time.perf_counter() - start:.1f} s, {cpu:.1f} s CPU"
    report.append((job, figure, "both < 30 s, pictures included"))
