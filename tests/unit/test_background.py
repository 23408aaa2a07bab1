"""Traffic of others takes its share, on links and in what users read."""

from collections.abc import Callable

import pytest

from simulator.errors import UserError
from simulator.phase.network_use import network_use
from simulator.run import run
from simulator.scenario import Scenario
from topologies.background import as_faults
from topologies.errors import TopologyError

BATCH = "workload.global_batch_sequences=512"
Small = Callable[..., Scenario]


def test_a_share_is_what_a_fault_leaves() -> None:
    assert as_faults(["leaf 0 - spine 0 at 30 %", " NIC 17  at 12.5%"]) == (
        "leaf 0 - spine 0 at 70 %",
        "NIC 17 at 87.5 %",
    )


def test_all_bad_texts_are_told_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        as_faults(["leaf 0", "nic 3 at 100 %"])
    assert [line.split(":")[0] for line in caught.value.problems] == ["network.background"] * 2


def test_background_narrows_the_link_and_slows_what_crosses_it(small: Small) -> None:
    quiet = small("decode", "transport.path=nic")
    busy = small("decode", "transport.path=nic", 'network.background=["nic 3 at 60 %"]')
    alone, beside = (network_use(each, "dispatch", top=1, pairs=1) for each in (quiet, busy))
    assert beside.links[0].link.endswith("of rank 3")
    assert beside.links[0].bytes_per_s == pytest.approx(0.4 * alone.links[0].bytes_per_s)
    assert run(busy).step_s > run(quiet).step_s


@pytest.mark.parametrize("text", ["nic 999 at 10 %", "lef 3 at 5 %", "what at 5 %"])
def test_parts_that_are_not_there_are_refused_in_the_users_words(small: Small, text: str) -> None:
    with pytest.raises(UserError) as caught:
        run(small("decode", f'network.background=["{text}"]'))
    assert all(line.startswith(f"network.background: '{text}'") for line in caught.value.problems)


def test_static_routes_are_never_better_than_ecmp_here(small: Small) -> None:
    """On a dragonfly of a few switches, one path per pair loads some link more than all paths do."""
    settings = ("cluster.name=dragonfly-example", "cluster.chips=128", "plan.expert=64", "plan.pipeline=2", BATCH)
    bounds = [
        network_use(small("training", *settings, f"network.routing={policy}"), "dispatch", top=1, pairs=1).bound_s
        for policy in ("ecmp", "static")
    ]
    assert bounds[1] >= bounds[0] > 0
