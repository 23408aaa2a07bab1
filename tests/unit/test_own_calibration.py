"""Fits of a user's own fabric and chip: known constants come back, those that can't be told stay as shipped."""

import csv
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest

from simulator.calibration.chips import chip_calibration, overlapped_s
from simulator.calibration.chosen import read_calibrations
from simulator.calibration.fabrics import FabricCalibration, fabric_calibration
from simulator.errors import UserError
from simulator.fitting.fabrics.collective_samples import collective_sample
from simulator.fitting.fabrics.exchange_samples import exchange_sample
from simulator.fitting.fabrics.series import Part, Series
from simulator.fitting.measurements.read import read_measurements
from simulator.fitting.measurements.text import Given, row
from simulator.fitting.own.chip import calibrate_chip
from simulator.fitting.own.determined import Free, fit_determined
from simulator.fitting.own.fabric import calibrate_fabric
from simulator.fitting.own.outcome import Outcome, file_text
from topologies.catalogue import accelerator

SIZES = [4.0**power for power in range(5, 15)]


def truth(name: str, part: Part, **changes: float) -> FabricCalibration:
    shipped = fabric_calibration(name)
    return shipped.model_copy(update={part: getattr(shipped, part).model_copy(update=changes)})


def table(tmp_path: Path, rows: list[dict[str, object]], name: str = "ours.csv") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / name
    path.write_text(text.getvalue())
    return path


def collectives(tmp_path: Path, name: str, where: str, real: FabricCalibration, ranks: tuple[int, ...]) -> Path:
    """A table of what the cost functions say with the constants in `real`."""

    def constants(fabric: str) -> FabricCalibration:
        return real if fabric == name else fabric_calibration(fabric)

    rows: list[dict[str, object]] = []
    for op in ("all_reduce", "all_gather"):
        for group in ranks:
            for size in SIZES:
                one = row(id="x", op=op, ranks=group, ranks_per_node=8, size_bytes=size, time_us=1.0)
                sample = collective_sample(Series(name, "collective", {}, (), ""), where, one)
                time_us = f"{sample.predict_s(constants) * 1e6:.4f}"
                rows.append({"op": op, "ranks": group, "ranks_per_node": 8, "size_bytes": size, "time_us": time_us})
    return table(tmp_path, rows)


def calibrated(name: str, path: Path, where: str = "", part: str = "") -> Outcome:
    return calibrate_fabric(name, read_measurements([str(path)], Given()), where, part)


def test_constants_of_collectives_come_back(tmp_path: Path) -> None:
    real = truth("ib-400g", "collective", fraction=0.61, step_s=9e-6)
    path = collectives(tmp_path, "ib-400g", "h200-cluster", real, (16, 32))
    found = calibrated("ib-400g", path, "h200-cluster")
    assert found.own.collective is not None
    assert found.own.collective.fraction == pytest.approx(0.61, rel=0.02)
    assert found.own.collective.step_s == pytest.approx(9e-6, rel=0.05)
    assert found.mean_abs_error < 0.005
    assert found.own.collective.kind == "fitted"
    assert "ours.csv (40 rows, sha256" in found.own.collective.source


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_constants_of_dispatch_and_combine_come_back(tmp_path: Path, op: str) -> None:
    real = truth("nvlink4", "low_latency", fraction=0.5, dispatch_fixed_s=3e-5, combine_fixed_s=6e-5)
    rows: list[dict[str, object]] = []
    for tokens in (8, 64, 512, 4096):
        shape: dict[str, object] = {"op": op, "ranks": 8, "ranks_per_node": 8, "mode": "low_latency"}
        shape |= {"tokens_per_rank": tokens, "hidden": 7168, "top_k": 8, "payload_dtype": "bf16"}
        one = row(id="x", time_us=1.0, **{key: str(value) for key, value in shape.items()})
        sample = exchange_sample(Series("nvlink4", "low_latency", {}, (), ""), "h200-cluster", one)
        rows.append({**shape, "time_us": f"{sample.predict_s(lambda _: real) * 1e6:.4f}"})
    found = calibrated("nvlink4", table(tmp_path, rows), "h200-cluster")
    assert found.own.low_latency is not None
    assert found.own.collective is found.own.normal is None
    assert found.own.low_latency.fraction == pytest.approx(0.5, rel=0.02)
    assert getattr(found.own.low_latency, f"{op}_fixed_s") == pytest.approx(
        3e-5 if op == "dispatch" else 6e-5, rel=0.02
    )
    other = "combine_fixed_s" if op == "dispatch" else "dispatch_fixed_s"
    assert getattr(found.own.low_latency, other) == getattr(fabric_calibration("nvlink4").low_latency, other)
    assert any("no row depends on it" in line and other in line for line in found.warnings)


