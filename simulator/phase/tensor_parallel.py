"""TP collectives of a block: before and after its matrices, or in chunks beside the GEMMs that need or make them."""

import numpy as np

from simulator.cost.collectives import Kind
from simulator.cost.roofline import operator_time
from simulator.phase.collectives import group_cost
from simulator.phase.machine import Machine
from simulator.plan import Layout
from simulator.program import Floats, part
from workloads.operators import Operators


def tensor_parallel_parts(
    machine: Machine, layout: Layout, size_bytes: float, beside: Operators | None = None
) -> Floats:
    """Return the TP collectives of one block: all-gather before and reduce-scatter after it (or one all-reduce).

    Parameters
    ----------
    size_bytes
        Activations of the TP group's tokens [bytes].
    beside
        Operators of the block whose first GEMM the gather, and whose last the reduce-scatter runs beside; None where
        they wait for each other.
    """
    groups = layout.tensor_groups()
    if beside is None or layout.tensor == 1:
        return part("tensor_parallel", group_cost(machine, groups, "all_reduce", size_bytes).time_s)
    gemms_s = operator_time(beside, machine.chip, machine.calibration).total_s
    gemms_s = gemms_s[np.array([kind == "gemm" for kind in beside.classes])]
    exposed_s = 0.0
    pairs: tuple[tuple[Kind, float], ...] = ("all_gather", gemms_s[0]), ("reduce_scatter", gemms_s[-1])
    for kind, gemm_s in pairs:
        whole_s, chunk_s = (
            group_cost(machine, groups, kind, size_bytes / chunks).time_s for chunks in (1, layout.tensor)
        )
        exposed_s += min(whole_s, chunked_s(layout.tensor, chunk_s, float(gemm_s)) - float(gemm_s))
    return part("tensor_parallel", exposed_s)


def chunked_s(chunks: int, chunk_s: float, gemm_s: float) -> float:
    """Return the time of a GEMM in equal chunks, each after its own chunk of a collective on a stream beside it [s].

    One chunk per rank, as rings pass them (Ascend's MC2 and Transformer Engine's user buffers).

    Parameters
    ----------
    chunk_s
        Collective of one chunk [s].
    gemm_s
        Whole GEMM [s].
    """
    return chunk_s + (chunks - 1) * max(chunk_s, gemm_s / chunks) + gemm_s / chunks
