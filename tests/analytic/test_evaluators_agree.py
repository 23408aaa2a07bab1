"""The central equality: without skew, contention or queueing the estimate and the event simulation are one number."""

from collections.abc import Callable

import pytest

from simulator.result import Result
from simulator.run import run
from simulator.scenario import Scenario

Small = Callable[..., Scenario]
CLUSTERS = ("h800-cluster", "ascend-910b-1024", "cloudmatrix384")
DENSE = ("model.name=llama-3-8b",)
SCHEDULES: dict[str, list[str]] = {name: [f"plan.schedule={name}"] for name in ("1f1b", "gpipe", "dualpipe")}
SCHEDULES["interleaved"] = ["plan.schedule=interleaved", "plan.virtual_stages=2", "model.layers=8"]


def agree(small: Small, phase: str, *settings: str) -> Result:
    """Run both ways with balanced routing; return the estimate."""
    balanced = ("routing.kind=balanced", "network.contention=false", "seed=7", *settings)
    estimate = run(small(phase, *balanced), allow_oom=True)
    events = run(small(phase, *balanced, "fidelity=des"), allow_oom=True)
    assert events.fidelity == "des"
    assert events.step_s == pytest.approx(estimate.step_s, rel=1e-9)
    assert events.tokens_per_s == pytest.approx(estimate.tokens_per_s, rel=1e-9)
    for part, time_s in estimate.breakdown_s.items():
        assert events.breakdown_s[part] == pytest.approx(time_s, rel=1e-9, abs=1e-9 * estimate.step_s), part
    assert events.memory == estimate.memory
    return estimate


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize(
    ("schedule", "recompute"),
    [
        ("1f1b", "none"),
        ("1f1b", "full"),
        ("gpipe", "selective"),
        ("dualpipe", "light"),
        ("dualpipe", "full"),
        ("interleaved", "none"),
        ("interleaved", "selective"),
    ],
)
@pytest.mark.parametrize(
    "plan",
    [
        "tensor=1 pipeline=2 expert=8 batch=128 micro=1",
        "tensor=2 pipeline=4 expert=4 batch=64 micro=2",
        "tensor=4 pipeline=2 expert=16 batch=32 micro=1",
    ],
)
def test_training(small: Small, cluster: str, schedule: str, recompute: str, plan: str) -> None:
    size = dict(part.split("=") for part in plan.split())
    chips = 16 if cluster == "cloudmatrix384" else 32  # 32 ranks either way
    estimate = agree(
        small,
        "training",
        f"cluster.name={cluster}",
        f"cluster.chips={chips}",
        f"plan.recompute={recompute}",
        *SCHEDULES[schedule],
        *(f"plan.{key}={size[key]}" for key in ("tensor", "pipeline", "expert")),
        f"workload.global_batch_sequences={size['batch']}",
        f"plan.micro_batch_sequences={size['micro']}",
    )
    # DualPipe's bubble is (p/2 - 1) pairs (arXiv:2412.19437 Table 2): with two stages, whose ranks hold the same, none.
    idle = estimate.breakdown_s["bubble"] > 1e-9 * estimate.step_s
    assert idle == (schedule != "dualpipe" or size["pipeline"] != "2")
    assert (estimate.breakdown_s["tensor_parallel"] > 0) == (size["tensor"] != "1")