def test_one_large_message_tells_a_rate_and_nothing_else(tmp_path: Path) -> None:
    path = table(tmp_path, [{"op": "all_gather", "ranks": 8, "size_bytes": 2**30, "busbw_GBps": 300}])
    found = calibrated("nvlink4", path, "h200-cluster")
    fitted = {constant.name for constant in found.constants if not constant.kept}
    assert fitted == {"fraction"}
    shipped = fabric_calibration("nvlink4").collective
    assert found.own.collective is not None
    assert found.own.collective.launch_s == shipped.launch_s
    assert found.own.collective.fraction == pytest.approx(300 / 450 * (1 + 1 / 7 / 2), rel=0.02)  # own share copied


def test_measurements_faster_than_the_wire_are_pointed_out(tmp_path: Path) -> None:
    path = table(tmp_path, [{"op": "all_gather", "ranks": 8, "size_bytes": 2**30, "busbw_GBps": 900}])
    with pytest.raises(UserError, match=r"nvlink4: 1 rows determine none of its constants; they take 0.38 times"):
        calibrated("nvlink4", path, "h200-cluster")
    rows = [
        {"op": "all_gather", "ranks": 8, "size_bytes": size, "time_us": 10 + size * 7 / 8 / 470e3}
        for size in SIZES[-6:]
    ]
    found = calibrated("nvlink4", table(tmp_path, rows), "h200-cluster")
    assert any("fraction: 1 is its upper bound" in line for line in found.warnings)


def test_the_file_says_what_it_rests_on_and_a_run_can_read_it(tmp_path: Path) -> None:
    path = collectives(tmp_path, "nvlink4", "h200-cluster", truth("nvlink4", "collective", fraction=0.5), (4, 8))
    outcome, again = calibrated("nvlink4", path, "h200-cluster"), calibrated("nvlink4", path, "h200-cluster")
    text = file_text(outcome)
    assert text == file_text(again)
    written = tomllib.loads(text)
    assert written["files"][0]["rows"] == len(written["residuals"]) == len(written["collective"]["rows"]) == 40
    (tmp_path / "my.toml").write_text(text)
    read = read_calibrations([str(tmp_path / "my.toml")]).fabric("nvlink4")
    assert read.collective == outcome.own.collective
    assert read.normal == fabric_calibration("nvlink4").normal


def test_odd_file_names_still_give_a_file_that_can_be_read(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"op": "all_gather", "ranks": 8, "size_bytes": 2**30, "busbw_GBps": 300}]
    path = table(tmp_path, rows, 'ü"\\\n\x7f"""😀.csv')
    tomllib.loads(file_text(calibrated("nvlink4", path, "h200-cluster")))


def problem(name: str, tmp_path: Path, where: str = "", part: str = "", **cells: object) -> str:
    row: dict[str, object] = {"op": "all_gather", "ranks": 8, "size_bytes": 2**30, "time_us": 3000}
    with pytest.raises(UserError) as raised:
        calibrated(name, table(tmp_path, [row | cells]), where, part)
    return raised.value.problems[0]


def test_rows_of_another_place_are_refused(tmp_path: Path) -> None:
    exchange = {"op": "dispatch", "tokens_per_rank": 128, "hidden": 7168, "top_k": 8, "payload_dtype": "fp8"}
    assert "meet over nvlink4, which hides ib-400g" in problem("ib-400g", tmp_path, "h200-cluster")
    assert "meet over ib-400g, which hides nvlink4" in problem("nvlink4", tmp_path, "h200-cluster", ranks=16)
    assert "joins nodes of several kinds" in problem("ib-400g", tmp_path)
    assert "has no nvlink4; it has" in problem("nvlink4", tmp_path, "cloudmatrix384")
    assert "h200-cluster has 8" in problem("nvlink4", tmp_path, "h200-cluster", ranks=16, ranks_per_node=16)
    assert "12 ranks do not fill nodes of 8" in problem("ib-400g", tmp_path, "h200-cluster", ranks=12)
    assert "normal or low_latency?" in problem("nvlink4", tmp_path, "h200-cluster", **exchange)
    assert "no row of it" in problem("nvlink4", tmp_path, "h200-cluster", part="normal")


KERNELS: list[dict[str, object]] = [
    {"op": "gemm", "dtype": "bf16", "m": m, "n": 4096, "k": 7168, "groups": "", "model": "", "bytes": ""}
    for m in (16, 64, 256, 1024, 4096, 16384)
] + [{"op": "gemm", "dtype": "bf16", "m": 32, "n": 128, "k": 256, "groups": "", "model": "", "bytes": ""}]


