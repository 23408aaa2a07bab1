"""Published comparisons of serving: overlap of two micro-batches, EPLB, and DeepSeek's production day.

SGLang on H100 (LMSYS, 5 May 2025): two-batch overlap -27 % at 32 tokens per GPU and +25.5 % at 256; EPLB 1.49 times in
prefill, 2.54 in decode. DeepSeek's day of 27 February 2025: 608 G tokens in, 342 G of them cached, 168 G out, 226.75
nodes of eight H800 on average, 20 to 22 tokens/s for a user at 4,989 tokens of KV.
"""

import pytest

from simulator.phase.setup import setup
from simulator.phase.steady import SteadyState
from simulator.run import run
from simulator.scenario_file import validate
from simulator.study.serve_limit import decode_limit

POINTS = 0.12
DAY_S = 86_400.0
NODES = 226.75


def scenario(cluster, chips, phase, overlap="two-microbatch", placement="balanced", redundant=32, **workload):
    table = {
        "name": "published",
        "model": {"name": "deepseek-v3"},
        "cluster": {"name": cluster, "chips": chips},
        "workload": {"phase": phase, **workload},
        "plan": {"expert": chips, "overlap": overlap},
        "precision": {"gemm": "fp8", "dispatch": "fp8"},
        "routing": {"placement": placement, "redundant_experts": redundant},
    }
    return validate(table, "published")


def decode_s(batch, overlap):
    asked = scenario("dgx-h100-superpod", 72, "decode", overlap, sequence_tokens=2000, batch_per_rank=batch)
    return run(asked, allow_oom=True).step_s


def overlap_gain(batch):
    return decode_s(batch, "none") / decode_s(batch, "two-microbatch") - 1


def test_overlap_costs_at_few_tokens_and_pays_at_many():
    few, many = overlap_gain(32), overlap_gain(256)
    assert few < 0 < many
    assert few == pytest.approx(-0.27, abs=POINTS)


def eplb_gain(phase, placed, unplaced, **workload):
    slow = scenario("dgx-h100-superpod", unplaced, phase, placement="contiguous", redundant=0, **workload)
    fast = scenario("dgx-h100-superpod", placed, phase, **workload)
    rates = [run(asked, allow_oom=True).tokens_per_s_per_chip for asked in (fast, slow)]
    return rates[0] / rates[1]


def test_eplb_pays_in_prefill_and_more_in_decode():
    prefill = eplb_gain("prefill", 32, 32, sequence_tokens=1024, tokens_per_rank=16384)
    decode = eplb_gain("decode", 72, 64, sequence_tokens=2000, batch_per_rank=256)
    assert prefill == pytest.approx(1.49, rel=0.25)
    assert decode > prefill > 1.0


def production_nodes():
    """Nodes that a day's tokens take: prefill of what is not cached, decode at 21 tokens/s a user, natural skew."""
    prefill = run(scenario("h800-cluster", 32, "prefill", sequence_tokens=4096, tokens_per_rank=16384), allow_oom=True)
    asked = scenario("h800-cluster", 144, "decode", sequence_tokens=4989, batch_per_rank=1)
    decode = decode_limit(SteadyState(setup(asked)), 1 / 21, 1024.0)
    chips = (608e9 - 342e9) / DAY_S / prefill.tokens_per_s_per_chip + 168e9 / DAY_S / decode.tokens_per_s_per_chip
    return chips / 8


def test_the_production_day_takes_the_nodes_that_it_had():
    """Without unevenness over the day and prompts of all lengths, so rather fewer than more."""
    assert production_nodes() == pytest.approx(NODES, rel=0.2)
