"""Measurements replayed: rows of every kind build, others say why not, and the command shows both."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.validation.replay import COLUMNS, replay, replay_each
from simulator.validation.tables import AREAS, load_rows, shipped_rows

MEASURED = Path(__file__).parents[3] / "shared" / "measured"
Command = Callable[..., Any]

TRAINING = {
    "id": "mine-1",
    "model": "DeepSeek-V2-Lite 16B",
    "chip": "H800",
    "chips": "16",
    "seq_len_norm": "512",
    "global_batch_sequences": "64",
    "pp": "2",
    "ep": "8",
    "recompute": "full",
    "layers": "5",
    "metric_norm": "step_s",
    "value_norm": "1.0",
    "evidence": "P",
    "source": "my own",
}
DECODE = {
    "id": "mine-2",
    "model": "DeepSeek-V3",
    "chip": "ascend-910c",
    "ranks": "320",
    "phase_norm": "decode",
    "ep_ranks": "320",
    "batch_per_rank": "8",
    "prompt_len": "2048",
    "gen_len": "256",
    "redundant_experts": "32",
    "weight_dtype": "int8",
    "metric_norm": "tpot_ms",
    "value_norm": "30",
}
DISPATCH = {
    "id": "mine-3",
    "chip": "h800",
    "ranks": "16",
    "op": "dispatch",
    "mode": "low_latency",
    "tokens_per_rank": "128",
    "payload_dtype": "fp8",
    "time_us": "120",
}
GOODPUT = {"id": "mine-6", "system": "ours", "chips": "1000", "metric": "goodput", "value": "97", "unit": "%"}
ROWS = {"training": TRAINING, "inference": DECODE, "collectives": DISPATCH, "reliability": GOODPUT, "scaling": TRAINING}


def one(area: str, **changes: str) -> dict[str, Any]:
    return next(replay_each([{**ROWS[area], **changes}], area))


@pytest.mark.parametrize("area", AREAS)
def test_a_row_of_each_area_is_predicted(area: str) -> None:
    found = one(area)
    assert found["status"] == "predicted"
    assert found["predicted"] > 0
    assert found["error"] == pytest.approx(found["predicted"] / found["measured"] - 1)


@pytest.mark.parametrize("area", AREAS)
def test_shipped_rows_are_predicted_or_say_why_not(area: str) -> None:
    frame = replay(shipped_rows(area), area)
    assert list(frame.columns) == list(COLUMNS)
    assert frame["id"].is_unique
    assert frame["status"].str.match(r"predicted$|fitted-on$|unsupported: .{10,}").all(), list(frame["status"])
    assert frame["error"].notna().mean() > 0.8
    assert (frame["evidence"] != "").all()
    assert (frame["source"] != "").all()


def test_shipped_rows_cover_both_vendors_and_all_phases() -> None:
    rows = {area: shipped_rows(area) for area in AREAS}
    for area, found in rows.items():
        if area == "scaling":  # no series on Ascend was published with its plan
            continue
        chips = [(row.get("chip") or row["system"]).lower() for row in found]
        assert any("ascend" in chip for chip in chips)
        assert any("ascend" not in chip for chip in chips)
    assert {row["phase_norm"] for row in rows["inference"]} == {"prefill", "decode", "service"}
    assert {row["op"] for row in rows["collectives"]} >= {"dispatch", "combine", "all_reduce"}


@pytest.mark.parametrize(
    ("area", "changes", "reason"),
    [
        ("training", {"schedule": "zero-bubble"}, "not supported yet: schedule"),
        ("training", {"schedule": "interleaved"}, "missing: vpp"),
        ("training", {"schedule": "dualpipe", "vpp": "2"}, "plan.virtual_stages = 2: schedule 'dualpipe'"),
        ("training", {"vpp": "4"}, "plan.virtual_stages = 4: with PP 2 the model's 5 layers"),
        ("training", {"vpp": "2", "global_batch_sequences": "24"}, "3 micro-batches are not a multiple of 2 stages"),
        ("training", {"vpp": "0"}, "vpp = 0"),
        ("training", {"cp": "16"}, "does not tile"),
        ("training", {"zero": "3"}, "plan.zero = 3: would scatter gradients"),
        ("training", {"zero": "4"}, "not supported yet: ZeRO"),
        ("training", {"task": "lora"}, "not supported yet: LoRA"),
        ("training", {"model": "Nemotron 5"}, "model unknown: Nemotron 5"),
        ("training", {"chips": "15"}, "does not tile"),
        ("training", {"chips": "999999999999"}, "holds"),
        ("training", {"metric_norm": "span_s"}, "metric 'span_s'"),
        ("training", {"value_norm": ""}, "missing: value_norm"),
        ("training", {"value_norm": "0"}, "must be positive"),
        ("training", {"metric_norm": "hw_tflops_per_chip", "recompute": "none"}, "full recomputation"),
        ("training", {"precision_norm": "nvfp4"}, "fp4"),
        ("inference", {"phase_norm": "kernel"}, "calibrate"),
        ("inference", {"phase_norm": "service", "metric_norm": "tokens_per_s_per_chip"}, "queueing"),
        ("inference", {"metric_norm": "ttft_ms"}, "metric 'ttft_ms'"),
        ("inference", {"batch_per_rank": ""}, "missing: batch_per_rank"),
        ("inference", {"ranks": "321"}, "dies"),
        ("inference", {"prompt_len": "", "context_len": ""}, "missing: prompt_len"),
        ("collectives", {"op": "prepare"}, "operation 'prepare'"),
        ("collectives", {"transport": "roce"}, "transport roce"),
        ("collectives", {"nic_gbps_per_rank": "100"}, "100 Gb/s per rank"),
        ("collectives", {"ranks": "1"}, "ranks = 1"),
        ("collectives", {"time_scope": "transmit_only"}, "missing: notify_us"),
        ("collectives", {"time_us": ""}, "missing: busbw_GBps"),
    ],
)
def test_rows_that_can_not_be_built_say_why(area: str, changes: dict[str, str], reason: str) -> None:
    found = one(area, **changes)
    assert found["status"].startswith("unsupported: ")
    assert reason in found["status"]
    assert found["predicted"] is None
    assert found["error"] is None


def test_unusable_rows_are_skipped_with_their_reason() -> None:
    assert one("training", usable="no", why_not="missing: chips")["status"] == "skipped: missing: chips"


def test_defaults_of_empty_cells_are_listed() -> None:
    assert "routing = balanced" in one("training")["defaults"]
    assert "recompute = none (least that fits)" in one("training", recompute="")["defaults"]
    used = one("inference")["defaults"]
    for said in ("routing = natural", "context_len = 2176", "kv_dtype = bf16", "overlap = two-microbatch"):
        assert said in used
    assert "shared_expert_ranks = 32" in used
    assert "routing" not in one("training", routing="balanced", usable="yes")["defaults"]


def test_stated_cells_change_the_prediction() -> None:
    base = one("inference")["predicted"]
    assert one("inference", routing="balanced")["predicted"] < base
    assert one("inference", batch_per_rank="64")["predicted"] > base
    assert (
        one("inference", mtp_layers="1", mtp_acceptance="0.7")["predicted"]
        < one("inference", mtp_layers="1", mtp_acceptance="0.1")["predicted"]
    )
    assert one("training", micro_batch_norm="2")["predicted"] != one("training")["predicted"]


def test_several_chunks_per_stage_mean_interleaved_1f1b() -> None:
    assert "schedule = interleaved (1f1b)" in one("training", vpp="2")["defaults"]
    interleaved = [one("training", vpp="2", schedule=name)["predicted"] for name in ("", "1f1b", "interleaved")]
    assert len(set(interleaved)) == 1
    assert interleaved[0] != one("training")["predicted"]


def test_metrics_of_one_run_agree_with_each_other() -> None:
    def value(metric: str, **changes: str) -> float:
        return float(one("training", metric_norm=metric, **changes)["predicted"])

    tokens = 64 * 512
    assert value("tokens_per_s") == pytest.approx(tokens / value("step_s"))
    assert value("tokens_per_s_per_chip") == pytest.approx(tokens / value("step_s") / 16)
    assert value("tflops_per_chip") == pytest.approx(value("mfu") * 989.4, rel=1e-3)
    assert value("tflops_per_chip") < value("hw_tflops_per_chip") < 1.5 * value("tflops_per_chip")
    assert value("bubble_s") < value("step_s")


def test_a_node_has_eight_chips_and_a_package_two_dies() -> None:
    chip = one("inference", metric_norm="tokens_per_s_per_chip")["predicted"]
    assert one("inference", metric_norm="tokens_per_s_per_node")["predicted"] == pytest.approx(8 * chip)
    die = one("inference", metric_norm="tokens_per_s_per_chip", chip="ascend-910c-die")
    assert die["predicted"] == pytest.approx(chip / 2)


def test_logical_bandwidth_is_copies_over_time() -> None:
    time_us = one("collectives")["predicted"]
    rate = one("collectives", time_us="", algbw_GBps="60", bandwidth_convention="logical")["predicted"]
    assert rate == pytest.approx(8 * 128 * 7408 / time_us * 1e-3, rel=1e-3)


def test_bus_bandwidth_follows_the_convention_of_nccl_tests() -> None:
    row = {"op": "all_reduce", "chip": "h100", "ranks": "8", "size_bytes": "1e9", "mode": ""}
    time_us = one("collectives", **row)["predicted"]
    rate = one("collectives", **row, time_us="", busbw_GBps="400")["predicted"]
    assert rate == pytest.approx(2 * 7 / 8 * 1e9 / time_us * 1e-3)


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter", "all_to_all", "p2p_read"])
def test_other_operations_are_priced(op: str) -> None:
    row = {"op": op, "chip": "h100", "ranks": "2" if op == "p2p_read" else "8", "size_bytes": "1e8", "mode": ""}
    found = one("collectives", **row)
    assert found["status"] == "predicted"
    assert 1e8 / 450e9 * 1e6 * 0.8 < found["predicted"] < 1e4


def test_pure_rdma_is_slower_than_nvlink() -> None:
    row = {"ranks": "8", "ranks_per_node": "8"}
    assert one("collectives", **row, transport="rdma")["predicted"] > one("collectives", **row)["predicted"]


def test_rows_that_constants_were_fitted_on_are_marked() -> None:
    found = one("collectives", id="deepep-v1-ll-jun25-dispatch-ep16")
    assert found["status"] == "fitted-on"
    assert found["area"] == "dispatch (fitted on)"


def test_the_id_of_a_row_decides_nothing_but_its_mark() -> None:
    for area in AREAS:
        row = shipped_rows(area)[0]
        first, second = (next(replay_each([{**row, "id": name}], area)) for name in (row["id"], "another"))
        assert first["predicted"] == second["predicted"]


def test_command_replays_a_users_table(epsim: Command, tmp_path: Path) -> None:
    rows, errors = tmp_path / "rows.csv", tmp_path / "errors.csv"
    table = [TRAINING, {**TRAINING, "id": "mine-4", "task": "lora"}, {**TRAINING, "id": "mine-5", "usable": "no"}]
    with rows.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in table for key in row}), restval="")
        writer.writeheader()
        writer.writerows(table)
    outcome = epsim("validate", "training", "--rows", rows, "--csv", errors, "--out", tmp_path / "seen", "--defaults")
    assert outcome.code == 0, outcome.err
    for said in ("mine-1", "LoRA", "skipped", "routing = balanced", "arXiv:2412.19437"):
        assert said in outcome.out
    assert (tmp_path / "seen" / "validation.png").stat().st_size > 10_000
    written = load_rows(errors)
    assert list(written[0])[:5] == ["id", "predicted", "measured", "error", "status"]
    assert [row["status"].partition(":")[0] for row in written] == ["predicted", "unsupported", "skipped"]


def test_command_prints_json_without_nan(epsim: Command) -> None:
    outcome = epsim("validate", "dispatch", "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)
    assert {row["metric"] for row in rows} == {"dispatch", "combine"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trainig"], "did you mean 'training'"),
        (["--rows", "."], "a directory"),
        (["--rows", "none.csv"], "can't be read"),
    ],
)
def test_command_refuses_bad_input_in_one_line(epsim: Command, arguments: list[str], says: str) -> None:
    outcome = epsim("validate", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert says in outcome.err


@pytest.mark.parametrize("area", AREAS)
def test_every_published_row_is_answered(area: str) -> None:
    if not MEASURED.exists():
        pytest.skip("../shared/measured is not here")
    rows = load_rows(MEASURED / f"{area}.csv")[::7]
    frame = replay(rows, area)
    assert frame["status"].str.match(r"predicted$|fitted-on$|(unsupported|skipped): .+").all()
    shipped = {row["id"]: row for row in shipped_rows(area)}
    for row in load_rows(MEASURED / f"{area}.csv"):
        copy = shipped.get(row["id"], {})
        numbers = {key: value for key, value in copy.items() if key in row and key not in {"source", "notes"}}
        assert {key: row[key] for key in numbers} == numbers


def test_time_falls_with_the_cores_of_a_row_until_the_wire_is_full() -> None:
    shape = {
        "mode": "normal",
        "tokens_per_rank": "4096",
        "transport": "nvlink+rdma",
        "ranks_per_node": "8",
        "ranks": "32",
    }
    times = [one("collectives", **shape, comm_cores=cores)["predicted"] for cores in ("4", "8", "24", "48")]
    assert times[0] > 1.5 * times[1] > times[2]
    assert times[2] == times[3]
