"""Rows of prefill and decode: the iteration that they describe, and the metric that they measured."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from simulator.result import Result
from simulator.run import run
from simulator.scenario_file import validate
from simulator.validation.cells import Cells, RowError, data, shorten
from simulator.validation.names import counted_per_package, find_cluster, find_model, formats, packages_of_ranks
from topologies.specs import ClusterSpec
from workloads.models.specs import ModelSpec

WIDE_EP_RANKS = 32
OVERLAPS = {"none": "none", "single-batch": "none", "two-microbatch": "two-microbatch"}
KV = {"bf16", "fp16", "fp8", "int8"}
# Of a whole service only the decode iteration is in steady state: the rest waits in queues.
SERVICE_METRICS = ("tpot_ms", "tokens_per_s_per_user")
LITTLE_ROUNDS = 8
Metric = tuple[str, Callable[[Result], float]]


def predict(cells: Cells) -> tuple[float, str]:
    """Return the predicted value of the row's metric, and its unit.

    Raises
    ------
    RowError
        If the row can't be built, or its metric not predicted.
    UserError, TopologyError, WorkloadError
        If the simulator refuses the scenario.
    """
    phase, name = cells.stated("phase_norm"), cells.stated("metric_norm")
    if phase == "kernel":
        raise RowError("kernel times calibrate the operators (see the calibration files); they are not replayed")
    if phase not in {"prefill", "decode", "service"}:
        raise RowError(f"phase '{shorten(phase)}' is not a prefill or decode iteration")
    if name not in METRICS:
        raise RowError(f"metric '{shorten(name)}' is not predicted for an iteration")
    if phase == "service" and name not in SERVICE_METRICS:
        raise RowError(f"not supported yet: {name} of a whole service (queueing)")
    spec, table = scenario_table(cells, "prefill" if phase == "prefill" else "decode")
    result = run(validate(table, table["name"]), allow_oom=True)
    if phase == "service":
        result = _with_those_in_decode(cells, table, result)
    short = max(use.short_bytes for use in result.memory)
    if short:
        cells.note("memory", f"predicted short by {short / 2**30:.1f} GiB, run all the same")
    unit, metric = METRICS[name]
    return metric(result) * _scale(cells, name, spec), unit


def _with_those_in_decode(cells: Cells, table: dict[str, Any], result: Result) -> Result:
    """Return the iteration with as many sequences as are in decode; the others wait or are in prefill.

    By Little's law their share is that of decode in the time of a request, whose TTFT is a figure of the row. The
    batch and the time per token depend on each other; a few rounds settle them, as more sequences never take less time.
    """
    if not cells.stated("ttft_ms") or not cells.stated("gen_len"):
        return result
    workload, batch = table["workload"], cells.positive("batch_per_rank")
    ttft_s, tokens = cells.number("ttft_ms") * 1e-3, cells.positive("gen_len")
    for _ in range(LITTLE_ROUNDS):
        decode_s = _tpot_s(result) * tokens
        settled = max(1, round(batch * decode_s / (decode_s + ttft_s)))
        if settled == workload["batch_per_rank"]:
            break
        workload["batch_per_rank"] = settled
        result = run(validate(table, table["name"]), allow_oom=True)
    cells.note("batch_per_rank", f"{workload['batch_per_rank']} in decode of {batch:g} in flight (Little's law, TTFT)")
    return result


def scenario_table(cells: Cells, phase: str) -> tuple[ClusterSpec, dict[str, Any]]:
    """Return the cluster and the scenario of one iteration.

    Raises
    ------
    RowError
        If the row lacks something, or asks for what the simulator doesn't have.
    """
    model = find_model(cells)
    ranks = cells.whole("ranks")
    chips = packages_of_ranks(cells, ranks)
    spec = find_cluster(cells, chips)
    tensor = cells.whole("tp_norm")
    expert = cells.whole("ep_ranks") if model.experts else 1
    if model.experts and expert < tensor:
        raise RowError(f"not supported yet: experts split by tensor parallelism (EP {expert} below TP {tensor})")
    cache = cells.text("kv_dtype")
    if cache not in KV:
        raise RowError(f"kv_dtype '{shorten(cache)}' unknown")
    table: dict[str, Any] = {
        "name": shorten(cells.stated("id")),
        "model": {"name": model.id},
        "cluster": {"name": spec.id, "chips": chips},
        "workload": {"phase": phase},
        "plan": {"tensor": tensor, "expert": expert, "data": _groups(cells, ranks, tensor)},
        "precision": {**formats(cells.text("weight_dtype")), "kv": cache},
        "calibration": _engine_kernels(cells, spec),
    }
    (_decode if phase == "decode" else _prefill)(cells, table)
    if model.experts:
        table["routing"] = _routing(cells, model, expert)
        table["plan"]["overlap"] = _overlap(cells, expert)
    return spec, table


def _engine_kernels(cells: Cells, spec: ClusterSpec) -> list[str]:
    """Return the calibration of the row's engine and version on its chip, where kernels of it are published."""
    name = data("names")["engines"].get(cells.stated("engine"), {}).get(spec.chip)
    if name is None:
        return []
    cells.note("kernels", f"as published for {cells.stated('engine')}")
    return [str(files("simulator.validation").joinpath("engines", f"{name}.toml"))]


