import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.memory import DTYPE_BYTES
from simulator.errors import UserError
from simulator.manifest import result_bytes
from simulator.phase.routed import Routed, route
from simulator.phase.setup import model_as_run, setup
from simulator.result import PARTS, Result
from simulator.run import run
from simulator.scenario import Routing, Scenario
from simulator.scenario_file import load_scenario
from workloads.errors import WorkloadError
from workloads.models import load_model
from workloads.models.specs import Experts
from workloads.routing.counts import CountTrace, write_counts

Small = Callable[..., Scenario]
PHASES = ("training", "prefill", "decode")
EXPERTS = Experts(routed_experts=64, top_k=6, expert_ffn=1408)


def check(result: Result) -> None:
    """What holds for every answer."""
    assert set(result.breakdown_s) == set(PARTS)
    assert math.fsum(result.breakdown_s.values()) == pytest.approx(result.step_s, rel=1e-12)
    assert min(result.breakdown_s.values()) >= -1e-12 * result.step_s
    assert result.tokens_per_s == pytest.approx(result.tokens_per_step / result.step_s)
    assert result.tokens_per_s_per_chip == pytest.approx(result.tokens_per_s / result.chips)
    assert 0.0 < result.mfu < 1.0
    for use in result.memory:
        assert math.fsum(use.items.values()) == pytest.approx(use.total_bytes)
        assert min(use.items.values()) >= 0.0
    if result.energy_j_per_token is not None and result.power_w is not None:
        assert result.energy_j_per_token * result.tokens_per_s == pytest.approx(result.power_w)
    if result.usd_per_million_tokens is not None and result.usd_per_hour is not None:
        hourly = result.usd_per_million_tokens * result.tokens_per_s * 3600 / 1e6
        assert hourly == pytest.approx(result.usd_per_hour)
    if result.imbalance is not None:
        assert result.imbalance >= 1.0


@pytest.mark.parametrize("fidelity", ["analytic", "des"])
@pytest.mark.parametrize("kind", ["fitted", "uniform", "balanced"])
@pytest.mark.parametrize(
    ("phase", "settings"),
    [
        ("training", ["plan.schedule=1f1b", "plan.recompute=selective"]),
        ("training", ["plan.schedule=gpipe", "plan.tensor=2", "routing.placement=random"]),
        ("training", ["plan.schedule=dualpipe", "plan.zero=0"]),
        ("training", ["plan.schedule=interleaved", "plan.virtual_stages=2", "plan.expert=4"]),
        (
            "training",
            ["plan.pipeline=4", "plan.expert=4", "cluster.name=ascend-910b-1024", "routing.placement=balanced"],
        ),
        ("prefill", ["plan.overlap=two-microbatch", "precision.gemm=fp8", "precision.dispatch=fp8"]),
        ("prefill", ["plan.tensor=2", "cluster.name=cloudmatrix384", "precision.gemm=int8"]),
        ("decode", ["plan.overlap=two-microbatch", "routing.redundant_experts=16"]),
        ("decode", ["routing.shared_expert_ranks=8", "plan.expert=24", "cluster.name=cloudmatrix384"]),
    ],
)
def test_parts_and_items_sum_to_the_whole(
    small: Small, phase: str, settings: list[str], kind: str, fidelity: str
) -> None:
    check(run(small(phase, *settings, f"routing.kind={kind}", f"fidelity={fidelity}")))


def test_a_trace_in_place_of_statistics(small: Small, trace_file: Callable[[str], Path]) -> None:
    for suffix in (".npz", ".parquet"):
        settings = ["routing.kind=trace", f"routing.trace={trace_file(suffix)}"]
        for phase in PHASES:
            check(run(small(phase, *settings)))


@pytest.fixture
def counts_file(tmp_path: Path) -> Path:
    """Counts of 40 steps of 3 MoE layers x 64 experts x top-6, the first expert used by every token."""
    draw = np.random.default_rng(3).random((40, 96, 3, 64))
    draw[..., 0] = -1
    ids = draw.argsort(axis=-1)[..., :6]
    counts = np.stack([[np.bincount(step[:, layer].ravel(), minlength=64) for layer in range(3)] for step in ids])
    write_counts(CountTrace(counts, "small", source="drawn in a test"), tmp_path / "counts.npz")
    return tmp_path / "counts.npz"


def test_counts_in_place_of_a_trace(small: Small, counts_file: Path) -> None:
    settings = ["routing.kind=trace", f"routing.trace={counts_file}"]
    for phase in PHASES:
        check(run(small(phase, *settings)))
    skewed = run(small("decode", *settings)).imbalance or 0.0
    assert skewed > (run(small("decode", "routing.kind=uniform")).imbalance or 0.0) + 1
    balanced = run(small("decode", *settings, "routing.redundant_experts=16", "routing.placement=balanced"))
    assert 1.0 < (balanced.imbalance or 0.0) < skewed
    held = run(small("decode", *settings, "routing.holdout=0.25"))
    assert held.imbalance == pytest.approx(skewed, rel=0.1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("routing.placement=affinity", "routing.placement = 'affinity'.*holds tokens per expert only"),
        ("routing.holdout=0.001", "has 40 steps: can't hold out the last 0%"),
        ("model.layers=5", "3 MoE layers x 64 experts x top-6.* has 4 MoE layers"),
    ],
)
def test_counts_are_refused_where_they_do_not_do(small: Small, counts_file: Path, setting: str, message: str) -> None:
    with pytest.raises((UserError, WorkloadError), match=message) as caught:
        run(small("decode", "routing.kind=trace", f"routing.trace={counts_file}", setting))
    assert len(caught.value.problems) == 1


