"""`epsim calibrate` as a user meets it: a benchmark's output in, a file that a run reads out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEAD = """\
# nccl-tests version 2.17.6 nccl-headers=22501 nccl-library=22501
# Collective test starting: all_gather_perf
# nThread 1 nGpus 8 minBytes 1048576 maxBytes 1073741824 step: 32(factor) warmup iters: 5 iters: 20 agg iters: 1
#
# Using devices
"""
COLUMNS = """\
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
"""
RATE = 200e9  # of 450 GB/s; less than what ships
RANKS = 8
LATENCY_US = 20.0


def nccl_log() -> str:
    """All-gathers at a bus bandwidth of `RATE`, as nccl-tests prints them."""
    devices = "".join(
        f"#  Rank {rank:2d} Group  0 Pid  37300 on       node device {rank:2d} [0000:0{rank}:00] NVIDIA H200\n"
        for rank in range(RANKS)
    )
    rows = ""
    for size in (2**24, 2**26, 2**28, 2**30):
        time_us = float(f"{LATENCY_US + size * (RANKS - 1) / RANKS / RATE * 1e6:.2f}")
        rates = f"{size / time_us / 1e3:8.2f}{size / time_us / 1e3 * (RANKS - 1) / RANKS:8.2f}"
        half = f"{time_us:10.2f}{rates}      0"
        rows += f"{size:12d}{size // 4:14d}     float    none      -1{half}{half}\n"
    return f"{HEAD}{devices}{COLUMNS}{rows}# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 200.0\n#\n"


Command = Callable[..., Any]


def answer(epsim: Command, *arguments: str) -> str:
    done = epsim(*arguments)
    assert done.code == 0, done.err
    return str(done.out)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "all_gather.log").write_text(nccl_log())
    return tmp_path


def test_from_a_log_to_a_run(log: Path, epsim: Command) -> None:
    shown = answer(epsim, "calibrate", "nvlink4", "all_gather.log", "-o", "my.toml", "--cluster", "h200-cluster")
    for words in ("Constants of nvlink4 on h200-cluster", "all_gather.log:18", "mean absolute error", "as shipped"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert (log / "my.png").stat().st_size > 10_000
    (log / "ours.toml").write_text(
        'extends = "dsv3-train-h800"\ncalibration = ["my.toml"]\n[cluster]\nname = "h200-cluster"\nchips = 128\n'
        "[plan]\ntensor = 2\nexpert = 8\npipeline = 8\n[workload]\nglobal_batch_sequences = 512\n"
    )
    slow, fast = (
        json.loads(answer(epsim, "run", "ours.toml", "--json", "--allow-oom", *more))
        for more in ((), ("--set", "calibration=[]"))
    )
    assert slow["breakdown_s"]["tensor_parallel"] > 1.2 * fast["breakdown_s"]["tensor_parallel"]
    assert any("all_gather.log" in source["source"] for source in slow["sources"])


def test_json_csv_and_equal_bytes(log: Path, epsim: Command) -> None:
    options = ("calibrate", "nvlink4", "all_gather.log", "--cluster", "h200-cluster", "--json", "--csv", "rows.csv")
    found = json.loads(answer(epsim, *options, "-o", "one.toml"))
    answer(epsim, *options, "-o", "two.toml")
    assert (log / "one.toml").read_bytes() == (log / "two.toml").read_bytes()
    assert len(found["residuals"]) == len((log / "rows.csv").read_text().splitlines()) - 1 == 4
    fraction = next(constant for constant in found["constants"] if constant["name"] == "fraction")
    assert found["mean_abs_error"] < 0.02
    assert fraction["after"] < 0.8 * fraction["before"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nvlink5555", "all_gather.log"), "nvlink5555: no fabric or chip (did you mean 'nvlink5'?)"),
        (("nvlink4", "absent.log"), "absent.log: no such file"),
        (("nvlink4", "all_gather.log", "--ranks", "16"), "all_gather.log:18: --ranks 16: the output says 8"),
        (("nvlink4", "all_gather.log", "--cluster", "h200-clusterr"), "did you mean 'h200-cluster'"),
        (("h800", "all_gather.log"), "no column op"),
        (("h800", "all_gather.log", "--ranks", "8"), "--ranks: of communication; h800 is a chip"),
        (("nvlink4", "all_gather.log", "-o", "."), "a directory"),
        (("nvlink4",), "FILES"),
    ],
)
def test_mistakes_are_one_line(log: Path, epsim: Command, arguments: tuple[str, ...], words: str) -> None:
    done = epsim("calibrate", *arguments)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1
