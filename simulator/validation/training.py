"""Rows of training runs: the scenario that they describe, and the metric that they measured."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from simulator.result import Result
from simulator.run import run
from simulator.scenario import Scenario
from simulator.scenario_file import validate
from simulator.validation.cells import Cells, RowError, data, shorten
from simulator.validation.names import counted_per_package, find_cluster, find_model, formats, packages, recompute_level
from topologies.catalogue import accelerator
from workloads.models.specs import ModelSpec
from workloads.operators import model_flop_per_token

LEVELS = ("none", "light", "selective", "full")  # of recomputation, by how much is computed again
SCHEDULES = {"none": "1f1b", "1f1b": "1f1b", "interleaved": "interleaved", "gpipe": "gpipe", "dualpipe": "dualpipe"}
ZERO = {"0": 0, "1": 1, "2": 2, "3": 3, "fsdp": 3, "fsdp8": 3, "optimizer-parallel": 1}
Metric = tuple[str, Callable[[Result, ModelSpec, Scenario], float]]


def predict(cells: Cells) -> tuple[float, str]:
    """Return the predicted value of the row's metric, and its unit.

    Raises
    ------
    RowError
        If the row can't be built, or its metric not predicted.
    UserError, TopologyError, WorkloadError
        If the simulator refuses the scenario.
    """
    name = cells.stated("metric_norm")
    if name not in METRICS:
        raise RowError(
            f"metric '{shorten(name)}' is not predicted for a training step" if name else "missing: metric_norm"
        )
    unit, metric = METRICS[name]
    model, table = scenario_table(cells)
    if name == "hw_tflops_per_chip" and table["plan"]["recompute"] != "full":
        raise RowError("hw_tflops_per_chip: comparable only with full recomputation")
    asked, result = _run(cells, table)
    cells.mfu = result.mfu
    value = metric(result, model, asked)
    if name.endswith("_per_chip"):
        value /= counted_per_package(cells, result.chip)
    return value, unit


def scenario_table(cells: Cells) -> tuple[ModelSpec, dict[str, Any]]:
    """Return the model and the scenario of a row; an open recomputation stays the default's rule.

    Raises
    ------
    RowError
        If the row lacks something, or asks for what the simulator doesn't have.
    """
    _check_supported(cells)
    layers = cells.whole("layers") if cells.stated("layers") else None
    model = find_model(cells, layers)
    chips = packages(cells, cells.whole("chips"))
    spec = find_cluster(cells, chips, cells.stated("network"))
    if cells.stated("chips_per_node") and packages(cells, cells.whole("chips_per_node")) != spec.chips_per_node:
        raise RowError(f"chips_per_node = {cells.stated('chips_per_node')}: {spec.name} has {spec.chips_per_node}")
    format_of = formats(cells.text("precision_norm"))
    recompute = cells.text("recompute")
    rule = "recompute" in cells.used
    table = {
        "name": shorten(cells.stated("id")),
        "model": {"name": model.id, "layers": layers, **_layers(cells)},
        "cluster": {"name": spec.id, "chips": chips},
        "workload": {
            "phase": "training",
            "sequence_tokens": cells.whole("seq_len_norm"),
            "global_batch_sequences": cells.whole("global_batch_sequences"),
        },
        "plan": {
            **_plan(cells, model),
            "recompute": "" if rule else recompute_level(recompute, layers or model.layers),
        },
        "precision": format_of,
        "routing": _routing(cells) if model.experts else {},
    }
    return model, table


def _check_supported(cells: Cells) -> None:
    if cells.text("task") == "lora":
        raise RowError("not supported yet: LoRA")
    schedule = cells.stated("schedule")
    if schedule and schedule not in SCHEDULES:
        raise RowError(f"not supported yet: schedule '{shorten(schedule)}'")
    if cells.text("zero") not in ZERO:
        raise RowError(f"not supported yet: ZeRO '{shorten(cells.stated('zero'))}'")


def _layers(cells: Cells) -> dict[str, int]:
    """Return what the row says about depth; an empty `mtp_layers` means the model's."""
    found = {"dense_layers": cells.whole("dense_layers")} if cells.stated("dense_layers") else {}
    cells.text("mtp_layers")
    return found | ({"mtp_layers": cells.whole("mtp_layers")} if cells.stated("mtp_layers") else {})


def _plan(cells: Cells, model: ModelSpec) -> dict[str, Any]:
    tensor, expert = cells.whole("tp"), cells.whole("ep") if model.experts else 1
    return {
        "tensor": tensor,
        "context": cells.whole("cp"),
        "pipeline": cells.whole("pp"),
        "expert": expert,
        "expert_tensor": _expert_tensor(cells, tensor, expert) if model.experts else 1,
        "data": cells.whole("dp") if cells.stated("dp") else None,
        "micro_batch_sequences": cells.whole("micro_batch_norm"),
        **_schedule(cells),
        **_overlaps(cells, model),
        "fused_attention": _fused_attention(cells),
        "zero": ZERO[cells.text("zero")],
    }


