"""Requests at constant load are the steady state: the two ways to serve must agree."""

from collections.abc import Callable

import numpy as np
import pytest

from simulator.run import run
from simulator.scenario import Scenario
from simulator.serve.serve import serve
from workloads.requests.table import Requests

Small = Callable[..., Scenario]


def constant(count: int, prompt: int, output: int) -> Requests:
    """Equal requests that arrive at once."""
    return Requests(np.zeros(count), np.full(count, prompt), np.full(count, output), "equal")


@pytest.mark.parametrize("overlap", ["none", "two-microbatch"])
@pytest.mark.parametrize("batch", [16, 64])
def test_constant_decode_is_the_steady_state(small: Small, batch: int, overlap: str) -> None:
    """Every rank decodes `batch` sequences of about 1,024 tokens all the time."""
    options = (f"workload.batch_per_rank={batch}", f"plan.overlap={overlap}")
    asked = small("decode", *options, "serving.token_budget=100000")
    served = serve(asked, constant(16 * batch, 1004, 41))
    expected = run(asked, allow_oom=True)
    assert expected.tpot_s is not None
    assert served.result.tpot_s.p50 == pytest.approx(expected.tpot_s, rel=0.005)
    assert served.result.pools[0].batch > 0


def test_drafts_make_tokens_cheaper_by_what_is_accepted(small: Small) -> None:
    model = ("model.name=deepseek-v3", "routing.redundant_experts=0")
    asked = small("decode", *model, "workload.mtp_acceptance=0.7", "serving.token_budget=13000")
    served = serve(asked, constant(256, 800, 449))
    expected = run(asked, allow_oom=True)
    assert expected.tpot_s is not None
    assert served.result.tpot_s.mean == pytest.approx(expected.tpot_s, rel=0.02)


def test_half_the_instances_take_half_the_rate(small: Small) -> None:
    requests = constant(100, 500, 20)
    rates = [
        serve(small("decode", f"serving.instances={count}"), requests).result.saturation_per_s for count in (1, 2, 4)
    ]
    assert rates[1:] == pytest.approx([2 * rates[0], 4 * rates[0]])


def test_a_failed_instance_costs_goodput(small: Small) -> None:
    stream = np.random.default_rng(0)
    arrival = np.cumsum(stream.exponential(0.002, 3000))
    requests = Requests(arrival - arrival[0], stream.integers(100, 900, 3000), stream.integers(10, 90, 3000), "drawn")
    slo = {"ttft_s": 0.3, "tpot_s": 0.02}

    def goodput(failures: str) -> float:
        asked = small("decode", f"serving.failures={failures}")
        share = serve(asked, requests, slo).result.goodput_share
        assert share is not None
        return share

    restart = '[{pool = "prefill", instance = 0, at_s = 2.0, down_s = 1.5}]'
    redundant = '[{pool = "prefill", instance = 0, at_s = 2.0, policy = "redundant"}]'
    assert goodput("[]") >= goodput(redundant) > goodput(restart)
