"""Operator times: bounds, attribution, published operating points."""

import numpy as np
import pytest

from simulator.calibration import ChipCalibration, chip_calibration
from simulator.calibration.chips import CLASSES, OperatorConstants, overlapped_s
from simulator.cost.roofline import operator_time
from simulator.errors import UserError
from topologies.specs import Accelerator, Memory, Peak
from workloads.operators import Operator, Precision, grouped_gemm, stack

H800 = Accelerator(
    id="h800",
    name="H800",
    vendor="NVIDIA",
    family="Hopper",
    peak=Peak(bf16_flop_per_s=989.4e12, fp8_flop_per_s=1978.9e12, source="test"),
    memory=Memory(capacity_bytes=80e9, bandwidth_bytes_per_s=3350e9, source="test"),
)
FP8 = Precision("fp8", "fp8")


def calibration(exponent: float, launch_s: float = 0.0) -> ChipCalibration:
    entry = OperatorConstants(
        compute_efficiency=0.5,
        memory_efficiency=0.8,
        overlap_exponent=exponent,
        launch_s=launch_s,
        kind="assumed",
        source="test",
    )
    return ChipCalibration(chip="test", constants={kind: {"bf16": entry} for kind in CLASSES})


def work(flop: float, traffic: float, launches: float = 1.0) -> Operator:
    return Operator("x", "gemm", "bf16", flop, traffic, 0.0, 1.0, launches)


def test_without_overlap_times_add_and_with_perfect_overlap_the_longer_wins() -> None:
    ops = stack([work(989.4e9, 3350e6)])  # 1 ms each at the datasheet rate: 2 ms and 1.25 ms
    assert operator_time(ops, H800, calibration(1)).total_s == pytest.approx([3.25e-3])
    assert operator_time(ops, H800, calibration(50)).total_s == pytest.approx([2e-3])


def test_parts_sum_and_launches_count() -> None:
    ops = stack([work(1e12, 1e9, 3), work(0, 1e9), work(1e12, 0), work(0, 0)])
    time = operator_time(ops, H800, calibration(1.4, 5e-6))
    assert time.overhead_s == pytest.approx([15e-6, 5e-6, 5e-6, 5e-6])
    assert time.compute_s[1] == time.memory_s[2] == time.compute_s[3] == time.memory_s[3] == 0
    assert time.total_s == pytest.approx(time.compute_s + time.memory_s + time.overhead_s)
    assert time.summed().total_s == pytest.approx(time.total_s.sum())


def test_shares_follow_the_powers() -> None:
    compute, memory = overlapped_s(np.array([3.0, 1.0]), np.array([1.0, 3.0]), 2.0)
    assert compute + memory == pytest.approx(np.sqrt([10.0, 10.0]))
    assert compute == pytest.approx(np.sqrt(10) * np.array([0.9, 0.1]))


def test_a_rank_of_a_two_die_package_has_half_of_it() -> None:
    package = H800.model_copy(update={"ranks_per_chip": 2})
    ops = stack([work(1e12, 1e9)])
    whole, half = (operator_time(ops, chip, calibration(1.4)).total_s for chip in (H800, package))
    assert half == pytest.approx(2 * whole)


def test_cores_taken_by_communication_slow_compute_only() -> None:
    ops = stack([work(1e12, 0), work(0, 1e9)])
    time = operator_time(ops, H800, calibration(1.4), compute_share=0.5)
    assert time.total_s == pytest.approx(operator_time(ops, H800, calibration(1.4)).total_s * [2, 1])


def test_missing_format_is_refused_with_those_the_chip_has() -> None:
    chip = H800.model_copy(
        update={"id": "ascend-910b", "peak": Peak(bf16_flop_per_s=1e14, int8_flop_per_s=2e14, source="x")}
    )
    ops = stack([grouped_gemm("x", np.ones(2), 8, 8, FP8, "decode")])
    with pytest.raises(UserError, match=r"ascend-910b: fp8: .* use one of bf16, int8"):
        operator_time(ops, chip, calibration(1.4))


@pytest.mark.parametrize(
    ("groups", "rows", "inner", "outer", "measured_us"),
    [
        (4, 8192, 7168, 4096, 1409.0),  # prefill, compute bound
        (32, 16, 7168, 4096, 325.2),  # decode, weight bound
        (4, 121.5, 7168, 4096, 63.2),  # between the two
        (8, 60.6, 7168, 4096, 102.3),
    ],
)
def test_published_grouped_gemm_points(groups: int, rows: float, inner: int, outer: int, measured_us: float) -> None:
    """alibaba/InferSim bench_data grouped_gemm, H800; the class's mean error is 6 %."""
    ops = stack([grouped_gemm("x", np.full(groups, rows), inner, outer, FP8, "decode")])
    time = operator_time(ops, H800, chip_calibration("h800"))
    assert time.total_s[0] * 1e6 == pytest.approx(measured_us, rel=0.08)
