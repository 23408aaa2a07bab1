"""Fabric calibrations are complete, sourced, and what the fit makes of the measurements."""

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.calibration.fabrics import PARTS, FabricCalibration, fabric_calibration
from simulator.cost.expert_parallel import Op, expert_paths
from simulator.errors import UserError
from simulator.fitting.fabrics.__main__ import COMMENT, main
from simulator.fitting.fabrics.assumed import ASSUMED
from simulator.fitting.fabrics.calibration_file import toml
from simulator.fitting.fabrics.constants import lookup
from simulator.fitting.fabrics.exchange_samples import ExchangeSample
from simulator.fitting.fabrics.fit import Fit, fit
from simulator.fitting.fabrics.rows import read_rows
from simulator.fitting.fabrics.series import Part, Series
from simulator.fitting.fabrics.shipped import SERIES, calibrations, fit_all, samples
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric, fabrics

SHARED = Path(__file__).parents[3] / "shared"
OPS: tuple[Op, ...] = ("dispatch", "combine")
FABRICS = [each.id for each in fabrics()]
needs_measurements = pytest.mark.skipif(
    not (SHARED / "measured" / "collectives.csv").exists(), reason="the measurements are not beside the checkout"
)
# Mean absolute error of each fit, as reached; a change of the cost functions or of the data shows here.
RESIDUALS: dict[tuple[str, Part], float] = {
    ("nvlink3", "collective"): 0.074,
    ("nvlink4", "collective"): 0.066,
    ("nvlink5", "collective"): 0.073,
    ("nvl72", "collective"): 0.05,
    ("ib-400g", "collective"): 0.042,
    ("hccs-a2", "collective"): 0.062,
    ("hccs-a2", "copies"): 0.016,
    ("ub1", "copies"): 0.033,
    ("roce-200g", "copies"): 0.022,
    ("roce-2x200g", "copies"): 0.035,
    ("nvlink4", "normal"): 0.038,
    ("nvlink5", "normal"): 0.048,
    ("nvl72", "normal"): 0.054,
    ("nvl72", "deepep"): 0.095,
    ("nvl72", "one-sided"): 0.046,
    ("ib-400g", "normal"): 0.03,
    ("ib-400g", "hybrid-ep"): 0.059,
    ("ub1", "normal"): 0.097,
    ("nvlink4", "low_latency"): 0.075,
    ("nvl72", "low_latency"): 0.079,
    ("ib-400g", "low_latency"): 0.032,
    ("ub1", "low_latency"): 0.031,
}


@cache
def fits() -> tuple[Fit, ...]:
    return tuple(fit_all(read_rows(SHARED / "measured", SHARED / "reference")))


@pytest.mark.parametrize("name", FABRICS)
def test_every_fabric_of_the_catalogue_is_calibrated_and_sourced(name: str) -> None:
    calibration = fabric_calibration(name)
    assert calibration.fabric == name
    for part in PARTS:
        entry = getattr(calibration, part)
        assert entry.source
        assert bool(entry.rows) == (entry.kind == "fitted")
        assert (entry.mean_abs_error is not None) == (entry.kind == "fitted")
        assert entry.kind != "assumed" or " as " in f" {entry.source} "


def test_each_part_is_described_once() -> None:
    described = [(entry.fabric, entry.part) for entry in SERIES] + [(entry.fabric, entry.part) for entry in ASSUMED]
    libraries = [(name, library) for name in FABRICS for library in fabric_calibration(name).libraries]
    assert sorted(described) == sorted([*((name, part) for name in FABRICS for part in PARTS), *libraries])


def test_unknown_fabric_is_refused_with_the_file_to_write() -> None:
    with pytest.raises(UserError, match=r"fabric token-ring: no calibration; add .*token-ring\.toml"):
        fabric_calibration("token-ring")


@pytest.mark.parametrize("name", FABRICS)
def test_written_files_read_back(name: str) -> None:
    record = fabric_calibration(name)
    assert FabricCalibration.model_validate(tomllib.loads(toml(record, COMMENT))) == record


