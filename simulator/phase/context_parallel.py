"""The exchange of keys and values among ranks that share a sequence, and what attention hides of it."""

import numpy as np

from simulator.cost.collectives import send_recv
from simulator.phase.collectives import group_cost
from simulator.phase.machine import Machine
from simulator.plan import Layout
from workloads.models.specs import ModelSpec

ELEMENT_BYTES = 2.0  # activations and their gradients travel in BF16


def context_parallel_s(
    model: ModelSpec, machine: Machine, layout: Layout, tokens: float, backward: bool, core_s: float
) -> float:
    """Return the exposed time of one attention block's exchange [s]; every CP group of the cluster exchanges at once.

    *ring*: each of CP - 1 steps passes the keys and values of one share on, and in the backward pass their gradients
    too, while attention works on the share that arrived before; what is longer sets the pace (arXiv:2310.01889
    section 3). *all-to-all*: queries, keys and values before attention and its output after it change from shares of
    the sequence to shares of the heads, with nothing to hide behind (arXiv:2309.14509 section 3).

    Parameters
    ----------
    tokens
        Tokens of a micro-batch on one rank.
    backward
        Whether gradients travel.
    core_s
        Time of the attention core on one rank [s].
    """
    groups, attention = layout.context_groups(), model.attention
    share = ELEMENT_BYTES * tokens / layout.tensor
    kv_heads = attention.heads if attention.kind == "mla" else max(attention.kv_heads, layout.tensor)
    keys_values = share * kv_heads * (attention.head_dim + attention.v_dim)
    if layout.context_exchange == "ring":
        source, target = groups.ravel(), np.roll(groups, -1, axis=1).ravel()
        size = keys_values * (2.0 if backward else 1.0)
        step = send_recv(machine.network, source, target, np.full(source.shape, size), machine.calibrations.fabric)
        return (layout.context - 1) * max(step.time_s - core_s / layout.context, 0.0)
    queries_outputs = share * attention.heads * (attention.head_dim + attention.v_dim)
    size = keys_values + queries_outputs
    both = group_cost(machine, groups, "all_to_all", size)
    return both.time_s + both.latency_s  # two exchanges carry these bytes
