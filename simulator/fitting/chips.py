"""Rebuild the fitted constants of the chip calibrations from published kernel measurements.

`python -m simulator.fitting.chips MEASURED_DIR REFERENCE_DIR` prints each fit beside the constants that ship.
Only kernels are fitted, never a step time or a throughput; each constant is held constant over all shapes.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.calibration.chips import chip_calibration, overlapped_s
from simulator.cost.roofline import operator_time
from simulator.fitting.samples import Sample, kernel_sample
from simulator.fitting.training_kernels import training_samples
from topologies.catalogue import accelerator
from topologies.specs import Dtype
from workloads.models import load_model
from workloads.operators import (
    Operator,
    OperatorClass,
    Phase,
    Precision,
    attention_core,
    attention_operators,
    expert_operators,
    grouped_gemm,
    join,
    router_operators,
    shared_expert_operators,
)

Array = NDArray[np.float64]
Row = Mapping[str, str]

NAMES = ("compute_efficiency", "memory_efficiency", "overlap_exponent", "launch_s")
# Start, lower and upper bound of each constant in the fit; launch times in microseconds to even out the scales.
_RANGE = {
    "compute_efficiency": (0.7, 0.05, 1.0),
    "memory_efficiency": (0.8, 0.05, 1.0),
    "overlap_exponent": (1.5, 1.0, 20.0),
    "launch_s": (5.0, 0.0, 100.0),
}
# Streaming rate of FlashMLA in its memory-bound setting: the most that any kernel is known to draw from an H800.
H800_STREAM = 3000.0 / 3350.0
H800_MLA_COMPUTE = 660.0 / 989.4
MLA_910C_STREAM = 0.841


@dataclass(frozen=True)
class Fit:
    """Constants of one or more groups fitted together."""

    constants: Mapping[OperatorClass, Mapping[str, float]]
    errors: Mapping[OperatorClass, Array]

    def mean_abs_error(self, group: OperatorClass) -> float:
        """Mean of |predicted / measured - 1| over the group's rows."""
        return float(np.abs(self.errors[group]).mean())


def _gemm(groups: int, rows: float, inner: int, outer: int, dtype: Dtype) -> Operator:
    return grouped_gemm("gemm", np.full(groups, rows), inner, outer, Precision(dtype, dtype), "prefill")


def deepgemm_samples(reference: Sequence[Row]) -> Iterator[Sample]:
    """Yield DeepGEMM's table on H800: dense and grouped FP8, time from the printed TFLOP/s."""
    shape = re.compile(r"(?:groups=(\d+) M/group|M)=(\d+) N=(\d+) K=(\d+)")
    for row in reference:
        match = shape.match(row["shape_or_setting"])
        if row["chip"] == "H800 SXM5" and row["operator"].startswith("DeepGEMM") and match:
            groups, rows, outer, inner = (int(value or 1) for value in match.groups())
            op = replace(_gemm(groups, rows, inner, outer, "fp8"), kind="grouped_gemm" if match[1] else "gemm")
            measured_s = float(np.sum(op.flop)) / (float(row["achieved"]) * 1e12)
            yield kernel_sample(op, "h800", "fp8", measured_s, row["shape_or_setting"])


def infersim_gemm_samples(measured: Sequence[Row]) -> Iterator[Sample]:
    """Yield InferSim's grouped GEMMs on H800, gate-up and down apart.

    The rows of each expert were drawn at random; how many there really were follows from the printed utilisation.
    """
    text = re.compile(r"up ([\d.]+) us \(MFU ([\d.]+)\), down ([\d.]+) us \(MFU ([\d.]+)\); (\d+) local experts")
    peak = accelerator("h800").peak_flop_per_s("fp8") or 0.0
    for row in measured:
        match = text.search(row["notes"])
        if row["id"].startswith("infersim-gg-h800") and match:
            experts = int(match[5])
            for part, inner, outer in ((1, 7168, 4096), (3, 2048, 7168)):
                measured_s = float(match[part]) * 1e-6
                rows = float(match[part + 1]) * peak * measured_s / (2.0 * experts * inner * outer)
                op = _gemm(experts, rows, inner, outer, "fp8")
                yield kernel_sample(op, "h800", "fp8", measured_s, f"{row['id']} K={inner}")


