"""How long the network takes, and how that grows with ranks: `make bench`. Results are asserted, times are printed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Row = tuple[str, str, str]

# Each case runs in a process of its own, so that its peak memory is its own.
SETUP = """
import json, resource, sys, time
import numpy as np
from topologies import catalogue
from topologies.build import network
def built(chips, name="h800-cluster"):
    spec = catalogue.cluster(name).model_copy(update={"max_chips": None})
    return network(spec, catalogue.accelerator(spec.chip), {each.id: each for each in catalogue.fabrics()}, chips)
def uneven(ranks):
    draw = np.random.default_rng(0)
    matrix = draw.random((ranks, ranks), dtype=np.float32)
    matrix *= draw.lognormal(0, 0.3, ranks).astype(np.float32) * np.float32(1e5)
    return matrix
def best(job, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()  # of this process: the machine may be busy with others
        result = job()
        times.append(time.process_time() - start)
    return min(times), result
def report(**figures):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, **figures}))
ranks = int(sys.argv[1])
"""
MATRIX = """
from simulator.cost.matrix_links import matrix_loads
net, matrix = built(ranks), uneven(ranks)
time_s, loads = best(lambda: matrix_loads(net, matrix), 3)
np.fill_diagonal(matrix, 0)
nic = [load for load in loads if load.plane == 1 and "port in" in load.kind][0]
report(time_s=time_s, bound_s=max(load.busiest().time_s for load in loads), nic_bytes=float(nic.size_bytes.sum()),
       bytes=float(matrix.sum(dtype=np.float64)))