@pytest.mark.parametrize("data", [1, 2, 8])
def test_training_without_a_pipeline(small: Small, data: int) -> None:
    settings = [f"cluster.chips={data}", "plan.pipeline=1", f"plan.expert={data}", "plan.zero=0"]
    estimate = agree(small, "training", *settings)
    assert estimate.breakdown_s["bubble"] == pytest.approx(0.0, abs=1e-12)
    assert (estimate.breakdown_s["dispatch"] > 0) == (data > 1)
    assert (estimate.breakdown_s["data_parallel"] > 0) == (data > 1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_a_dense_model(small: Small, schedule: str) -> None:
    estimate = agree(small, "training", *DENSE, "plan.expert=1", "plan.tensor=2", *SCHEDULES[schedule])
    assert estimate.imbalance is None
    assert estimate.breakdown_s["dispatch"] == 0.0


@pytest.mark.parametrize("layers", ["[2, 1, 1]", "[1, 2, 1]", "[1, 1, 2]"])
def test_training_with_uneven_stages(small: Small, layers: str) -> None:
    agree(small, "training", "cluster.chips=24", "plan.pipeline=3", f"plan.layers_per_stage={layers}")


@pytest.mark.parametrize("layers", ["[1, 2, 2, 3]", "[3, 1, 3, 1]"])
def test_training_with_uneven_virtual_stages(small: Small, layers: str) -> None:
    even, uneven = (
        agree(small, "training", *SCHEDULES["interleaved"], f"plan.layers_per_stage={split}")
        for split in ("[2, 2, 2, 2]", layers)
    )
    assert uneven.step_s != even.step_s


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("overlap", ["none", "two-microbatch"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(("tensor", "expert"), [(1, 1), (1, 16), (2, 32)])
def test_serving(small: Small, cluster: str, overlap: str, phase: str, tensor: int, expert: int) -> None:
    settings = [f"cluster.name={cluster}", f"plan.overlap={overlap}", f"plan.tensor={tensor}", f"plan.expert={expert}"]
    estimate = agree(small, phase, *settings, f"cluster.chips={max(2, expert)}")
    assert (estimate.ttft_s is None) == (phase == "decode")
    assert (estimate.tpot_s is None) == (phase == "prefill")
    if overlap == "none":
        assert (estimate.breakdown_s["dispatch"] > 0) == (expert > 1)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("mode", ["normal", "low-latency"])
@pytest.mark.parametrize(
    "settings",
    [
        ["routing.redundant_experts=16"],
        ["routing.redundant_experts=fill", "plan.expert=24"],
        ["routing.shared_expert_ranks=8", "plan.expert=24"],
        ["precision.dispatch=fp8", "precision.gemm=fp8"],
    ],
    ids=" ".join,
)
def test_serving_options(small: Small, phase: str, mode: str, settings: list[str]) -> None:
    agree(small, phase, "plan.overlap=two-microbatch", f"transport.mode={mode}", *settings)


def test_shared_expert_ranks_that_fill_no_node(small: Small) -> None:
    agree(small, "decode", "routing.shared_expert_ranks=4", "plan.expert=20")


def test_decode_with_drafts(small: Small) -> None:
    plain = agree(small, "decode")
    drafted = agree(small, "decode", "model.mtp_layers=1", "workload.mtp_acceptance=0.8")
    assert drafted.tokens_per_step == pytest.approx(1.8 * plain.tokens_per_step)
    assert drafted.step_s > plain.step_s


def test_transfers_beside_dispatch_and_combine_slow_both(small: Small) -> None:
    """What the event simulation adds where stages send activations over the NICs of dispatch and combine."""
    sizes = ("cluster.chips=32", "plan.pipeline=2", "plan.expert=16", "workload.sequence_tokens=4096")
    settings = ("routing.kind=balanced", *sizes)
    estimate, events = (run(small("training", *settings, f"fidelity={each}")) for each in ("analytic", "des"))
    assert 1.0 < events.step_s / estimate.step_s < 1.1
    assert events.breakdown_s["pipeline"] > estimate.breakdown_s["pipeline"]
    for part in ("compute", "dispatch", "combine"):
        assert events.breakdown_s[part] == pytest.approx(estimate.breakdown_s[part])
    assert sum(events.breakdown_s.values()) == pytest.approx(events.step_s)


@pytest.mark.parametrize("settings", [["plan.pipeline=1"], ["plan.expert=8"], [*DENSE, "plan.expert=1"]])
def test_without_a_shared_port_contention_changes_nothing(small: Small, settings: list[str]) -> None:
    """No stages, experts inside the node's own network, or none at all."""
    both = [
        run(small("training", "routing.kind=balanced", *settings, f"fidelity={each}")).step_s
        for each in ("analytic", "des")
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-9)
