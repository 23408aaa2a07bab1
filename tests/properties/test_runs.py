"""What theory says of whole runs: better machines are never slower, more micro-batches never cost throughput."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.analytic.longest_path import longest_path
from simulator.cost.expert_parallel import expert_paths
from simulator.phase.serving import serving_iteration
from simulator.phase.setup import Setup, setup
from simulator.phase.training import training_step
from simulator.run import run
from simulator.scenario import Scenario
from topologies.build import network
from topologies.catalogue import fabric
from topologies.specs import Accelerator

Small = Callable[..., Scenario]
FEW = settings(max_examples=30, deadline=None)
CLUSTERS = ("h800-cluster", "ascend-910b-1024", "cloudmatrix384", "gb200-cluster")
NUMBERS = st.sampled_from((1.0, 1.3, 2.0, 8.0))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[str]]:
    phase = draw(st.sampled_from(("training", "prefill", "decode")))
    found = [
        f"cluster.name={draw(st.sampled_from(CLUSTERS))}",
        "cluster.chips=16",
        "plan.expert=8",
        f"plan.tensor={draw(st.sampled_from((1, 2, 4)))}",
        f"routing.kind={draw(st.sampled_from(('fitted', 'balanced')))}",
        f"seed={draw(st.integers(0, 5))}",
    ]
    if phase == "training":
        schedule = draw(st.sampled_from(("1f1b", "gpipe", "dualpipe", "interleaved")))
        virtual_stages = 2 if schedule == "interleaved" else 1
        found += ["plan.pipeline=2", f"plan.schedule={schedule}", f"plan.virtual_stages={virtual_stages}"]
    else:
        found.append(f"plan.overlap={draw(st.sampled_from(('none', 'two-microbatch')))}")
    return phase, found


def time_s(resolved: Setup) -> float:
    """One step or iteration, analytic."""
    if resolved.scenario.workload.phase == "training":
        program = training_step(resolved, draw_all=False).program()
    else:
        program = serving_iteration(resolved).program(None)
    return float(longest_path(program)[1].max())


def with_chip(resolved: Setup, changes: Mapping[str, float]) -> Setup:
    """The same scenario with parts of the chip scaled."""
    chip: Accelerator = resolved.machine.chip
    peaks = {name: rate * changes["peak"] for name, rate in chip.peak.model_dump().items() if isinstance(rate, float)}
    memory = {"bandwidth_bytes_per_s": chip.memory.bandwidth_bytes_per_s * changes["memory"]}
    better = chip.model_copy(
        update={"peak": chip.peak.model_copy(update=peaks), "memory": chip.memory.model_copy(update=memory)}
    )
    return replace(resolved, machine=replace(resolved.machine, chip=better))


def with_network(resolved: Setup, port: float, latency: float) -> Setup:
    """The same scenario on ports `port` times as wide and links `latency` times as slow to answer."""
    target = resolved.machine
    names = {target.spec.scale_up.fabric, *([target.spec.scale_out.fabric] if target.spec.scale_out else [])}
    fabrics = {}
    for name in names:
        found = fabric(name)
        changes: dict[str, Any] = {
            "port_bytes_per_s": found.port_bytes_per_s * port,
            "near_latency_s": found.near_latency_s * latency,
            "far_latency_s": found.far_latency_s * latency if found.far_latency_s else None,
        }
        fabrics[name] = found.model_copy(update=changes)
    links = network(target.spec, target.chip, fabrics, target.chips)
    paths = expert_paths(links, resolved.layout.expert_rank_groups(), resolved.mode) if resolved.paths else None
    return replace(resolved, machine=replace(target, network=links), paths=paths)


@given(case=cases(), peak=NUMBERS, memory=NUMBERS)
@FEW
def test_a_faster_chip_is_never_slower(small: Small, case: tuple[str, list[str]], peak: float, memory: float) -> None:
    resolved = setup(small(case[0], *case[1]))
    assert time_s(with_chip(resolved, {"peak": peak, "memory": memory})) <= time_s(resolved) * (1 + 1e-12)


@given(case=cases(), port=NUMBERS)
@FEW
def test_wider_ports_are_never_slower(small: Small, case: tuple[str, list[str]], port: float) -> None:
    resolved = setup(small(case[0], *case[1]))
    assert time_s(with_network(resolved, port, 1.0)) <= time_s(resolved) * (1 + 1e-12)


@given(case=cases(), latency=NUMBERS)
@FEW
def test_slower_links_are_never_faster(small: Small, case: tuple[str, list[str]], latency: float) -> None:
    resolved = setup(small(case[0], *case[1]))
    assert time_s(with_network(resolved, 1.0, latency)) >= time_s(resolved) * (1 - 1e-12)


def test_the_machine_matters_where_it_should(small: Small) -> None:
    """The properties above could hold because nothing is read: a slower chip and narrower ports must cost time."""
    resolved = setup(small("prefill"))
    assert time_s(with_chip(resolved, {"peak": 0.5, "memory": 0.5})) > 1.2 * time_s(resolved)
    assert time_s(with_network(resolved, 0.25, 1.0)) > 1.02 * time_s(resolved)


@pytest.mark.parametrize("fidelity", ["analytic", "des"])
@pytest.mark.parametrize(
    ("schedule", "pipeline", "batches"),
    [
        *(("1f1b", pipeline, (1, 2, 3, 5, 8, 24)) for pipeline in (1, 2, 4)),
        *(("gpipe", pipeline, (1, 2, 5, 16)) for pipeline in (1, 2, 4)),
        *(("interleaved", pipeline, (4, 8, 16, 24)) for pipeline in (2, 4)),
    ],
)
def test_more_micro_batches_never_cost_throughput(
    small: Small, schedule: str, batches: tuple[int, ...], pipeline: int, fidelity: str
) -> None:
    """With the work of a micro-batch fixed, filling and draining the pipeline is shared by more of them."""
    virtual_stages = 2 if schedule == "interleaved" else 1
    rates = []
    for micro_batches in batches:
        step = [
            "routing.kind=balanced",
            f"plan.pipeline={pipeline}",
            "plan.expert=4",
            "model.layers=8",
            f"plan.schedule={schedule}",
            f"plan.virtual_stages={virtual_stages}",
            f"fidelity={fidelity}",
            f"workload.global_batch_sequences={micro_batches * 16 // pipeline}",
        ]
        rates.append(run(small("training", *step), allow_oom=True).tokens_per_s)
    assert np.all(np.diff(rates) >= -1e-9 * np.array(rates[1:]))
    assert rates[-1] > rates[0]


@pytest.mark.parametrize("pipeline", [2, 4])
def test_more_virtual_stages_leave_less_bubble(small: Small, pipeline: int) -> None:
    """Filling and draining take as long as parts do; the waits for the stage with the LM head remain."""
    step = ["model.name=llama-3-8b", "model.layers=32", "plan.expert=1", f"plan.pipeline={pipeline}"]
    bubbles = []
    for virtual_stages in (1, 2, 4):
        schedule = "interleaved" if virtual_stages > 1 else "1f1b"
        plan = [f"plan.schedule={schedule}", f"plan.virtual_stages={virtual_stages}"]
        result = run(small("training", *step, *plan), allow_oom=True)
        bubbles.append(result.breakdown_s["bubble"])
    assert bubbles[0] > bubbles[1] > bubbles[2]


@given(chips=st.sampled_from((16, 32, 64, 128)), seed=st.integers(0, 3))
@FEW
def test_weak_scaling_is_never_superlinear_with_even_routing(small: Small, chips: int, seed: int) -> None:
    """More replicas of the same work only add gradient traffic."""
    rates = [
        run(
            small(
                "training",
                "routing.kind=balanced",
                f"seed={seed}",
                f"cluster.chips={size}",
                f"workload.global_batch_sequences={4 * size}",
                "plan.zero=0",
            )
        ).tokens_per_s_per_chip
        for size in (chips, 2 * chips)
    ]
    assert rates[1] <= rates[0] * (1 + 1e-9)
