"""Recorded request traces read to what their publishers and our notes say of them."""

import os
from pathlib import Path

import numpy as np
import pytest

from simulator.engine.serving.prefix_cache import PrefixCache
from workloads.requests.readers import read_requests
from workloads.requests.table import Requests

TRACES = Path(os.environ.get("EPSIM_TRACES") or Path(__file__).parents[3] / "shared" / "traces") / "requests"


def recorded(name: str) -> Requests:
    path = TRACES / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set EPSIM_TRACES to the folder of recorded traces")
    found, notes = read_requests(path)
    assert notes == ()
    return found


@pytest.mark.parametrize(
    ("name", "count", "span_s", "prompt", "output"),
    [
        ("azure-llm-2023/AzureLLMInferenceTrace_code.csv", 8_819, 3_436, 1_469, 13),
        ("azure-llm-2023/AzureLLMInferenceTrace_conv.csv", 19_366, 3_502, 1_020, 129),
        ("mooncake-fast25/conversation_trace.jsonl", 12_031, 3_537, 6_909, 350),
        ("mooncake-fast25/synthetic_trace.jsonl", 3_993, 1_022, 11_587, 69),
    ],
)
def test_counts_spans_and_medians(name: str, count: int, span_s: float, prompt: int, output: int) -> None:
    found = recorded(name)
    assert len(found) == count
    assert found.span_s == pytest.approx(span_s, abs=1.0)
    assert float(np.median(found.prompt_tokens)) == pytest.approx(prompt, abs=1)
    assert float(np.median(found.output_tokens)) == pytest.approx(output, abs=1)


@pytest.mark.parametrize(("name", "share"), [("conversation", 0.366), ("synthetic", 0.640)])
def test_an_unlimited_cache_hits_the_recorded_share(name: str, share: float) -> None:
    found = recorded(f"mooncake-fast25/{name}_trace.jsonl")
    cache, hits, blocks = PrefixCache(10**9), 0, 0
    for request in range(len(found)):
        hashes = found.hashes(request)
        hits, blocks = hits + cache.hit(hashes), blocks + len(hashes)
        cache.use(hashes)
    assert hits / blocks == pytest.approx(share, abs=0.002)
