"""How long unequal dispatch takes to price, and the memory it needs: `make bench`. Results are asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# ranks: most seconds of processor time, and most memory above that of the matrices and imports [bytes]
BOUNDS = {1024: (0.1, 150e6), 2048: (0.5, 300e6), 4096: (2.0, 600e6), 8192: (5.0, 1e9)}

ONE = """
import json, resource, sys, time
import numpy as np
from simulator.cost.expert_parallel import expert_paths
from simulator.cost.expert_parallel_sources import Sent, sent_cost
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
ranks = int(sys.argv[1])
spec = cluster("h800-cluster").model_copy(update={"max_chips": ranks})
names = [spec.scale_up.fabric, spec.scale_out.fabric]
net = network(spec, accelerator(spec.chip), {name: fabric(name) for name in names}, ranks)
to_rank = np.full((ranks, ranks), 2, dtype=np.int32)
to_node = np.full((ranks, ranks // 8), 8, dtype=np.int32)
to_rank[5], to_node[5] = 6, 24
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
paths = expert_paths(net, np.arange(ranks, dtype=np.int32)[None, :], "normal", fold=False)
cost = sent_cost(net, np.arange(ranks, dtype=np.int32)[None, :], paths, "dispatch", Sent(to_rank, to_node), 7408.0)
taken = time.process_time() - start
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps({"taken_s": taken, "peak_bytes": peak, "bound_s": float(cost.bound_s)}))
"""


def test_unequal_dispatch_up_to_8192_ranks() -> None:
    root = Path(__file__).parents[2]
    taken = {}
    for ranks, (most_s, most_bytes) in BOUNDS.items():
        done = subprocess.run(
            [sys.executable, "-c", ONE, str(ranks)],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        )
        found = json.loads(done.stdout)
        # the hot source's NIC carries its copies to all other nodes
        assert found["bound_s"] == pytest.approx((ranks // 8 - 1) * 24 * 7408 / 50e9)
        assert found["taken_s"] < most_s
        assert found["peak_bytes"] < most_bytes
        taken[ranks] = found["taken_s"]
        print(f"\n{ranks} ranks: {1e3 * found['taken_s']:.0f} ms, {found['peak_bytes'] / 1e6:.0f} MB", end="")
    growth = np.polyfit(np.log(list(taken)), np.log(list(taken.values())), 1)[0]
    print(f"\ntime grows with the power {growth:.2f} of the ranks")