def _groups(cells: Cells, ranks: int, tensor: int) -> int:
    """Attention-DP groups."""
    if cells.stated("dp_attention"):
        return cells.whole("dp_attention")
    cells.text("dp_attention")
    cells.resolve("dp_attention", ranks // max(1, tensor))
    return ranks // max(1, tensor)


def _prefill(cells: Cells, table: dict[str, Any]) -> None:
    workload = table["workload"]
    workload["sequence_tokens"] = cells.whole("prompt_len")
    workload["tokens_per_rank"] = cells.whole("tokens_per_rank_per_step")


def _decode(cells: Cells, table: dict[str, Any]) -> None:
    """Decode at the mean KV length; `mtp_layers` modules draft."""
    workload, batch = table["workload"], cells.positive("batch_per_rank")
    if cells.stated("context_len"):
        context = cells.positive("context_len")
    else:
        context = cells.positive("prompt_len") + cells.number("gen_len") / 2
        cells.note("context_len", f"{context:g} (prompt + half of the output)")
    workload["sequence_tokens"] = max(1, round(context))
    workload["batch_per_rank"] = max(1, round(batch))
    if workload["batch_per_rank"] != batch:
        cells.note("batch_per_rank", f"{workload['batch_per_rank']} (whole sequences)")
    drafts = cells.whole("mtp_layers")
    if drafts:
        workload["mtp_acceptance"] = cells.number("mtp_acceptance")
        table["model"]["mtp_layers"] = drafts


def _routing(cells: Cells, model: ModelSpec, expert: int) -> dict[str, Any]:
    """Routing and placement; ranks left over by experts and replicas hold the shared expert."""
    experts = model.experts.routed_experts if model.experts else 0
    eplb = cells.stated("eplb")
    if eplb == "perfect":
        kind = "balanced"
    else:
        kinds = {"natural": "fitted", "balanced": "balanced"}
        routing = cells.text("routing")
        if routing not in kinds:
            raise RowError(f"routing '{shorten(routing)}' unknown; balanced or natural")
        kind = kinds[routing]
    if cells.stated("redundant_experts"):
        redundant = cells.whole("redundant_experts")
    else:
        cells.text("redundant_experts")
        redundant = -experts % expert or (expert if eplb in {"yes", "perfect"} else 0)
        cells.resolve("redundant_experts", redundant)
    if not eplb:
        cells.text("eplb")
        cells.resolve("eplb", "yes" if redundant else "no")
    balanced = eplb in {"yes", "perfect"} or (not eplb and redundant > 0)
    shared = max(0, expert - experts - redundant)
    if shared:
        cells.note("shared_expert_ranks", f"{shared} (ranks beyond experts and replicas)")
    return {
        "kind": kind,
        "placement": "balanced" if balanced else "contiguous",
        "redundant_experts": redundant,
        "shared_expert_ranks": shared,
    }


def _overlap(cells: Cells, expert: int) -> str:
    stated = cells.stated("overlap").partition(" ")[0]
    if stated:
        if stated not in OVERLAPS:
            raise RowError(f"overlap '{shorten(stated)}' unknown; two-microbatch, single-batch or none")
        return OVERLAPS[stated]
    cells.text("overlap")
    engine = cells.stated("engine").partition(" ")[0]
    single = engine in data("names")["one_batch_engines"]
    overlap = "two-microbatch" if expert >= WIDE_EP_RANKS and not single else "none"
    cells.resolve("overlap", overlap)
    return overlap


def _scale(cells: Cells, name: str, spec: ClusterSpec) -> float:
    """Chips in the unit that the row counts: a node, or half a package."""
    if name == "tokens_per_s_per_node":
        stated = cells.stated("nodes_norm") and cells.stated("chips_total")
        return cells.positive("chips_total") / cells.positive("nodes_norm") if stated else float(spec.chips_per_node)
    return 1.0 / counted_per_package(cells, spec.chip) if name == "tokens_per_s_per_chip" else 1.0


def _tpot_s(result: Result) -> float:
    if result.tpot_s is None:
        raise RowError("time per output token of a prefill iteration")
    return result.tpot_s


METRICS: Mapping[str, Metric] = {
    "tokens_per_s": ("tokens/s", lambda result: result.tokens_per_s),
    "tokens_per_s_per_chip": ("tokens/s/chip", lambda result: result.tokens_per_s_per_chip),
    "tokens_per_s_per_node": ("tokens/s/node", lambda result: result.tokens_per_s_per_chip),
    "tokens_per_s_per_user": ("tokens/s/user", lambda result: 1.0 / _tpot_s(result)),
    "tpot_ms": ("ms", lambda result: 1e3 * _tpot_s(result)),
    "step_ms": ("ms", lambda result: 1e3 * result.step_s),
}
