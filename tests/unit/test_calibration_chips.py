"""Calibration files are complete, sourced, and rebuilt by the fit."""

from importlib.resources import files
from pathlib import Path

import pytest

from simulator.calibration import chip_calibration
from simulator.calibration.chips import CLASSES
from simulator.errors import UserError
from simulator.fitting.chips import Fit, fit, fit_all, main
from simulator.fitting.samples import Sample
from simulator.fitting.training_kernels import training_samples
from topologies.catalogue import accelerators
from workloads.operators import OperatorClass

SHARED = Path(__file__).parents[3] / "shared"
CHIPS = sorted(path.name.removesuffix(".toml") for path in files("simulator.calibration").joinpath("chips").iterdir())
# Mean absolute error of each fit, as reached; a change of the model form or of the data shows here.
RESIDUALS: dict[tuple[str, str, OperatorClass], float] = {
    ("h800", "fp8", "gemm"): 0.093,
    ("h800", "fp8", "grouped_gemm"): 0.064,
    ("h800", "bf16", "attention_decode"): 0.034,
    ("h800", "bf16", "attention_prefill"): 0.026,
    ("b200", "bf16", "gemm"): 0.12,
    ("b200", "bf16", "grouped_gemm"): 0.072,
    ("b200", "bf16", "attention_prefill"): 0.119,
    ("b200", "bf16", "attention_backward"): 0.125,
    ("ascend-910c", "int8", "grouped_gemm"): 0.006,
}


@pytest.mark.parametrize("chip", CHIPS)
def test_calibration_is_complete_and_sourced(chip: str) -> None:
    calibration = chip_calibration(chip)
    for kind in CLASSES:
        for dtype in ("fp16", "bf16", "fp8", "int8", "fp4", "int4"):
            entry = calibration.of(kind, dtype)
            assert entry.source
            assert entry.kind == "assumed" or entry.rows
            # One measured row leaves no residual; more must state it.
            assert entry.kind != "fitted" or entry.mean_abs_error is not None or "no residual" in entry.source
    assert all(what.startswith(chip) and source for what, _, source in calibration.sources)


def test_every_chip_of_the_catalogue_is_calibrated() -> None:
    assert {chip.id for chip in accelerators()} <= set(CHIPS)


def test_few_constants() -> None:
    """Distinct numbers in the file with the most fits."""
    entries = [entry for formats in chip_calibration("h800").constants.values() for entry in formats.values()]
    names = ("compute_efficiency", "memory_efficiency", "overlap_exponent", "launch_s")
    assert len({getattr(entry, name) for entry in entries for name in names} - {1.0}) <= 15


def test_inherited_constants_are_assumptions() -> None:
    lent, own = (chip_calibration(chip).of("grouped_gemm", "fp8") for chip in ("h100", "h800"))
    assert (lent.kind, own.kind) == ("assumed", "fitted")
    assert lent.compute_efficiency == own.compute_efficiency
    assert lent.source.startswith("as h800: ")
    assert own.source in lent.source


def test_own_figures_come_before_inherited_formats() -> None:
    a100 = chip_calibration("a100-80")
    assert a100.of("gemm", "int8").compute_efficiency == a100.of("gemm", "bf16").compute_efficiency
    assert "no figure for int8, as bf16" in a100.of("gemm", "int8").source


def test_sources_of_a_run_name_what_it_used() -> None:
    used = chip_calibration("b200").sources_of([("gemm", "fp4"), ("gemm", "fp4"), ("attention_prefill", "bf16")])
    assert [(what, kind) for what, kind, _ in used] == [
        ("b200: attention prefill bf16", "fitted"),
        ("b200: gemm fp4", "assumed"),
    ]


def test_unknown_chip_is_refused() -> None:
    with pytest.raises(UserError, match=r"h80: no calibration \(did you mean 'h800'\?\)"):
        chip_calibration("h80")


def test_fit_recovers_the_constants_of_made_up_kernels() -> None:
    def kernel(compute_s: float, memory_s: float) -> Sample:
        joint = ((compute_s / 0.6) ** 2 + (memory_s / 0.9) ** 2) ** 0.5
        return Sample("gemm", "made up", compute_s, memory_s, joint + 4e-6)

    samples = [kernel(a * 1e-6, b * 1e-6) for a in (1, 10, 100, 1000) for b in (1, 10, 100, 1000)]
    free = dict.fromkeys(("compute_efficiency", "memory_efficiency", "overlap_exponent", "launch_s"), ())
    found = fit(samples, free, {}).constants["gemm"]
    assert found == pytest.approx(
        {"compute_efficiency": 0.6, "memory_efficiency": 0.9, "overlap_exponent": 2.0, "launch_s": 4e-6}, rel=1e-4
    )


@pytest.fixture(scope="module")
def fits() -> dict[tuple[str, str], Fit]:
    if not (SHARED / "measured" / "inference.csv").exists():
        pytest.skip("the published measurements (../shared/measured) are absent")
    return fit_all(SHARED / "measured", SHARED / "reference")


def test_shipped_constants_are_the_fitted_ones(fits: dict[tuple[str, str], Fit]) -> None:
    for (chip, dtype), found in fits.items():
        for group, constants in found.constants.items():
            shipped = chip_calibration(chip).of(group, dtype)
            names = [name for name in constants if name != "launch_s" or constants[name] > 0]
            for name in names:
                assert getattr(shipped, name) == pytest.approx(constants[name], rel=0.02), (chip, group, name)


def test_residuals(fits: dict[tuple[str, str], Fit]) -> None:
    for (chip, dtype, group), error in RESIDUALS.items():
        assert fits[chip, dtype].mean_abs_error(group) == pytest.approx(error, abs=0.001)
        assert chip_calibration(chip).of(group, dtype).mean_abs_error == error


def test_fit_prints_one_line_per_class(fits: dict[tuple[str, str], Fit]) -> None:
    lines: list[str] = []
    main([str(SHARED / "measured"), str(SHARED / "reference")], lines.append)
    assert len(lines) == sum(len(found.constants) for found in fits.values())
    assert any("66 rows, error 6.3%" in line for line in lines)


def test_training_kernels_are_read_by_the_conventions_of_their_source() -> None:
    samples = list(training_samples("b200"))
    forward = next(sample for sample in samples if sample.group == "gemm")
    assert forward.compute_s / forward.measured_s == pytest.approx(0.6452)
    causal = next(sample for sample in samples if sample.group == "attention_prefill")
    assert causal.compute_s / causal.measured_s == pytest.approx(0.8715 / 2, rel=1e-3)  # half of the square
