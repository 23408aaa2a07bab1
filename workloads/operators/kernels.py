"""FLOPs and memory traffic of the kernels that layers are made of."""

from dataclasses import replace

import numpy as np

from workloads.operators.records import (
    ACTIVATION_BYTES,
    BF16,
    GRADIENT_BYTES,
    Amount,
    Array,
    Operator,
    OperatorClass,
    Phase,
    Precision,
)


def gemm(
    name: str, rows: Amount, inner: float, outer: float, precision: Precision, phase: Phase, count: float = 1.0
) -> Operator:
    """Multiply [rows, inner] by weights [inner, outer]; in the backward phase, both gradient GEMMs.

    Parameters
    ----------
    name
        Operator name.
    rows
        Tokens, scalar or shape [...].
    inner, outer
        Widths of the weight matrix.
    precision
        Number formats.
    phase
        `training_backward` counts input gradient and weight gradient: twice the FLOPs, two kernels.
    count
        Like matrices multiplied in one batched kernel (attention heads).

    Source: 2 M N K; backward dX = dY W^T and dW = X^T dY.
    """
    entries = _entries(rows, inner, outer, precision, phase)
    scale = count * (2.0 if phase == "training_backward" else 1.0)
    return Operator(
        name,
        "gemm",
        precision.gemm,
        scale * 2.0 * rows * inner * outer,
        count * inner * outer * _weight_traffic(precision, phase),
        count * entries,
        rows,
        launches=2.0 if phase == "training_backward" else 1.0,
    )


def grouped_gemm(
    name: str, rows_per_slot: Array, inner: float, outer: float, precision: Precision, phase: Phase
) -> Operator:
    """Multiply the tokens of each expert slot by that slot's weights; slots without tokens read no weights.

    Parameters
    ----------
    rows_per_slot
        Tokens of each slot on the rank, shape [..., slots].
    inner, outer
        Widths of one expert's matrix.
    """
    total = rows_per_slot.sum(axis=-1)
    used = np.count_nonzero(rows_per_slot, axis=-1).astype(np.float64)
    dense = gemm(name, total, inner, outer, precision, phase)
    return replace(
        dense,
        kind="grouped_gemm",
        weight_bytes=used * inner * outer * _weight_traffic(precision, phase),
        rows=total / np.maximum(used, 1.0),
    )


def elementwise(name: str, traffic_bytes: Amount, rows: Amount, phase: Phase, launches: float = 1.0) -> Operator:
    """Stream `traffic_bytes` through the vector units: arithmetic is free beside the traffic.

    Passes over thousands of tokens (training, prefill) have a class of their own: their traffic goes to memory and
    back between unfused kernels, whereas a decode step's few tokens stay in the cache.
    """
    kind: OperatorClass = "elementwise" if phase == "decode" else "elementwise_bulk"
    return Operator(name, kind, "bf16", 0.0 * rows, 0.0, traffic_bytes, rows, launches)


def norm(name: str, rows: Amount, width: float, phase: Phase) -> Operator:
    """Normalise with the residual addition fused in: four passes, forward (x, residual in and out) and backward."""
    return elementwise(name, 4.0 * ACTIVATION_BYTES * width * rows, rows, phase)


def activation(name: str, rows: Amount, width: float, gates: int, precision: Precision, phase: Phase) -> Operator:
    """Apply a (gated) activation, its output written in the format of the next GEMM.

    Backward reads the output gradient and the saved inputs, writes the input gradients and the output again for the
    weight gradient.
    """
    passes = 1.0 + 2.0 * gates if phase == "training_backward" else float(gates)
    traffic = rows * width * (passes * ACTIVATION_BYTES + precision.input_bytes)
    return elementwise(name, traffic, rows, phase)


def quantise(name: str, rows: Amount, inner: float, outer: float, precision: Precision, phase: Phase) -> list[Operator]:
    """Narrow the inputs of GEMMs whose input widths sum to `inner` and output widths to `outer`.

    Forward reads activations and writes the narrow input. Backward turns each saved input round for the weight
    gradient (read and write narrow) and narrows each output gradient along both axes. Nothing where GEMMs take BF16.

    Source: arXiv:2412.19437 section 3.5.2 (1 x 128 tiles, transposed to 128 x 1 for the backward pass).
    """
    if not precision.quantised:
        return []
    narrow = precision.input_bytes
    width = inner * (ACTIVATION_BYTES + narrow)
    if phase == "training_backward":
        width = inner * 2.0 * narrow + outer * (ACTIVATION_BYTES + 2.0 * narrow)
    return [elementwise(name, rows * width, rows, phase)]


def unquantised(precision: Precision) -> Precision:
    """Return the formats of layers that stay in BF16 in every recipe (router, LM head, MLA absorption)."""
    return replace(BF16, kv=precision.kv)


def _weight_traffic(precision: Precision, phase: Phase) -> float:
    return precision.weight_bytes + (GRADIENT_BYTES if phase == "training_backward" else 0.0)


def _entries(rows: Amount, inner: float, outer: float, precision: Precision, phase: Phase) -> Amount:
    """Bytes of activations in and out of one GEMM (backward: of its two gradient GEMMs)."""
    narrow = precision.input_bytes
    if phase == "training_backward":
        return rows * (inner * (narrow + ACTIVATION_BYTES) + 2.0 * outer * narrow)
    return rows * (inner * narrow + outer * ACTIVATION_BYTES)
