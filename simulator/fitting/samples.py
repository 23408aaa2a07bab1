"""A measured kernel beside what the datasheet's rates alone would take."""

from dataclasses import dataclass

import numpy as np

from topologies.catalogue import accelerator
from topologies.specs import Dtype
from workloads.operators import Operator, OperatorClass


@dataclass(frozen=True)
class Sample:
    """One measured kernel: time alone at the datasheet's compute and memory rate, and measured time [s]."""

    group: OperatorClass
    label: str
    compute_s: float
    memory_s: float
    measured_s: float


def kernel_sample(op: Operator, chip: str, dtype: Dtype, measured_s: float, label: str = "") -> Sample:
    """Return the sample of an operator measured on one rank of a chip."""
    part = accelerator(chip)
    peak = (part.peak_flop_per_s(dtype) or 0.0) / part.ranks_per_chip
    rate = part.memory.bandwidth_bytes_per_s / part.ranks_per_chip
    traffic = np.sum(op.weight_bytes + op.activation_bytes)
    return Sample(op.kind, label or op.name, float(np.sum(op.flop)) / peak, float(traffic) / rate, measured_s)