def _fused_attention(cells: Cells) -> bool:
    for rule in data("names")["unfused"]:
        if all(re.fullmatch(pattern, cells.stated(column)) for column, pattern in rule["of"].items()):
            cells.note("fused_attention", f"no: {rule['because']}")
            return False
    return True


def _overlaps(cells: Cells, model: ModelSpec) -> dict[str, bool]:
    """Return what runs beside compute: as `comm_overlap` says, else as the row's software is known to do."""
    found = {}
    kind = "MoE" if model.experts else "dense"
    for rule in data("names")["overlap"]:
        said = re.match(rule["said"], cells.stated("comm_overlap")) if rule.get("said") else None
        software = rule.get("software") and not cells.stated("comm_overlap")
        known = software and re.match(rule["software"], cells.stated("software")) and kind in rule["kinds"]
        if said or known:
            found[rule["key"]] = True
        if known:
            cells.note(rule["key"], rule["because"])
    return found


def _expert_tensor(cells: Cells, tensor: int, expert: int) -> int:
    """Return TP where EP is smaller (Megatron-LM splits experts over TP unless told otherwise), else 1."""
    if expert >= tensor:
        return 1
    cells.note("etp", f"experts split over TP {tensor}, as EP {expert} is smaller")
    return tensor


def _schedule(cells: Cells) -> dict[str, Any]:
    """Return schedule and parts per rank: 1F1B over several parts is interleaved, with hidden all-to-all overlapped."""
    if cells.stated("schedule") == "interleaved" and not cells.stated("vpp"):
        raise RowError("missing: vpp")
    schedule, parts = SCHEDULES[cells.text("schedule")], cells.at_least_one("vpp")
    if schedule == "1f1b" and parts > 1:
        schedule = "interleaved"
    if schedule in {"1f1b", "interleaved"} and cells.stated("comm_overlap").startswith("ep all-to-all"):
        schedule = "1f1b-overlap"
    if schedule != SCHEDULES[cells.text("schedule")] and "schedule" in cells.used:
        cells.resolve("schedule", schedule)
    return {"schedule": schedule, "virtual_stages": parts}


def _routing(cells: Cells) -> dict[str, str]:
    kinds = {"balanced": "balanced", "natural": "fitted", "none": "balanced"}
    routing = cells.text("routing")
    if routing not in kinds:
        raise RowError(f"routing '{shorten(routing)}' unknown; balanced or natural")
    return {"kind": kinds[routing]}


def _run(cells: Cells, table: dict[str, Any]) -> tuple[Scenario, Result]:
    """Run the scenario; without a stated recomputation take the least that fits, and the most if none does."""
    asked = [table["plan"]["recompute"]] if table["plan"]["recompute"] else list(LEVELS)
    for level in asked:
        scenario = validate({**table, "plan": {**table["plan"], "recompute": level}}, table["name"])
        result = run(scenario, allow_oom=True)
        short = max(use.short_bytes for use in result.memory)
        if not short:
            break
    if len(asked) > 1:
        cells.resolve("recompute", level)
    if short:
        cells.note("memory", f"predicted short by {short / 2**30:.1f} GiB, run all the same")
    return scenario, result


def _hardware_flop_per_s(result: Result, model: ModelSpec, scenario: Scenario) -> float:
    """Model FLOPs and the second forward of all layers, attention counted in full (arXiv:2104.04473 section 5.1)."""
    layers = scenario.model.layers or model.layers
    as_run = model.model_copy(
        update={"layers": layers, "dense_layers": layers if not model.experts else model.dense_layers}
    )
    forward = model_flop_per_token(as_run, scenario.workload.sequence_tokens, training=False, causal=False)
    head = 2.0 * model.hidden * model.vocab
    return (4.0 * forward - head) * result.tokens_per_s_per_chip


def _bubble_s(result: Result) -> float:
    """Idle time of the pipeline, what its transfers add included."""
    return result.breakdown_s["bubble"] + result.breakdown_s["pipeline"]


def _model_flop_per_s(result: Result) -> float:
    return result.mfu * accelerator(result.chip).peak.bf16_flop_per_s


METRICS: Mapping[str, Metric] = {
    "step_s": ("s", lambda result, *_: result.step_s),
    "tokens_per_s": ("tokens/s", lambda result, *_: result.tokens_per_s),
    "tokens_per_s_per_chip": ("tokens/s/chip", lambda result, *_: result.tokens_per_s_per_chip),
    "mfu": ("MFU", lambda result, *_: result.mfu),
    "tflops_per_chip": ("TFLOP/s", lambda result, *_: _model_flop_per_s(result) / 1e12),
    "hw_tflops_per_chip": ("TFLOP/s", lambda result, *rest: _hardware_flop_per_s(result, *rest) / 1e12),
    "bubble_s": ("s", lambda result, *_: _bubble_s(result)),
    "peak_memory_bytes": ("bytes", lambda result, *_: max(use.total_bytes for use in result.memory)),
}