def test_constants_of_a_chip_come_back(tmp_path: Path) -> None:
    chip = accelerator("h100")
    peak, rate = chip.peak_flop_per_s("bf16"), chip.memory.bandwidth_bytes_per_s
    assert peak
    rows = []
    for kernel in KERNELS:
        m, n, k = (float(str(kernel[name])) for name in ("m", "n", "k"))
        compute_s, memory_s = 2 * m * n * k / (0.6 * peak), 2 * (m * n + n * k + m * k) / (0.7 * rate)
        total_s = sum(part.item() for part in overlapped_s(np.array(compute_s), np.array(memory_s), 2.0)) + 4e-6
        rows.append(kernel | {"time_us": f"{total_s * 1e6:.4f}"})
    found = calibrate_chip("h100", [str(table(tmp_path, rows))])
    fitted = found.own.operators["gemm"]["bf16"]
    assert fitted.compute_efficiency == pytest.approx(0.6, rel=0.02)
    assert fitted.memory_efficiency == pytest.approx(0.7, rel=0.05)
    assert fitted.overlap_exponent == pytest.approx(2.0, rel=0.1)
    assert fitted.launch_s == pytest.approx(4e-6, rel=0.02)
    assert list(found.own.operators) == ["gemm"]


def test_every_class_of_operator_can_be_measured(tmp_path: Path) -> None:
    empty = dict.fromkeys(("m", "n", "k", "groups", "model", "sequences", "context_tokens", "bytes"), "")
    attention = {"model": "deepseek-v3", "sequences": 16, "context_tokens": 4096, "dtype": "bf16"}
    rows: list[dict[str, object]] = [
        {**empty, "op": "grouped_gemm", "dtype": "fp16", "m": 64, "n": 4096, "k": 7168, "groups": 8, "time_us": 300},
        {**empty, "op": "attention_decode", **attention, "time_us": 900},
        {**empty, "op": "attention_prefill", **attention, "time_us": 90000},
        {**empty, "op": "attention_backward", **attention, "time_us": 300000},
        {**empty, "op": "elementwise", "dtype": "bf16", "bytes": 1e9, "time_us": 500},
        {**empty, "op": "elementwise_bulk", "dtype": "bf16", "bytes": 1e9, "time_us": 900},
    ]
    found = calibrate_chip("h800", [str(table(tmp_path, rows))])
    assert {(kind, *formats) for kind, formats in found.own.operators.items()} == {(row["op"], "bf16") for row in rows}
    assert found.own.operators["elementwise"]["bf16"].memory_efficiency == pytest.approx(2 / 3.35, rel=0.02)
    shipped = chip_calibration("h800").of("elementwise", "bf16")
    assert found.own.operators["elementwise"]["bf16"].compute_efficiency == shipped.compute_efficiency


@pytest.mark.parametrize(
    ("cells", "start"),
    [
        ({"op": "gem"}, "ours.csv:2: op = 'gem': unknown (did you mean 'gemm'?)"),
        ({"dtype": "int8"}, "ours.csv:2: dtype = 'int8': ascend"),
        ({"time_us": 0}, "ours.csv:2: time_us = '0': must be a number above 0"),
        ({"m": 1.5}, "ours.csv:2: m = '1.5': must be a whole number above 0, at most 1e+09"),
        ({"m": "1e200"}, "ours.csv:2: m = '1e200': must be a whole number above 0"),
        ({"k": ""}, "ours.csv:2: k: empty; gemm needs it"),
        ({"op": "attention_decode", "model": "deepseek-v33"}, "ours.csv:2: sequences: empty"),
        ({"op": "elementwise", "dtype": "fp8"}, "ours.csv:2: dtype = 'fp8'"),
    ],
)
def test_bad_kernels(tmp_path: Path, cells: dict[str, object], start: str) -> None:
    chip = "h800" if cells.get("dtype") != "int8" else "ascend-950pr"
    row: dict[str, object] = {**KERNELS[0], "sequences": "", "context_tokens": "", "time_us": 10}
    if chip == "ascend-950pr":
        cells, start = {"dtype": "fp64"}, "ours.csv:2: dtype = 'fp64': ascend-950pr does not compute in it"
    with pytest.raises(UserError) as raised:
        calibrate_chip(chip, [str(table(tmp_path, [row | cells]))])
    assert raised.value.problems[0].replace(f"{tmp_path}/", "").startswith(start)


def test_a_table_of_something_else_is_no_table_of_kernels(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("op,type,time\ngemm,bf16,3\n")
    with pytest.raises(UserError, match=r"log\.txt:1: no column dtype \(did you mean 'type'\?\), time_us"):
        calibrate_chip("h800", [str(path)])


def test_constants_that_only_occur_together_are_not_both_fitted() -> None:
    free = {name: Free(1.0, 0.0, 10.0, 1.0) for name in ("a", "b")}
    measured = np.array([4.0, 4.0, 4.0])
    found = fit_determined("x", free, lambda values: np.log((values["a"] + values["b"]) / measured))
    assert [constant.kept != "" for constant in found].count(True) == 1
    assert sum(constant.after for constant in found) == pytest.approx(4.0)
