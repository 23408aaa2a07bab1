"""`epsim topology load`: which links an operation loads, and who is behind it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.cost.expert_parallel import token_bytes
from simulator.cost.expert_parallel_time import dispatch_cost
from simulator.phase.network_use import network_use
from simulator.phase.serving import serving_iteration
from simulator.phase.setup import setup
from simulator.scenario import Scenario

Epsim = Callable[..., Any]


@pytest.mark.parametrize("operation", ["dispatch", "combine", "pipeline", "gradients"])
def test_links_of_a_training_step(small: Callable[..., Scenario], operation: str) -> None:
    scenario = small("training", "cluster.chips=32", "plan.expert=16")
    use = network_use(scenario, operation, top=5, pairs=4)
    assert use.bound_s == use.links[0].busy_s
    assert 0 < use.bound_s <= use.time_s * (1 + 1e-9)
    busy = [link.busy_s for link in use.links]
    assert busy == sorted(busy, reverse=True)
    for link in use.links:
        assert sum(pair.size_bytes for pair in link.pairs) <= link.size_bytes * (1 + 1e-9)
        assert link.size_bytes / link.bytes_per_s == pytest.approx(link.busy_s)
        assert [pair.size_bytes for pair in link.pairs] == sorted((p.size_bytes for p in link.pairs), reverse=True)
    assert max(float(kind.utilisation.max()) for kind in use.kinds) == pytest.approx(use.bound_s / use.time_s)
    assert use.matrix_bytes.shape == (32, 32)


def test_combine_sends_back_what_dispatch_brought(small: Callable[..., Scenario]) -> None:
    scenario = small("decode", "precision.dispatch=bf16")
    there, back = (network_use(scenario, op, top=3, pairs=2) for op in ("dispatch", "combine"))
    np.testing.assert_allclose(back.matrix_bytes, there.matrix_bytes.T)
    assert there.sent_bytes == pytest.approx(back.sent_bytes)
    assert {link.link.replace(" in ", " out ") for link in there.links} == {
        link.link.replace(" in ", " out ") for link in back.links
    }


def test_utilisation_of_a_dispatch_is_that_of_its_cost(small: Callable[..., Scenario]) -> None:
    """The busiest link of the flows is the one that the cost of the exchange is made of."""
    scenario = small("prefill")
    resolved = setup(scenario)
    routed = serving_iteration(resolved).routed
    assert routed is not None
    assert resolved.paths is not None
    to_rank, to_node = (each.mean(axis=(0, 1)) for each in (routed.copies.to_rank, routed.copies.to_node))
    size = token_bytes(resolved.model.hidden, scenario.precision.dispatch)
    cost = dispatch_cost(resolved.paths, "dispatch", to_rank, to_node, size)
    assert network_use(scenario, "dispatch", top=1, pairs=1).bound_s == pytest.approx(float(cost.bound_s))


def test_table_json_csv_and_picture(epsim: Epsim, small_file: Callable[..., Path], tmp_path: Path) -> None:
    scenario = small_file("training")
    done = epsim("topology", "load", scenario, "--top", 3, "--csv", "links.csv", "--draw", "links.svg")
    assert done.code == 0
    assert "Busiest links" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    assert (tmp_path / "links.svg").read_text().startswith("<?xml")
    rows = list(csv.DictReader((tmp_path / "links.csv").read_text().splitlines()))
    found = json.loads(epsim("topology", "load", scenario, "--top", 3, "--json").out)
    assert [row["link"] for row in rows] == [link["link"] for link in found["links"]]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("phase", "options", "message"),
    [
        ("training", ["--phase", "dispach"], "no such operation (did you mean 'dispatch'?)"),
        ("decode", ["--phase", "gradients"], "only training has them"),
        ("decode", ["--phase", "pipeline"], "no stages to send between"),
        ("decode", ["--set", "plan.expert=1"], "nothing is exchanged at plan.expert = 1"),
        ("decode", ["--top", "0"], "--top"),
    ],
)
def test_bad_input_is_one_line(
    epsim: Epsim, small_file: Callable[..., Path], phase: str, options: list[str], message: str
) -> None:
    done = epsim("topology", "load", small_file(phase), *options)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
