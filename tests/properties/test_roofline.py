"""Laws that hold for every shape: bounds, monotony, conservation."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.calibration import chip_calibration
from simulator.calibration.chips import overlapped_s
from simulator.cost.roofline import operator_time
from topologies.catalogue import accelerator
from workloads.models.specs import Attention, Experts, ModelSpec
from workloads.operators import (
    Operators,
    Phase,
    Precision,
    attention_operators,
    dense_ffn_operators,
    expert_operators,
    join,
)

MODEL = ModelSpec(
    id="small",
    name="small",
    layers=4,
    dense_layers=1,
    hidden=2048,
    vocab=1000,
    dense_ffn=8192,
    attention=Attention(
        kind="mla",
        heads=16,
        kv_heads=16,
        head_dim=192,
        v_dim=128,
        q_lora_rank=1024,
        kv_lora_rank=512,
        qk_nope_dim=128,
        qk_rope_dim=64,
    ),
    experts=Experts(routed_experts=64, top_k=6, expert_ffn=1408),
    source="test",
)
PHASES = st.sampled_from(get_args(Phase))
CHIPS = st.sampled_from(["h800", "ascend-910c", "ascend-910b2", "a100-80", "b200", "mi300x"])
SLOTS = st.lists(st.integers(0, 5000), min_size=1, max_size=8)
TIMES = st.floats(0, 1e3)


def operators(tokens: int, slots: list[int], phase: Phase) -> Operators:
    precision = Precision()
    sequences = tokens if phase == "decode" else 1
    context = 4096 if phase == "decode" else tokens
    return join(
        attention_operators(MODEL, tokens, context, sequences, phase, precision),
        dense_ffn_operators(MODEL, tokens, phase, precision),
        expert_operators(MODEL, np.array(slots, dtype=float), phase, precision),
    )


@given(CHIPS, PHASES, st.integers(1, 20000), SLOTS)
def test_never_faster_than_the_datasheet(name: str, phase: Phase, tokens: int, slots: list[int]) -> None:
    chip, ops = accelerator(name), operators(tokens, slots, phase)
    time = operator_time(ops, chip, chip_calibration(name))
    peak = chip.peak.bf16_flop_per_s / chip.ranks_per_chip
    bandwidth = chip.memory.bandwidth_bytes_per_s / chip.ranks_per_chip
    assert (time.total_s >= ops.flop / peak).all()
    assert (time.total_s >= ops.bytes / bandwidth).all()
    assert (time.compute_s >= 0).all()
    assert (time.memory_s >= 0).all()


@given(CHIPS, PHASES, st.integers(1, 20000), st.integers(1, 5000), SLOTS, st.integers(0, 7))
def test_more_tokens_are_never_faster(
    name: str, phase: Phase, tokens: int, more: int, slots: list[int], slot: int
) -> None:
    chip, constants = accelerator(name), chip_calibration(name)
    busier = [count + more * (index == slot % len(slots)) for index, count in enumerate(slots)]
    before, after = (operators(*shape, phase) for shape in ((tokens, slots), (tokens + more, busier)))
    slow, fast = (operator_time(ops, chip, constants).total_s for ops in (after, before))
    assert (slow >= fast * (1 - 1e-12)).all()


@given(SLOTS, st.permutations(range(8)))
def test_order_of_slots_does_not_matter(slots: list[int], order: list[int]) -> None:
    padded = slots + [0] * (8 - len(slots))
    one, other = (operators(8, counts, "decode") for counts in (padded, [padded[index] for index in order]))
    assert one.flop == pytest.approx(other.flop)
    assert one.bytes == pytest.approx(other.bytes)


@given(TIMES, TIMES, st.floats(1, 50))
def test_overlap_lies_between_the_longer_and_the_sum(compute_s: float, memory_s: float, exponent: float) -> None:
    compute, memory = overlapped_s(np.array(compute_s), np.array(memory_s), exponent)
    total = float(compute + memory)
    assert max(compute_s, memory_s) * (1 - 1e-12) <= total <= (compute_s + memory_s) * (1 + 1e-12)
    if compute_s > memory_s:
        assert compute >= memory
