"""`epsim trace traffic`: byte matrices of a batch."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.study.matrices import batch_of
from simulator.study.placing import Group
from workloads.routing.trace import Trace

Epsim = Callable[..., Any]
RANKS, PER_NODE, TOKENS = 8, 4, 16


def test_copies_are_those_counted_token_by_token() -> None:
    rng = np.random.default_rng(0)
    ids = rng.random((40, 2, 16)).argsort(axis=2)[..., :3]
    trace = Trace(ids, np.array([40]), 16, "x")  # one sequence: every rank serves the same tokens
    found = batch_of(trace, Group(RANKS, 0, PER_NODE), "contiguous", None, 40, 0, ("bf16", "bf16"), 100)
    for layer in range(2):
        for rank in range(RANKS):
            on_rank = (ids[:, layer] // 2 == rank).sum(axis=1)
            assert (found.counted.routes[layer, :, rank] == on_rank.sum()).all()
            assert (found.counted.to_rank[layer, :, rank] == (on_rank > 0).sum()).all()
    assert (found.dispatch_bytes, found.combine_bytes) == (200, 200)


def test_matrices_and_table_hold_the_same_bytes(epsim: Epsim, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    out, rows = tmp_path / "m.npz", tmp_path / "t.csv"
    wanted = ["--ranks", RANKS, "--ranks-per-node", PER_NODE, "--tokens-per-rank", TOKENS, "--hidden", 1024]
    placed = ["--policy", "balanced", "--redundant", 8]
    said = epsim("trace", "traffic", trace_file(".npz"), *wanted, *placed, "-o", out, "--csv", rows)
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 100
    with np.load(out) as arrays, rows.open() as file:
        told = {row["sent"]: row for row in csv.DictReader(file)}
        copy = arrays["dispatch_bytes_per_copy"]
        every, once, node = (arrays[f"dispatch_bytes_once_per_{place}"] for place in ("expert", "rank", "node"))
        layers = len(arrays["tokens_per_expert"])
        assert every.shape == (layers, RANKS, RANKS)
        # every choice of every token is sent exactly once, whatever serves it
        top_k = arrays["tokens_per_expert"][0].sum() // (RANKS * TOKENS)
        assert (every.sum(axis=2) == TOKENS * top_k * copy).all()
        assert (once <= every).all()
        assert node.sum() <= once.sum()
        assert np.allclose(arrays["dispatch_bytes_between_nodes"].sum(axis=(1, 2)), node.sum(axis=(1, 2)))
        leaving = (every * ~np.eye(RANKS, dtype=bool)).sum() / layers
        assert float(told["once per expert"]["dispatch_bytes"]) == pytest.approx(leaving)
        assert float(told["once per node"]["copies_per_token"]) == pytest.approx(
            node.sum() / copy / layers / RANKS / TOKENS
        )
    again = json.loads(epsim("trace", "traffic", trace_file(".npz"), *wanted, *placed, "--json").out)
    assert again["traffic"][0]["dispatch_bytes"] == pytest.approx(leaving)


def test_what_is_missing_or_wrong_is_one_line(epsim: Epsim, trace_file: Callable[..., Path], tmp_path: Path) -> None:
    start = ("trace", "traffic", trace_file(".npz"), "--ranks", RANKS)
    (tmp_path / "p.npz").write_bytes(b"")
    for more, message in (
        ((), "state its hidden size with --hidden"),
        (("--hidden", 8, "-o", tmp_path / "m.csv"), "must end in .npz"),
        (("--hidden", 8, "--redundant", 3), "does not fill the ranks evenly"),
        (("--hidden", 8, "--placement", tmp_path / "p.npz"), "p.npz"),
    ):
        said = epsim(*start, *more)
        assert said.code == 2
        assert message in said.err
        assert said.err.count("\n") == 1