def test_a_short_trace_is_said_to_be_repeated(small: Small, trace_file: Callable[[str], Path]) -> None:
    """96 recorded tokens for 16 ranks x 2,048 tokens in each of the drawn iterations."""
    settings = ["routing.kind=trace", f"routing.trace={trace_file('.npz')}"]
    (line,) = [line for line in run(small("prefill", *settings)).warnings if "times over" in line]
    batches = int(line.split(" fill ")[1].split()[0])
    assert f"96 recorded tokens fill {batches} batches of 32,768" in line
    assert f"used {32768 * batches / 96:,.0f} times over" in line
    enough = run(small("decode", *settings, "workload.batch_per_rank=1", "plan.expert=1", "cluster.chips=8"))
    assert not any("times over" in line for line in enough.warnings)


@pytest.mark.parametrize(
    ("phase", "tokens"),
    [("training", 64 * 512.0), ("prefill", 16 * 2048.0), ("decode", 16 * 16.0)],
)
def test_tokens_of_a_step(small: Small, phase: str, tokens: float) -> None:
    result = run(small(phase))
    assert result.tokens_per_step == tokens
    assert result.ttft_s == (result.step_s if phase == "prefill" else None)
    assert result.tpot_s == (result.step_s if phase == "decode" else None)


def test_dies_are_ranks_and_packages_are_chips(small: Small) -> None:
    result = run(small("decode", "cluster.name=cloudmatrix384", "plan.expert=32"))
    assert (result.ranks, result.chips) == (32, 16)
    with pytest.raises(UserError, match="2 ranks per chip"):
        run(small("decode", "cluster.name=cloudmatrix384", "plan.expert=1"))