"""
UNIFORM = """
from simulator.cost.matrix_links import uniform_loads
net = built(ranks)
time_s, loads = best(lambda: uniform_loads(net, 1e6), 1)
sent = sum(float(load.size_bytes.sum()) for load in loads if "port out" in load.kind)
report(time_s=time_s, sent_bytes=sent)
"""
FLOWS = """
from simulator.engine.flows import Transfer, simulate_flows
net, matrix = built(ranks), uneven(ranks).astype(np.float64)
source, target = (side.ravel().astype(np.int32) for side in np.indices(matrix.shape))
time_s, found = best(lambda: simulate_flows(net, [Transfer(source, target, matrix.ravel())]), 1)
report(time_s=time_s, ratio=float(found.end_s[0] / found.bound_s[0]), rounds=found.rounds, flows=source.size)
"""
RING = """
from simulator.cost.collectives import collective
net = built(ranks)
groups = np.arange(ranks, dtype=np.int32)[None, :]
time_s, cost = best(lambda: collective(net, groups, "all_reduce", 1e9, algorithm="ring"), 5)
report(time_s=time_s, bound_s=cost.bound_s)
"""
ROUTED = """
import networkx as nx
from simulator.cost.links import link_loads
from topologies.reduction import reduce_graph
side = round(ranks ** (1 / 3))
plain = nx.convert_node_labels_to_integers(nx.grid_graph((side,) * 3, periodic=True)).to_directed()
plain.graph["planes"] = [{"name": "T", "fabric": "t", "port_bytes_per_s": 6e9}]
nx.set_node_attributes(plain, {v: {"kind": "rank", "rank": v, "node": v, "rail": 0} for v in plain})
nx.set_edge_attributes(plain, {e: {"bytes_per_s": 1e9, "latency_s": 1e-6, "plane": 0} for e in plain.edges})
net = reduce_graph(plain)
source, target = (each.ravel().astype(np.int32) for each in np.indices((net.ranks, net.ranks)))
size = np.ones(source.size)
time_s, loads = best(lambda: link_loads(net, source, target, size), 1)
report(time_s=time_s, least=float(loads[0].size_bytes.min()), most=float(loads[0].size_bytes.max()), side=side)
"""
REDUCED = """
from topologies.build import damaged_graph
from topologies.reduction import reduce_graph
spec = catalogue.cluster("atlas-950-superpod")
parts = spec, catalogue.accelerator(spec.chip), {each.id: each for each in catalogue.fabrics()}
graph = damaged_graph(*parts, ranks, ()).graph
time_s, net = best(lambda: reduce_graph(graph), 1)
hops = [tier.hops for tier in net.tiers]
report(time_s=time_s, hops=hops, domains=[int(tier.domain.max()) + 1 for tier in net.tiers])
"""


@pytest.fixture(scope="module")
def report() -> Iterator[list[Row]]:
    """Rows of job, figure and bound, printed as one table at the end."""
    rows: list[Row] = []
    yield rows
    width = max(len(job) for job, *_ in rows)
    print("\n\n" + "\n".join(f"{job:{width}}  {figure:>28}  {bound}" for job, figure, bound in rows))


def measured(root: Path, script: str, ranks: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SETUP + script, str(ranks)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


def growth(root: Path, script: str, sizes: tuple[int, ...]) -> tuple[list[dict[str, Any]], str]:
    """Return what was measured at each size, and the fitted exponent of time over ranks as text."""
    found = [measured(root, script, ranks) for ranks in sizes]
    exponent = np.polyfit(np.log(sizes), np.log([each["time_s"] for each in found]), 1)[0]
    return found, f"grows with ranks ^ {exponent:.1f} ({sizes[0]:,} to {sizes[-1]:,})"


def figure(found: dict[str, Any]) -> str:
    return f"{found['time_s']:.4f} s CPU, {found['peak_bytes'] / 1e6:.0f} MB"


def test_uneven_all_to_all_by_the_bound(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, MATRIX, (256, 1024, 2048, 8192))
    for each in found:
        assert each["bound_s"] > 0
        assert 0.9 * each["bytes"] < each["nic_bytes"] < each["bytes"]  # all but what stays in the node
    report.append(("uneven all-to-all, 1,024 ranks, bound", figure(found[1]), "< 0.1 s, 150 MB"))
    report.append(("uneven all-to-all, 8,192 ranks, bound", figure(found[3]), "< 5 s, 1 GB"))
    report.append(("  growth", exponent, ""))


def test_uneven_all_to_all_by_flows(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, FLOWS, (128, 256, 512, 1024))
    for each in found:
        assert 1 - 1e-9 <= each["ratio"] < 1.1
    assert found[-1]["flows"] == 1024**2
    report.append(("uneven all-to-all, 1,024 ranks, flows", figure(found[-1]), "< 5 s"))
    report.append(("  rates shared out anew, over the bound", f"{found[-1]['rounds']}, {found[-1]['ratio']:.4f}", ""))
    report.append(("  growth", exponent, ""))


def test_uniform_all_to_all(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, UNIFORM, (1024, 8192, 131_072))
    for ranks, each in zip((1024, 8192, 131_072), found, strict=True):
        assert each["sent_bytes"] == pytest.approx(1e6 * ranks * (ranks - 1))
    report.append(("uniform all-to-all, 131,072 ranks, folded", figure(found[-1]), "< 1 s"))
    report.append(("  growth", exponent, ""))


def test_ring_all_reduce(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, RING, (256, 1024, 4096))
    for ranks, each in zip((256, 1024, 4096), found, strict=True):
        assert each["bound_s"] > 2 * (ranks - 1) / ranks * 1e9 / 400e9
    report.append(("ring all-reduce, 4,096 ranks", figure(found[-1]), "< 10 ms"))
    report.append(("  growth", exponent, ""))


def test_all_to_all_over_routes(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, ROUTED, (216, 512, 1000))
    for each in found:  # ranks x mean hops over links: N x 3 N (side / 4) / 6 N on an even side
        side = each["side"]
        expected = side**3 * side / 8
        assert each["least"] == pytest.approx(expected)
        assert each["most"] == pytest.approx(expected)
    report.append(("uniform all-to-all, torus of 1,000, routed", figure(found[-1]), ""))
    report.append(("  growth", exponent, ""))


def test_reduction_of_meshed_racks(root: Path, report: list[Row]) -> None:
    found, exponent = growth(root, REDUCED, (8192, 65_536, 131_072))
    assert found[0]["hops"] == [2, 2, 4]
    for ranks, each in zip((65_536, 131_072), found[1:], strict=True):
        assert each["hops"] == [2, 2, 4, 4, 6]
        assert each["domains"][1:3] == [ranks // 64, ranks // 8192]
    report.append(("Atlas 950, 8,192 ranks, graph to arrays", figure(found[0]), "< 0.1 s"))
    report.append(("Atlas 950, 131,072 ranks, graph to arrays", figure(found[-1]), "< 2 s"))
    report.append(("  growth", exponent, ""))
