"""The parallel plan, formats, routing and transport that arguments ask for, as tables of a scenario."""

from typing import Any

from simulator.arguments.model import noop_layers
from simulator.arguments.values import Values

LIGHT_MODULES = {"layernorm", "mla_up_proj", "moe_act"}
SHARDING = {"no_shard": 0, "optim": 1, "optim_grads": 2, "optim_grads_params": 3}
COMPUTE_TYPES = {"bf16": "bf16", "nvfp4": "fp4"}


def plan_table(values: Values) -> dict[str, Any]:
    """Return `[plan]`."""
    tensor = values.number("tensor-model-parallel-size") or 1
    pipeline = values.number("pipeline-model-parallel-size") or 1
    plan: dict[str, Any] = {
        "tensor": tensor,
        "pipeline": pipeline,
        "context": values.number("context-parallel-size") or 1,
        "micro_batch_sequences": values.number("micro-batch-size") or 1,
        "zero": _zero(values),
        "recompute": _recompute(values),
    }
    if values.has("overlap-grad-reduce"):
        plan["overlap_gradients"] = True
    if tensor > 1 and any(values.has(name) for name in ("tp-comm-overlap", "use-ascend-mc2", "use-ascend-coc")):
        plan["overlap_tensor"] = True
    plan |= _experts(values, tensor) | _context_exchange(values, plan["context"])
    parts = _parts(values, pipeline)
    plan |= _schedule(values, parts)
    plan |= _layers(values, pipeline, 1 if plan.get("schedule") == "dualpipe-v" else parts, plan.get("schedule", ""))
    return plan


def _experts(values: Values, tensor: int) -> dict[str, Any]:
    if not values.number("num-experts") and not values.number("expert-model-parallel-size"):
        return {}
    expert = values.number("expert-model-parallel-size") or 1
    if values.has("moe-tp-extend-ep"):
        values.note("moe-tp-extend-ep", f"EP over TP x EP = {tensor * expert} ranks")
        return {"expert": tensor * expert}
    split = values.number("expert-tensor-parallel-size")
    if split is None and tensor > 1:
        values.note("tensor-model-parallel-size", f"splits experts too (ETP {tensor}), as Megatron-LM does by default")
    return {"expert": expert, "expert_tensor": split or tensor}


def _context_exchange(values: Values, context: int) -> dict[str, Any]:
    if context == 1:
        return {}
    known = {"p2p": "ring", "megatron-cp-algo": "ring", "a2a": "all-to-all", "ulysses-cp-algo": "all-to-all"}
    for name in ("cp-comm-type", "context-parallel-algo"):
        asked = values.word(name)
        exchange = known.get(asked.replace("_", "-"))
        if exchange:
            return {"context_exchange": exchange}
        if asked:
            values.refuse(name, f"not supported; use one of {', '.join(known)}")
    default = "all-to-all" if "context-parallel-algo" in values.given else "ring"
    return {"context_exchange": default}


def _zero(values: Values) -> int:
    strategy = values.word("data-parallel-sharding-strategy")
    if strategy:
        if strategy not in SHARDING:
            values.refuse("data-parallel-sharding-strategy", f"unknown; use one of {', '.join(SHARDING)}")
        return SHARDING.get(strategy, 0)
    if values.has("use-torch-fsdp2") or values.has("use-megatron-fsdp"):
        return 3
    return int(values.has("use-distributed-optimizer"))


def _recompute(values: Values) -> str:
    granularity = values.word("recompute-granularity")
    if granularity not in {"", "full", "selective"}:
        values.refuse("recompute-granularity", "unknown; use 'full' or 'selective'")
    if granularity == "full":
        if values.word("recompute-method") == "block":
            values.note("recompute-method", "taken as full recomputation of all layers, which costs more")
        return "full"
    if granularity != "selective" and not values.has("recompute-activations"):
        return "none"
    modules = set(values.given["recompute-modules"].values) if "recompute-modules" in values.given else set()
    if not modules:
        return "selective"
    if modules - LIGHT_MODULES - {"core_attn"}:
        values.note("recompute-modules", "mlp, moe and shared experts are not recomputed here")
    return "selective" if "core_attn" in modules else "light"


def _parts(values: Values, pipeline: int) -> int:
    """Return the model parts of a rank."""
    virtual = values.number("virtual-pipeline-model-parallel-size")
    per_part, layers = values.number("num-layers-per-virtual-pipeline-stage"), values.number("num-layers")
    if virtual is None and per_part and layers:
        if layers % (pipeline * per_part):
            values.refuse(
                "num-layers-per-virtual-pipeline-stage",
                f"{layers} layers on {pipeline} stages do not split into parts of {per_part}; use a divisor of "
                f"{layers // pipeline}",
            )
            return 1
        return layers // (pipeline * per_part)
    return virtual or 1