@pytest.mark.parametrize("fidelity", ["analytic", "des"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(small: Small, phase: str, fidelity: str) -> None:
    first, again, other = (run(small(phase, f"fidelity={fidelity}", f"seed={seed}")) for seed in (3, 3, 4))
    assert result_bytes(first) == result_bytes(again)
    assert other.step_s != first.step_s
    assert other.step_s == pytest.approx(first.step_s, rel=0.25)


def routed(kind: str, batches: int = 3, ranks: int = 16, tokens: int = 4096, **changes: object) -> Routed:
    routing = Routing.model_validate({"kind": kind, **changes})
    return route(routing, EXPERTS, 3, ranks, 8, tokens, 8, batches, seed=5)


@pytest.mark.parametrize("kind", ["fitted", "uniform", "balanced"])
@pytest.mark.parametrize("placement", ["contiguous", "balanced", "random"])
@pytest.mark.parametrize("redundant", [0, 16])
@pytest.mark.parametrize("shared", [0, 4])
def test_no_token_is_lost(kind: str, placement: str, redundant: int, shared: int) -> None:
    """Every token is computed by exactly top-k experts of every layer, wherever their replicas are."""
    found = routed(
        kind, ranks=16 + shared, placement=placement, redundant_experts=redundant, shared_expert_ranks=shared
    )
    assert found.slot_tokens.shape == (3, 3, 16, (64 + redundant) // 16)
    np.testing.assert_allclose(found.slot_tokens.sum(axis=(2, 3)), 4096 * 6)
    arriving = found.copies.to_rank.sum(axis=-1)
    assert (arriving <= 4096 * 6 + 1e-6).all()
    assert (arriving >= 4096).all()
    assert (found.copies.to_node.sum(axis=-1) <= arriving + 1e-6).all()


def test_popularity_depends_on_the_seed_alone() -> None:
    """Plans of other sizes serve the same model: the hot experts stay hot."""
    one = routed("fitted", batches=200, tokens=4096, ranks=64).slot_tokens.mean(axis=0).reshape(3, 64)
    two = routed("fitted", batches=100, tokens=16_384, ranks=8).slot_tokens.mean(axis=0).reshape(3, 64)
    for layer in range(3):
        assert np.corrcoef(one[layer], two[layer])[0, 1] > 0.95


def test_balanced_routing_is_even() -> None:
    found = routed("balanced")
    assert found.imbalance == pytest.approx(1.0, abs=0.01)
    assert routed("fitted").imbalance > routed("uniform").imbalance > found.imbalance


@pytest.mark.parametrize("phase", PHASES)
def test_skew_costs_time_and_is_named(small: Small, phase: str) -> None:
    skewed, even = (run(small(phase, f"routing.kind={kind}")) for kind in ("fitted", "balanced"))
    assert skewed.step_s > even.step_s
    assert skewed.breakdown_s["imbalance_wait"] > even.breakdown_s["imbalance_wait"]
    assert skewed.imbalance is not None
    assert skewed.imbalance > 1.05


def test_the_event_simulation_stays_near_the_estimate_under_skew(small: Small) -> None:
    for phase in PHASES:
        estimate, events = (run(small(phase, f"fidelity={fidelity}")) for fidelity in ("analytic", "des"))
        assert events.step_s == pytest.approx(estimate.step_s, rel=0.1)


def test_a_plan_that_does_not_fit_is_refused_unless_allowed(small: Small) -> None:
    scenario = small("decode", "workload.batch_per_rank=100000")
    with pytest.raises(UserError, match=r"short by [\d.]+ GiB on rank class 'every rank'"):
        run(scenario)
    result = run(scenario, allow_oom=True)
    assert result.memory[0].short_bytes > 0
    assert any("does not fit" in warning for warning in result.warnings)
    check(result)


def test_overlap_hides_communication(small: Small) -> None:
    alone, overlapped = (
        run(small("prefill", f"plan.overlap={overlap}", "workload.tokens_per_rank=16384", "plan.expert=32"))
        for overlap in ("none", "two-microbatch")
    )
    exposed = [sum(result.breakdown_s[part] for part in ("dispatch", "combine")) for result in (alone, overlapped)]
    assert exposed[1] < exposed[0]


def test_recomputation_costs_time_and_saves_memory(small: Small) -> None:
    none, selective, full = (run(small("training", f"plan.recompute={kind}")) for kind in ("none", "selective", "full"))
    assert none.step_s < selective.step_s < full.step_s
    assert full.memory[0].items["activations"] < none.memory[0].items["activations"]


def test_mfu_counts_the_models_work_only(small: Small) -> None:
    none, full = (run(small("training", f"plan.recompute={kind}")) for kind in ("none", "full"))
    assert full.mfu * full.step_s == pytest.approx(none.mfu * none.step_s)


def test_narrower_weights_take_less_memory(small: Small) -> None:
    narrow, wide = (run(small("decode", f"precision.gemm={dtype}")).memory[0] for dtype in ("fp8", "bf16"))
    assert DTYPE_BYTES["fp8"] / DTYPE_BYTES["bf16"] == narrow.items["routed experts"] / wide.items["routed experts"]


def test_the_model_as_run_is_cut_to_size(small: Small) -> None:
    cut = model_as_run(small("training"))
    assert (cut.layers, cut.dense_layers) == (4, 1)
    whole = load_model("deepseek-v3")
    assert model_as_run(small("training", "model={name='deepseek-v3'}")) == whole
    assert model_as_run(small("decode", "model={name='deepseek-v3'}")).mtp_layers == 0
    drafting = small("decode", "model={name='deepseek-v3'}", "workload.mtp_acceptance=0.8")
    assert model_as_run(drafting).mtp_layers == whole.mtp_layers
    assert model_as_run(small("training", "model={name='llama-3-8b', layers=2}")).dense_layers == 2


def test_a_serving_instance_is_one_expert_group_by_default(small: Small) -> None:
    assert setup(small("decode", "plan.expert=32")).machine.chips == 32
    assert setup(small("decode", "plan.tensor=4", "plan.data=8", "plan.expert=8")).machine.chips == 32
    assert setup(small("decode", "cluster.chips=64")).machine.chips == 64


def test_announced_machines_and_estimated_models_are_flagged(small: Small) -> None:
    result = run(small("decode", "cluster.name=atlas-950-superpod"))
    assert any("announced" in warning for warning in result.warnings)
    estimated = small("decode", "model={name='deepseek-v4-press-estimate', layers=2, dense_layers=1}")
    assert any("estimate" in warning for warning in run(estimated, allow_oom=True).warnings)
    spanning = run(small("training", "plan.tensor=16", "plan.pipeline=1"))
    assert any("spans nodes" in warning for warning in spanning.warnings)


def test_cores_that_copy_are_a_bargain_between_wire_and_compute() -> None:
    """Too few copy too slowly, too many leave too little to compute; DeepSeek took 20 (arXiv:2412.19437)."""
    steps = {cores: run(load_scenario("dsv3-train-h800", [f"transport.cores={cores}"])).step_s for cores in (4, 20, 40)}
    assert steps[20] < steps[4]
    assert steps[20] < steps[40]


@pytest.mark.parametrize(
    ("scenario", "changes", "message"),
    [
        ("dsv3-train-h800", "transport.cores=132", "transport.cores = 132: a rank of .* has 132"),
        ("dsv3-decode-h800", "transport.cores=8", "transport.cores = 8: no rate per core is known"),
        ("dsv3-train-h800", "transport.library=hybridep", "did you mean 'hybrid-ep'"),
        ("dsv3-decode-cloudmatrix384", "transport.path=nic", "transport.path = 'nic': .* is the only network"),
    ],
)
def test_a_transport_that_does_not_exist_is_refused(scenario: str, changes: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(load_scenario(scenario, [changes]))
