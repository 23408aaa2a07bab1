"""How fast requests are served: `make bench`. Results are asserted, times are printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REQUESTS = 100_000
RUN = """
import json, resource, time
import numpy as np
from simulator.scenario_file import load_scenario
from simulator.serve.serve import serve
from workloads.requests.synthetic import AZURE_OUTPUT, AZURE_PROMPT, Lengths, synthetic_requests
settings = ["plan.expert=64", "serving.instances=8", "serving.token_budget=2048"]
scenario = load_scenario("dsv3-decode-h800", settings)
requests = synthetic_requests(1000.0, REQUESTS, Lengths(*AZURE_PROMPT), Lengths(*AZURE_OUTPUT), 0)
start, before = time.perf_counter(), time.process_time()
served = serve(scenario, requests)
log, result = served.log, served.result
print(json.dumps({
    "wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - before,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "iterations": result.iterations, "events": result.events, "unfinished": result.unfinished,
    "tokens": float(log.tokens.sum()), "asked": int(requests.output_tokens.sum()),
    "computed": log.computed_tokens, "prompts": int(requests.prompt_tokens.sum()),
    "ordered": bool((log.finish_s >= log.first_s).all()), "stable": result.stable,
    "preemptions": result.preemptions,
}))
"""


def test_a_hundred_thousand_conversations_on_eight_instances(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN.replace("REQUESTS", str(REQUESTS))],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["unfinished"] == 0
    assert found["ordered"]
    assert found["tokens"] == pytest.approx(found["asked"])
    assert found["preemptions"] == 0
    assert found["computed"] == found["prompts"]
    assert found["stable"]
    assert found["iterations"] >= found["events"]
    print(
        f"\n{REQUESTS:,} requests, 8 instances of EP64: {found['cpu_s']:.1f} s CPU, {found['wall_s']:.1f} s (< 20 s), "
        f"{found['peak_bytes'] / 1e6:.0f} MB (< 1 GB); {found['iterations']:,} iterations, "
        f"{found['iterations'] * 64:,} with ranks counted, {found['asked'] / found['cpu_s']:,.0f} tokens per CPU-second"
    )