def _schedule(values: Values, parts: int) -> dict[str, Any]:
    asked = values.word("schedules-method")
    if asked == "dualpipev":
        return {"schedule": "dualpipe-v"}
    if asked:
        values.refuse("schedules-method", "not supported; use 'dualpipev', or leave it out")
    if values.has("overlap-moe-expert-parallel-comm") or values.has("moe-fb-overlap"):
        return {"schedule": "1f1b-overlap", "virtual_stages": parts}
    if parts > 1:
        return {"schedule": "interleaved", "virtual_stages": parts}
    return {"schedule": "1f1b"}


def _layers(values: Values, pipeline: int, parts: int, schedule: str) -> dict[str, Any]:
    """Return layers per stage where arguments make them uneven."""
    layers, stages = values.number("num-layers") or 0, pipeline * parts
    listed, empty = values.word("num-layer-list"), noop_layers(values)
    first = values.number("decoder-first-pipeline-num-layers")
    last = values.number("decoder-last-pipeline-num-layers")
    before = int(values.has("account-for-embedding-in-pipeline-split"))
    after = int(values.has("account-for-loss-in-pipeline-split"))
    if schedule == "dualpipe-v":
        stages = 2 * pipeline
    if listed:
        sizes = listed.split(",")
        if all(size.strip().isdecimal() and len(size) < 6 for size in sizes):
            return {"layers_per_stage": [int(size) for size in sizes]}
        values.refuse("num-layer-list", "not whole numbers joined by commas")
    elif (first or last) and pipeline > 1 and parts == 1:
        inner = pipeline - bool(first) - bool(last)
        left = layers - (first or 0) - (last or 0)
        if inner < 1 or left % inner or left < 0:
            name = "decoder-first-pipeline-num-layers" if first else "decoder-last-pipeline-num-layers"
            values.refuse(name, f"leaves {left} layers for {inner} stages, which do not divide")
        else:
            ends = [[each] if each else [] for each in (first, last)]
            return {"layers_per_stage": [*ends[0], *[left // inner] * inner, *ends[1]]}
    elif (before or after) and pipeline > 1 and layers:
        each, over = divmod(layers + before + after, stages)
        if over:
            name = "account-for-embedding-in-pipeline-split" if before else "account-for-loss-in-pipeline-split"
            values.refuse(name, f"{layers} layers and what counts as layers do not divide over {stages} parts")
        else:
            return {"layers_per_stage": [each - before, *[each] * (stages - 2), each - after]}
    elif empty and pipeline > 1 and layers % stages == 0:
        each = layers // stages
        gone = [sum(each * part <= layer < each * (part + 1) for layer in empty) for part in range(stages)]
        return {"layers_per_stage": [each - lost for lost in gone]}
    return {}


def precision_table(values: Values) -> dict[str, str]:
    """Return `[precision]`."""
    compute = values.word("compute-dtype")
    if compute:
        gemm = "fp8" if compute.startswith("fp8") else COMPUTE_TYPES.get(compute, "")
        if not gemm:
            values.refuse("compute-dtype", "unknown; use bf16, fp8_cs, fp8_sc, fp8_ds, fp8_mx or nvfp4")
        return {"gemm": gemm or "bf16"}
    if "fp4-format" in values.given:
        return {"gemm": "fp4"}
    if "fp8-format" in values.given or "fp8-recipe" in values.given:
        recipe = values.word("fp8-recipe", "delayed")
        values.note("fp8-recipe", f"FP8 GEMMs; scales of recipe '{recipe}' are not priced apart")
        return {"gemm": "fp8"}
    if values.has("fp16"):
        return {"gemm": "fp16"}
    if not values.has("bf16"):
        values.problems.append("--bf16: missing; Megatron-LM would train in FP32, which is not supported: add --bf16")
    return {"gemm": "bf16"}


def routing_table(values: Values) -> dict[str, Any]:
    """Return `[routing]`, empty where nothing is said."""
    table: dict[str, Any] = {}
    if values.has("moe-router-force-load-balancing") or values.has("fix-router"):
        table["kind"] = "balanced"
    groups, per_token = values.number("moe-router-num-groups"), values.number("moe-router-group-topk")
    if groups and per_token and table.get("kind") != "balanced":
        table |= {"groups": groups, "groups_per_token": per_token}
    factor = values.word("moe-expert-capacity-factor")
    if factor and factor.lower() != "none":
        try:
            number = float(factor)
        except ValueError:
            values.refuse("moe-expert-capacity-factor", "not a number")
        else:
            if number > 0:  # a negative one drops nothing
                table["capacity_factor"] = number
    return table


def transport_table(values: Values) -> dict[str, Any]:
    """Return `[transport]`, empty where nothing is said."""
    kind, backend = values.word("moe-token-dispatcher-type"), values.word("moe-flex-dispatcher-backend")
    if kind not in {"", "alltoall", "alltoall_seq", "allgather", "flex"}:
        values.refuse("moe-token-dispatcher-type", "unknown; use alltoall, allgather or flex")
    if kind == "allgather":
        return {"library": "all-gather"}
    if backend == "hybridep":
        return {"library": "hybrid-ep"}
    if kind == "alltoall":
        values.note("moe-token-dispatcher-type", "priced as the fabric's usual library, one copy per rank or node")
    return {}
