"""A table of kernel times (CSV) as operators of the cost model, the unit in each column's name."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np

from simulator.calibration.chips import SAME
from simulator.calibration.chosen import MeasuredFile
from simulator.errors import USER_ERRORS, UserError, did_you_mean
from simulator.fitting.measurements.text import MAX_PROBLEMS, Output, amount, read_output
from topologies.specs import Accelerator, Dtype
from workloads.models import load_model
from workloads.operators import Operator, OperatorClass, Phase, Precision, attention_core, elementwise, grouped_gemm

OPS: tuple[OperatorClass, ...] = get_args(OperatorClass)
_PHASES: Mapping[str, Phase] = {
    "attention_prefill": "prefill",
    "attention_decode": "decode",
    "attention_backward": "training_backward",
    "elementwise": "decode",
    "elementwise_bulk": "prefill",
}
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "grouped_gemm": ("groups", "m", "n", "k"),
    "attention_prefill": ("model", "sequences", "context_tokens"),
    "attention_decode": ("model", "sequences", "context_tokens"),
    "attention_backward": ("model", "sequences", "context_tokens"),
    "elementwise": ("bytes",),
    "elementwise_bulk": ("bytes",),
}
_WHOLE = ("m", "n", "k", "groups", "sequences", "context_tokens")
# Larger figures are mistakes of the unit, and would only overflow further on.
MOST = 1e15
_MOST = dict.fromkeys(_WHOLE, 1e9) | {"groups": 1e5}
COLUMNS = ("op", "dtype", "time_us", *_WHOLE, "bytes", "model")


@dataclass(frozen=True)
class Kernel:
    """One measured kernel: times alone at the datasheet's compute and memory rate, and the measured time [s]."""

    id: str
    what: str
    kind: OperatorClass
    dtype: str
    launches: float
    compute_s: float
    memory_s: float
    measured_s: float


def read_kernels(paths: Sequence[str], chip: Accelerator) -> tuple[list[Kernel], tuple[MeasuredFile, ...]]:
    """Return the kernels of CSV tables, and the files.

    Columns: op (an operator class), dtype, time_us; for GEMMs m (rows, of each group), n, k and groups; for attention
    model (catalogue name or config.json), sequences and context_tokens (prompt, or KV length); for elementwise work
    bytes.

    Raises
    ------
    UserError
        One line per problem, with file and line number.
    """
    kernels: list[Kernel] = []
    files: list[MeasuredFile] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            output = read_output(path)
        except UserError as error:
            problems += error.problems
            continue
        found = list(_kernels(output, chip))
        problems += output.problems
        kernels += found
        if found:
            files.append(MeasuredFile(name=output.title, tool="table", sha256=output.sha256, rows=len(found)))
        elif not output.problems:
            problems.append(f"{path}: no row of kernel times; give columns {', '.join(COLUMNS)}")
    if problems:
        raise UserError(*problems[:MAX_PROBLEMS])
    return kernels, tuple(files)


def _kernels(output: Output, chip: Accelerator) -> Iterator[Kernel]:
    reader = csv.DictReader(output.lines, restkey="", strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        if missing := [name for name in ("op", "dtype", "time_us") if name not in names]:
            hints = [f"{name}{did_you_mean(name, names)}" for name in missing]
            output.wrong(1, f"no column {', '.join(hints)}; a table of kernel times has {', '.join(COLUMNS)}")
            return
        for cells in reader:
            if "" in cells or None in cells.values():
                output.wrong(reader.line_num, "more or fewer cells than the header has; one value per column")
                continue
            values = {name.strip(): str(cell).strip() for name, cell in cells.items()}
            yield from _kernel(output, reader.line_num, values, chip)
    except csv.Error as error:
        output.wrong(reader.line_num, f"not CSV: {error}; quote text that holds commas or quotes")


def _kernel(output: Output, at: int, values: Mapping[str, str], chip: Accelerator) -> Iterator[Kernel]:
    problems = list(_problems(values, chip))
    try:
        operator = None if problems else _operator(values)
    except USER_ERRORS as error:
        problems += error.problems
    for problem in problems:
        output.wrong(at, problem)
    if problems or operator is None:
        return
    dtype = values["dtype"]
    peak = chip.peak_flop_per_s(cast(Dtype, dtype)) or 0.0
    rate = chip.memory.bandwidth_bytes_per_s
    yield Kernel(
        id=output.place(at),
        what=f"{values['op']} {dtype} {_shape(values)}",
        kind=cast(OperatorClass, values["op"]),
        dtype=SAME.get(dtype, dtype),
        launches=operator.launches,
        compute_s=float(np.sum(operator.flop)) * chip.ranks_per_chip / peak,
        memory_s=float(np.sum(operator.weight_bytes + operator.activation_bytes)) * chip.ranks_per_chip / rate,
        measured_s=float(values["time_us"]) * 1e-6,
    )


def _shape(values: Mapping[str, str]) -> str:
    """Return what sets the kernel apart, short: `64x4096x7168` for a GEMM."""
    if "gemm" in values["op"]:
        groups = f"{values['groups']} of " if values["op"] == "grouped_gemm" else ""
        return groups + "x".join(values[name] for name in ("m", "n", "k"))
    if "attention" in values["op"]:
        return f"{values['model']} {values['sequences']}x{values['context_tokens']}"
    return f"{float(values['bytes']):.4g} bytes"


def _problems(values: Mapping[str, str], chip: Accelerator) -> Iterator[str]:
    op, dtype = values["op"], values["dtype"]
    if op not in OPS:
        yield f"op = '{op[:40]}': unknown{did_you_mean(op, OPS)}; known: {', '.join(OPS)}"
    has = [name for name in get_args(Dtype) if chip.peak_flop_per_s(name)]
    if dtype not in has:
        yield f"dtype = '{dtype[:40]}': {chip.id} does not compute in it; use one of {', '.join(has)}"
    elif "gemm" not in op and SAME.get(dtype, dtype) != "bf16":
        yield f"dtype = '{dtype}': only GEMMs are modelled in it; use bf16"
    for name in ("time_us", *_NEEDS.get(op, ())):
        if not (text := values.get(name, "")):
            yield f"{name}: empty; {op} needs it"
        elif name != "model" and (problem := amount(name, text, name in _WHOLE, _MOST.get(name, MOST))):
            yield problem


def _operator(values: Mapping[str, str]) -> Operator:
    op = values["op"]
    size: Callable[[str], float] = lambda name: float(values[name])  # noqa: E731
    if op in {"gemm", "grouped_gemm"}:
        dtype = cast(Dtype, values["dtype"])
        rows = np.full(int(size("groups")) if op == "grouped_gemm" else 1, size("m"))
        return grouped_gemm(op, rows, size("k"), size("n"), Precision(dtype, dtype), "prefill")
    if op in {"elementwise", "elementwise_bulk"}:
        return elementwise(op, size("bytes"), 1.0, _PHASES[op])
    sequences, context = size("sequences"), size("context_tokens")
    tokens = sequences if op == "attention_decode" else sequences * context
    return attention_core(load_model(values["model"]), tokens, context, sequences, _PHASES[op])
