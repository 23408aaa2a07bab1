"""FLOPs, memory traffic and kernel count of every operator of a model on one rank, as arrays."""

from workloads.operators.attention import attention_core, attention_operators
from workloads.operators.ends import embedding_operators, head_operators, mtp_projection_operators
from workloads.operators.feedforward import (
    dense_ffn_operators,
    expert_operators,
    router_operators,
    shared_expert_operators,
)
from workloads.operators.kernels import elementwise, gemm, grouped_gemm
from workloads.operators.layer_kinds import query_key_pairs
from workloads.operators.records import (
    BF16,
    BYTES,
    DtypeName,
    Operator,
    OperatorClass,
    Operators,
    Phase,
    Precision,
    join,
    stack,
)
from workloads.operators.totals import kv_bytes_per_sequence, kv_bytes_per_token, model_flop_per_token
from workloads.operators.unfused import SCORE_BYTES, unfused_core

__all__ = [
    "SCORE_BYTES",
    "unfused_core",
    "BF16",
    "BYTES",
    "DtypeName",
    "Operator",
    "OperatorClass",
    "Operators",
    "Phase",
    "Precision",
    "attention_core",
    "attention_operators",
    "dense_ffn_operators",
    "elementwise",
    "embedding_operators",
    "expert_operators",
    "gemm",
    "grouped_gemm",
    "head_operators",
    "join",
    "kv_bytes_per_sequence",
    "kv_bytes_per_token",
    "model_flop_per_token",
    "mtp_projection_operators",
    "query_key_pairs",
    "router_operators",
    "shared_expert_operators",
    "stack",
]