def sglang_expert_samples(imbalance: Sequence[Row]) -> Iterator[Sample]:
    """Yield the experts of DeepSeek-V3 in SGLang's decode on H200, balanced routing, the mean of their two GEMMs.

    Up to 64 rows per expert: beyond, tiles fill up and the time hardly grows. The activation between the GEMMs is taken
    off at the constants of elementwise work.
    """
    text = re.compile(r"aic-h200-moe-generation-ep(\d+)-t(\d+)-uniform$")
    model, precision = load_model("deepseek-v3"), Precision("fp8", "fp8")
    for row in imbalance:
        match = text.match(row["id"])
        if not match or int(match[2]) * 8 / 256 > 64:
            continue
        rows = np.full(256 // int(match[1]), int(match[2]) * 8 / 256)
        ops = expert_operators(model, rows, "decode", precision)
        times = operator_time(ops, accelerator("h200"), chip_calibration("h800")).total_s
        gemms = np.array([kind == "grouped_gemm" for kind in ops.classes])
        measured_s = float(row["value_norm"]) * 1e-6 - float(times[~gemms].sum())
        mean = [float(values[gemms].mean()) for values in (ops.flop, ops.weight_bytes, ops.activation_bytes)]
        op = Operator("experts", "grouped_gemm", "fp8", mean[0], mean[1], mean[2], 0.0)
        yield kernel_sample(op, "h200", "fp8", measured_s / gemms.sum(), row["id"])


def mla_samples(measured: Sequence[Row]) -> Iterator[Sample]:
    """Yield InferSim's MLA kernels on H800: decode by batch and KV length, prefill by prompt (batch 1)."""
    model = load_model("deepseek-v3")
    for row in measured:
        match = re.match(r"infersim-mla-h800-(?:dec-b(\d+)-kv|pre-)(\d+)$", row["id"])
        if match:
            batch, length = int(match[1] or 1), int(match[2])
            phase: Phase = "decode" if match[1] else "prefill"
            op = attention_core(model, batch if match[1] else length, length, batch, phase)
            yield kernel_sample(op, "h800", "bf16", float(row["value"]) * 1e-6, row["id"])


def backward_samples(measured: Sequence[Row]) -> Iterator[Sample]:
    """Yield the attention backward kernel of DeepSeek's training trace, rid of what other kernels cost it.

    In the trace communication kernels hold part of the cores. The forward kernel of the same trace, against the same
    shape measured alone, says how much that costs; the backward is shortened by that factor.
    """
    op = attention_core(load_model("deepseek-v3"), 4096, 4096, 1, "training_backward")
    measured_us = next(float(row["value"]) for row in measured if row["id"] == "ds-train-k-fa-bwd")
    measured_s = measured_us * 1e-6 / _contention(measured)
    yield kernel_sample(op, "h800", "bf16", measured_s, "ds-train-k-fa-bwd")


def elementwise_samples(measured: Sequence[Row], training: Sequence[Row]) -> Iterator[Sample]:
    """Yield what DeepSeek's training trace leaves for everything but FP8 GEMMs and attention.

    One forward and backward of four MoE layers, 4,096 tokens, EP64, balanced: compute stream busy less the FP8 GEMM
    and attention kernels, shortened by the contention that the attention forward shows. Recomputation and unfused
    passes are in it, so the fitted rate is low.
    """
    model, fp8 = load_model("deepseek-v3"), Precision("fp8", "fp8")
    rows = np.full(4, 4096.0 * 64 * 8 / 256)
    parts = [
        ops
        for phase in ("training_forward", "training_backward")
        for ops in (
            attention_operators(model, 4096, 4096, 1, phase, fp8),
            router_operators(model, 4096, phase),
            shared_expert_operators(model, 4096, phase, fp8),
            expert_operators(model, rows, phase, fp8),
        )
        if ops
    ]
    ops = join(*parts)
    chosen = np.array([kind == "elementwise_bulk" for kind in ops.classes])
    traffic = 4.0 * float(ops.bytes[chosen].sum())
    seconds = {row["id"]: float(row["value_norm"] or "nan") for row in training if row["task"] == "kernel"}
    left = seconds["dsv3-profile-compute_stream_busy"]
    left -= sum(seconds[f"dsv3-profile-{part}"] for part in ("grouped_gemm", "attention_fwd", "attention_bwd"))
    memory_s = traffic / accelerator("h800").memory.bandwidth_bytes_per_s
    yield Sample("elementwise_bulk", "dsv3-profile", 0.0, memory_s, left / _contention(measured))


def _contention(measured: Sequence[Row]) -> float:
    """Return how much longer attention forward takes in the training trace than alone."""
    value = {row["id"]: float(row["value"] or "nan") for row in measured if row["unit"] == "us"}
    return value["ds-train-k-fa-fwd"] / value["infersim-mla-h800-pre-4096"]


def cann_gemm_samples(reference: Sequence[Row]) -> Iterator[Sample]:
    """Yield the CANN INT8 grouped GEMMs on one 910C die, time from the printed utilisation."""
    shape = re.compile(r"groups=(\d+) M=(\d+) N=(\d+) K=(\d+)")
    for row in reference:
        match = shape.match(row["shape_or_setting"])
        if row["operator"].startswith("CANN INT8 GEMM") and match:
            groups, rows, outer, inner = (int(value) for value in match.groups())
            op = _gemm(groups, rows, inner, outer, "int8")
            alone = kernel_sample(op, "ascend-910c", "int8", 1.0, row["shape_or_setting"])
            measured_s = alone.compute_s / float(row["fraction_of_peak"])
            yield Sample(alone.group, alone.label, alone.compute_s, alone.memory_s, measured_s)


def fit(samples: Sequence[Sample], free: Mapping[str, Sequence[OperatorClass]], fixed: Mapping[str, float]) -> Fit:
    """Least squares on the logarithm of predicted over measured time.

    Parameters
    ----------
    samples
        Rows of all groups fitted together.
    free
        For each constant to fit, the groups that have their own value; an empty sequence: one value for all.
    fixed
        Constants that are known.
    """
    groups = sorted({sample.group for sample in samples})
    index = np.array([groups.index(sample.group) for sample in samples])
    compute_s, memory_s, measured_s = (
        np.array([getattr(sample, name) for sample in samples]) for name in ("compute_s", "memory_s", "measured_s")
    )
    # Each free number, with the groups it holds for.
    slots = [(name, owners) for name, own in free.items() for owners in ([[group] for group in own] or [groups])]

    def constants(values: Array) -> dict[OperatorClass, dict[str, float]]:
        table = {group: dict(fixed) for group in groups}
        for (name, owners), value in zip(slots, values, strict=True):
            for group in owners:
                table[group][name] = float(value)
        return table

    def log_error(values: Array) -> Array:
        table = constants(values)
        c, m, p, launch = (np.array([table[group][name] for group in groups])[index] for name in NAMES)
        joint = np.add(*overlapped_s(compute_s / c, memory_s / m, p))
        return np.asarray(np.log((joint + launch * 1e-6) / measured_s))

    start, low, high = (np.array([_RANGE[name][column] for name, _ in slots]) for column in range(3))
    found = least_squares(log_error, start, bounds=(low, high)).x
    table = constants(found)
    errors = np.expm1(log_error(found))
    for entry in table.values():
        entry["launch_s"] *= 1e-6
    return Fit(table, {group: errors[index == number] for number, group in enumerate(groups)})


def fit_all(measured_dir: Path, reference_dir: Path) -> dict[tuple[str, str], Fit]:
    """Return every fit, by chip and number format.

    Parameters
    ----------
    measured_dir, reference_dir
        Folders that hold `inference.csv`, `imbalance.csv` and `training.csv`, and `achieved_efficiency.csv`.
    """
    measured, reference = _rows(measured_dir / "inference.csv"), _rows(reference_dir / "achieved_efficiency.csv")
    h800_gemm = [*deepgemm_samples(reference), *infersim_gemm_samples(measured)]
    mla = list(mla_samples(measured))
    classes: tuple[OperatorClass, ...] = ("gemm", "grouped_gemm")
    decode = [sample for sample in mla if sample.group == "attention_decode"]
    decode_fixed = {"compute_efficiency": H800_MLA_COMPUTE, "memory_efficiency": H800_STREAM}
    decode_fit = fit(decode, {"overlap_exponent": (), "launch_s": ()}, decode_fixed)
    known = {
        "memory_efficiency": H800_STREAM,
        "overlap_exponent": decode_fit.constants["attention_decode"]["overlap_exponent"],
    }
    prefill = [sample for sample in mla if sample.group == "attention_prefill"]
    prefill_fit = fit(prefill, {"compute_efficiency": (), "launch_s": ()}, known)
    launch_us = prefill_fit.constants["attention_prefill"]["launch_s"] * 1e6
    backward = fit(list(backward_samples(measured)), {"compute_efficiency": ()}, {**known, "launch_s": launch_us})
    training = _rows(measured_dir / "training.csv")
    streams = {"compute_efficiency": 1.0, "overlap_exponent": 1.0, "launch_s": 0.0}
    vector = fit(list(elementwise_samples(measured, training)), {"memory_efficiency": ()}, streams)
    gemm_free = {"compute_efficiency": classes, "overlap_exponent": (), "launch_s": classes}
    b200 = list(training_samples("b200"))
    b200_gemm = fit([each for each in b200 if each.group in classes], gemm_free, {"memory_efficiency": H800_STREAM})
    attention_free: dict[str, tuple[OperatorClass, ...]] = {"compute_efficiency": (), "launch_s": ()}
    b200_attention = [
        fit([each for each in b200 if each.group == group], attention_free, known)
        for group in ("attention_prefill", "attention_backward")
    ]
    cann_fixed = {"memory_efficiency": MLA_910C_STREAM, "launch_s": 0.0}  # milliseconds long: launch can't be seen
    h800_fit = fit(h800_gemm, gemm_free, {"memory_efficiency": H800_STREAM})
    h200_experts = list(sglang_expert_samples(_rows(measured_dir / "imbalance.csv")))
    h200_fixed = {name: h800_fit.constants["grouped_gemm"][name] for name in ("compute_efficiency", "overlap_exponent")}
    return {
        ("h800", "fp8"): h800_fit,
        ("h200", "fp8"): fit(h200_experts, {"memory_efficiency": (), "launch_s": ()}, h200_fixed),
        ("h800", "bf16"): _together(decode_fit, prefill_fit, backward, vector),
        ("b200", "bf16"): _together(b200_gemm, *b200_attention),
        ("ascend-910c", "int8"): fit(
            list(cann_gemm_samples(reference)), {"compute_efficiency": (), "overlap_exponent": ()}, cann_fixed
        ),
    }


def _together(*fits: Fit) -> Fit:
    constants = {group: entry for part in fits for group, entry in part.constants.items()}
    return Fit(constants, {group: errors for part in fits for group, errors in part.errors.items()})


def _rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> None:
    """Print each fit as `fitted (shipped)`, with the number of rows and the mean absolute error."""
    for (chip, dtype), found in fit_all(Path(arguments[0]), Path(arguments[1])).items():
        shipped = chip_calibration(chip)
        for group, entry in found.constants.items():
            ours = shipped.constants[group][dtype]
            values = ", ".join(f"{name} {entry[name]:.4g} ({getattr(ours, name):.4g})" for name in NAMES)
            errors = found.errors[group]
            say(f"{chip} {group} {dtype}: {values}; {len(errors)} rows, error {found.mean_abs_error(group):.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
