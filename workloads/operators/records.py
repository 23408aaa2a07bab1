"""One operator, and many operators as a structure of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

OperatorClass = Literal[
    "gemm",
    "grouped_gemm",
    "attention_prefill",
    "attention_decode",
    "attention_backward",
    "elementwise",
    "elementwise_bulk",
]
Phase = Literal["training_forward", "training_backward", "prefill", "decode"]
DtypeName = Literal["fp16", "bf16", "fp8", "int8", "fp4", "int4"]
Array = NDArray[np.float64]
Amount = float | Array

# Stored bytes per value. The four-bit formats carry one scale per 16 (NVFP4, one byte) or 128 values (INT4, two
# bytes); the scales of the eight-bit formats (one per 128 x 128 block, or per channel) are below 0.1 %.
BYTES = {"fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5 + 1 / 16, "int4": 0.5 + 2 / 128}
ACTIVATION_BYTES = 2.0  # BF16 or FP16 between operators
# Weight gradients are accumulated in FP32 over micro-batches: one read and one write for each parameter.
GRADIENT_BYTES = 8.0


@dataclass(frozen=True)
class Precision:
    """Number formats: GEMM arithmetic (and its inputs), stored weights, KV cache, attention core.

    Source: the split that DeepSeek-V3 (arXiv:2412.19437 section 3.3.2) and CloudMatrix-Infer (arXiv:2506.12708
    section 4.5) use: eight-bit linear layers; router, attention core, LM head in BF16.
    """

    gemm: DtypeName = "bf16"
    weights: DtypeName = "bf16"
    kv: DtypeName = "bf16"
    attention: DtypeName = "bf16"

    @property
    def weight_bytes(self) -> float:
        """Bytes of one stored weight."""
        return BYTES[self.weights]

    @property
    def input_bytes(self) -> float:
        """Bytes of one GEMM input value."""
        return BYTES[self.gemm]

    @property
    def quantised(self) -> bool:
        """Whether GEMM inputs are narrower than the activations between operators."""
        return self.input_bytes < ACTIVATION_BYTES


BF16 = Precision()


@dataclass(frozen=True)
class Operator:
    """One operator on one rank; amounts are scalars or arrays over the same leading (batch) axes."""

    name: str
    kind: OperatorClass
    dtype: DtypeName
    flop: Amount
    weight_bytes: Amount
    activation_bytes: Amount
    rows: Amount
    launches: float = 1.0


@dataclass(frozen=True)
class Operators:
    """Operators of one rank as arrays, the last axis over operators.

    `flop` [FLOP], `weight_bytes` and `activation_bytes` [bytes of device-memory traffic; KV cache counts as
    activation], `rows` (tokens that share one read of the weights: M of a GEMM), `launches` (kernels).
    Leading axes are whatever the caller batches over: micro-batches, layers, ranks.
    """

    names: tuple[str, ...]
    classes: tuple[OperatorClass, ...]
    dtypes: tuple[DtypeName, ...]
    flop: Array
    weight_bytes: Array
    activation_bytes: Array
    rows: Array
    launches: Array

    @property
    def bytes(self) -> Array:
        """Device-memory traffic, shape [..., operator] [bytes]."""
        return self.weight_bytes + self.activation_bytes


def stack(operators: Sequence[Operator]) -> Operators:
    """Turn operators into arrays, broadcasting their batch axes against each other.

    Parameters
    ----------
    operators
        Each amount a scalar or an array of shape [...].
    """

    def field(values: list[Amount]) -> Array:
        return np.stack(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)), axis=-1)

    flop = field([operator.flop for operator in operators])
    shape = flop.shape
    rest = (
        np.broadcast_to(field([getattr(operator, name) for operator in operators]), shape)
        for name in ("weight_bytes", "activation_bytes", "rows", "launches")
    )
    return Operators(
        tuple(operator.name for operator in operators),
        tuple(operator.kind for operator in operators),
        tuple(operator.dtype for operator in operators),
        flop,
        *rest,
    )


def join(*parts: Operators) -> Operators:
    """Concatenate along the operator axis, broadcasting the batch axes."""
    shape = np.broadcast_shapes(*(part.flop.shape[:-1] for part in parts))

    def field(name: str) -> Array:
        arrays = (getattr(part, name) for part in parts)
        return np.concatenate([np.broadcast_to(array, (*shape, array.shape[-1])) for array in arrays], axis=-1)

    return Operators(
        tuple(name for part in parts for name in part.names),
        tuple(kind for part in parts for kind in part.classes),
        tuple(dtype for part in parts for dtype in part.dtypes),
        *(field(name) for name in ("flop", "weight_bytes", "activation_bytes", "rows", "launches")),
    )


def check_shares(tp: int, **widths: int) -> None:
    """Refuse a tensor-parallel degree that does not divide the given widths."""
    problems = [
        f"tensor parallel {tp}: {name} {width}: not divisible; choose a divisor of {width}"
        for name, width in widths.items()
        if tp < 1 or width % tp
    ]
    if problems:
        raise WorkloadError(*problems)
