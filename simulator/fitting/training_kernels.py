"""Kernels of a training step measured alone: `training_kernels.csv`, the fractions of the peak that they reached.

Each row is a GEMM of a layer (tokens by inner width by outer width, per group), or a causal attention core of a model's
heads split over `tp` ranks, in BF16, forward and backward apart; weight gradients are accumulated in FP32.

Source: MooreThreads/SimuMax:configs/system/b200_bf16_ceperm.json at commit e691807 (8 x B200, Transformer Engine).
Attention there counts the whole square of scores, 2 and 5 products a pair
(simu_tools/efficency_test/test_fa_efficiency.py), twice what a causal kernel computes.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from importlib.resources import files

import numpy as np

from simulator.fitting.samples import Sample, kernel_sample
from topologies.catalogue import accelerator
from workloads.models import load_model
from workloads.operators import Operator, Phase, attention_core, grouped_gemm
from workloads.operators.kernels import gemm
from workloads.operators.records import BF16

Row = Mapping[str, str]


def training_samples(chip: str) -> Iterator[Sample]:
    """Yield a chip's measured kernels: of each GEMM the forward, and both gradients together as they are priced."""
    text = files("simulator.fitting").joinpath("training_kernels.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(io.StringIO(text)):
        if row["chip"] == chip:
            yield from _attention(row) if row["op"] == "attention" else _gemms(row)


def _gemms(row: Row) -> Iterator[Sample]:
    flop = 2.0 * float(row["groups"]) * float(row["tokens"]) * float(row["inner"]) * float(row["outer"])
    peak = accelerator(row["chip"]).peak.bf16_flop_per_s
    fractions: dict[Phase, tuple[str, ...]] = {
        "training_forward": ("forward",),
        "training_backward": ("backward_input", "backward_weight"),
    }
    for phase, columns in fractions.items():
        measured_s = sum(flop / (peak * float(row[column])) for column in columns)
        yield kernel_sample(_gemm(row, phase), row["chip"], "bf16", measured_s)


def _gemm(row: Row, phase: Phase) -> Operator:
    tokens, inner, outer = (float(row[name]) for name in ("tokens", "inner", "outer"))
    if row["op"] == "gemm":
        return gemm("gemm", tokens, inner, outer, BF16, phase)
    return grouped_gemm("gemm", np.full(int(row["groups"]), tokens), inner, outer, BF16, phase)


def _attention(row: Row) -> Iterator[Sample]:
    model, tokens, tp = load_model(row["model"]), float(row["tokens"]), int(row["tp"])
    widths = model.attention.head_dim + model.attention.v_dim
    square = tokens**2 * model.attention.heads / tp * widths
    peak = accelerator(row["chip"]).peak.bf16_flop_per_s
    phases: dict[Phase, tuple[float, str]] = {
        "training_forward": (2.0, "forward"),
        "training_backward": (5.0, "backward_input"),
    }
    for phase, (products, column) in phases.items():
        measured_s = products * square / (peak * float(row[column]))
        yield kernel_sample(attention_core(model, tokens, tokens, 1, phase, tp=tp), row["chip"], "bf16", measured_s)
