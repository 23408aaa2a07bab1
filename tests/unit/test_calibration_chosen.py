"""Calibrations of the user's own measurements replace the shipped constants of a run."""

import json
from pathlib import Path

import pytest

from simulator.calibration.chips import chip_calibration
from simulator.calibration.chosen import SHIPPED, read_calibrations
from simulator.calibration.fabrics import fabric_calibration
from simulator.errors import UserError
from simulator.manifest import manifest_bytes
from simulator.run import run
from simulator.scenario_file import digest, load_scenario
from simulator.study.sweep import run_points

SLOW_NIC = """\
fabric = "ib-400g"

[low_latency]
fraction = 0.2
dispatch_fixed_s = 3e-05
combine_fixed_s = 3e-05
doubling_s = 0.0
copies = "expert"
kind = "fitted"
source = "ours"
"""
SLOW_GEMM = """\
chip = "h800"

[operators.gemm.fp8]
compute_efficiency = 0.1
memory_efficiency = 0.1
overlap_exponent = 1.0
launch_s = 1e-4
kind = "fitted"
source = "our kernels"
"""
PARALLEL = 2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "fabric.toml").write_text(SLOW_NIC)
    (tmp_path / "chip.toml").write_text(SLOW_GEMM)
    (tmp_path / "ours.toml").write_text('extends = "dsv3-decode-h800"\ncalibration = ["fabric.toml", "chip.toml"]\n')
    return tmp_path


def test_a_file_replaces_its_part_and_leaves_the_others(files: Path) -> None:
    found, shipped = read_calibrations([str(files / "fabric.toml")]).fabric("ib-400g"), fabric_calibration("ib-400g")
    assert found.low_latency.fraction == 0.2
    assert (found.collective, found.normal) == (shipped.collective, shipped.normal)
    assert read_calibrations([str(files / "fabric.toml")]).chip("h800") == chip_calibration("h800")


def test_a_chip_file_replaces_one_format_of_one_class(files: Path) -> None:
    found, shipped = read_calibrations([str(files / "chip.toml")]).chip("h800"), chip_calibration("h800")
    assert found.of("gemm", "fp8").launch_s == 1e-4
    assert found.of("grouped_gemm", "fp8") == shipped.of("grouped_gemm", "fp8")
    assert set(found.constants["gemm"]) == {*shipped.constants["gemm"], "fp8"}


def test_no_file_means_what_ships() -> None:
    assert read_calibrations([]) is SHIPPED


def test_a_scenario_names_files_beside_itself_and_its_result_cites_them(
    files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    asked = load_scenario(str(files / "ours.toml"))
    slow, fast = run(asked), run(load_scenario("dsv3-decode-h800"))
    assert slow.breakdown_s["dispatch"] > 2 * fast.breakdown_s["dispatch"]
    assert {source.source for source in slow.sources} >= {"ours", "our kernels"}
    assert str(files) not in manifest_bytes(asked, slow).decode()
    assert len(json.loads(manifest_bytes(asked, slow))["scenario"]["calibration"]) == 2


def test_the_digest_follows_the_content_not_the_path(files: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("fabric.toml", "chip.toml", "ours.toml"):
        (other / name).write_bytes((files / name).read_bytes())
    before = digest(load_scenario(str(files / "ours.toml")))
    assert digest(load_scenario(str(other / "ours.toml"))) == before
    (other / "fabric.toml").write_text(SLOW_NIC.replace("0.2", "0.25"))
    assert digest(load_scenario(str(other / "ours.toml"))) != before


def test_sweeps_read_the_files_in_every_process(files: Path) -> None:
    axes = [("workload.batch_per_rank", ["32", "64"])]
    serial, parallel = (list(run_points([str(files / "ours.toml")], [], axes, jobs)) for jobs in (1, PARALLEL))
    assert serial == parallel
    shipped = list(run_points(["dsv3-decode-h800"], [], axes, 1))
    assert all(ours["step_s"] > theirs["step_s"] for ours, theirs in zip(serial, shipped, strict=True))


def test_a_file_of_another_machine_is_named_in_a_warning(files: Path) -> None:
    scenario = load_scenario("dsv3-decode-cloudmatrix384", [f'calibration=["{files / "fabric.toml"}"]'])
    assert any("fabric.toml: is of ib-400g" in line for line in run(scenario).warnings)


def test_bad_files_are_named_all_at_once(tmp_path: Path) -> None:
    texts = {
        "twice": SLOW_NIC,
        "again": SLOW_NIC,
        "unknown": SLOW_NIC.replace("ib-400g", "ib-9000g"),
        "range": SLOW_NIC.replace("0.2", "2.0"),
        "key": SLOW_NIC + "fractoin = 1.0\n",
        "empty": 'fabric = "ib-400g"\n',
        "both": 'chip = "h800"\n' + SLOW_NIC,
        "broken": "fabric = \n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
    with pytest.raises(UserError) as raised:
        read_calibrations([str(tmp_path / f"{name}.toml") for name in (*texts, "absent")] + [str(tmp_path)])
    for start in (
        "again.toml: ib-400g low_latency: ",
        "fabric ib-9000g: no calibration",
        "range.toml: low_latency.fraction = 2.0: ",
        "key.toml: low_latency.fractoin: unknown key",
        "empty.toml: a fabric has tables",
        "both.toml: names a fabric or a chip",
        "broken.toml: not valid TOML",
        "absent.toml: no such calibration file",
        "a directory",
    ):
        assert any(start in line for line in raised.value.problems), start
    assert len(raised.value.problems) == len(texts) + 1