def test_ascend_cores_that_compute_stay_free() -> None:
    for name in ("hccs-a2", "ub1", "ub2", "roce-200g", "roce-2x200g", "uboe-800g"):
        assert fabric_calibration(name).normal.cores == fabric_calibration(name).low_latency.cores == 0


def made_up(series: Series, truth: dict[str, Any]) -> list[ExchangeSample]:
    """Exact times of dispatches and combines over two sizes of group and three of batch."""
    spec = cluster("h800-cluster")
    names = (spec.scale_up.fabric, "ib-400g")
    points = []
    for ranks in (16, 64):
        net = network(spec, accelerator(spec.chip), {name: fabric(name) for name in names}, ranks)
        group = np.arange(ranks, dtype=np.int32)[None, :]
        for op in OPS:
            for tokens in (1.0, 64.0, 1024.0):
                known = lookup({(series.fabric, series.part): truth})
                paths = expert_paths(net, group, series.runs_as, known)
                point = ExchangeSample(op, paths, series.runs_as, None, None, op, 8 * tokens, 0.0, 7408.0, True, 1.0)
                exact_s = point.predict_s(known)
                points.append(replace(point, id=f"{op}-{ranks}-{tokens}", measured_s=exact_s))
    return points


def test_fit_recovers_constants_that_it_should() -> None:
    free = ("fraction", "dispatch_fixed_s", "combine_fixed_s", "doubling_s")
    series = Series("ib-400g", "low_latency", {}, free, "made up")
    truth = {"fraction": 0.83, "dispatch_fixed_s": 31e-6, "combine_fixed_s": 47e-6, "doubling_s": 2e-6}
    found = fit(series, made_up(series, truth | series.marks), {})
    assert {name: found.constants[name] for name in free} == pytest.approx(truth, rel=5e-3)
    assert found.mean_abs_error < 0.01


@needs_measurements
def test_shipped_constants_are_the_fit() -> None:
    for name, record in calibrations(fits()).items():
        found = fabric_calibration(name)
        assert found.libraries.keys() == record.libraries.keys()
        pairs = [(getattr(record, part), getattr(found, part)) for part in PARTS]
        for ours, shipped in [*pairs, *((record.libraries[key], found.libraries[key]) for key in found.libraries)]:
            numbers = {key: value for key, value in ours.model_dump().items() if isinstance(value, float)}
            assert {key: getattr(shipped, key) for key in numbers} == pytest.approx(numbers, rel=0.02, abs=1e-9)


@needs_measurements
def test_residuals_are_as_reached() -> None:
    errors = {(found.series.fabric, found.series.part): found.mean_abs_error for found in fits()}
    assert {key: errors[key] for key, most in RESIDUALS.items() if errors[key] > most} == {}
    assert max(errors.values()) < 0.1


@needs_measurements
@pytest.mark.parametrize("series", SERIES, ids=lambda series: f"{series.fabric}-{series.part}")
def test_every_pattern_matches_and_no_row_counts_twice(series: Series) -> None:
    rows = read_rows(SHARED / "measured", SHARED / "reference")
    for name, patterns in series.rows.items():
        for pattern in patterns:
            assert samples(Series(series.fabric, series.part, {name: (pattern,)}, (), ""), rows), pattern
    ids = [point.id for point in samples(series, rows)]
    assert len(ids) == len(set(ids))


@needs_measurements
def test_nodes_without_scale_up_links_are_predicted() -> None:
    """H20 cards that reach each other over their NICs alone took no part in the fit."""
    rows = read_rows(SHARED / "measured", SHARED / "reference")
    wanted = {"h20-cluster": ("deepep-pcie-h20-*",)}
    points = samples(Series("ib-400g", "normal", wanted, (), ""), rows)
    errors = [point.predict_s(fabric_calibration) / point.measured_s - 1 for point in points]
    assert len(errors) == 4
    assert float(np.mean(np.abs(errors))) < 0.05


@needs_measurements
def test_command_writes_every_file(tmp_path: Path) -> None:
    said: list[str] = []
    main([str(SHARED / "measured"), str(SHARED / "reference"), str(tmp_path)], said.append)
    assert len(said) == len(SERIES)
    assert sorted(path.stem for path in tmp_path.iterdir()) == FABRICS
