"""Placement and traffic at the size of DeepSeek-V3: 58 MoE layers, 256 experts, top-8, a million tokens."""

import resource
import time

import numpy as np
import pytest

from workloads import placement
from workloads.traffic import traffic

LAYERS, EXPERTS, TOP_K, TOKENS, RANKS = 58, 256, 8, 1_048_576, 256


def test_traffic_of_a_million_tokens() -> None:
    rng = np.random.default_rng(0)
    some = rng.permuted(np.tile(np.arange(EXPERTS, dtype=np.uint8), (4096, 1)), axis=1)[:, :TOP_K]
    experts = np.empty((TOKENS, LAYERS, TOP_K), dtype=np.uint8)
    for layer in range(LAYERS):
        experts[:, layer] = np.tile(some + np.uint8(layer), (TOKENS // len(some), 1))
    held = placement.random(LAYERS, EXPERTS, RANKS, rng)
    start = time.process_time()
    found = traffic(experts, np.full(RANKS, TOKENS // RANKS), held, 8)
    spent_s = time.process_time() - start
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert found.routes.sum() == TOKENS * LAYERS * TOP_K
    # 8 of 256 without replacement, 32 nodes of 8: the share of tokens that miss a node is C(248, 8) / C(256, 8)
    missed = np.prod((EXPERTS - 8 - np.arange(TOP_K)) / (EXPERTS - np.arange(TOP_K)))
    assert found.to_node.mean() * RANKS / TOKENS == pytest.approx(1 - missed, rel=0.01)
    print(
        f"\ntraffic of {TOKENS:,} tokens x {LAYERS} layers: {spent_s:.2f} s CPU (< 5), {peak_bytes / 1e9:.2f} GB (< 2)"
    )
    assert spent_s < 5
    assert peak_bytes < 2e9


def test_eplb_at_full_size() -> None:
    load = np.random.default_rng(0).lognormal(size=(LAYERS, EXPERTS))
    for nodes, groups in ((1, 1), (4, 8)):
        start = time.process_time()
        held = placement.eplb(load, 32, 32, nodes=nodes, groups=groups)
        spent_s = time.process_time() - start
        assert (held.replicas.sum(axis=1) == 288).all()
        print(f"\nEPLB, {nodes} nodes: {spent_s:.3f} s CPU (< 0.5)")
        assert spent_s < 0.5
