"""Readers of benchmarks' output, on text in the exact shape that the tools print; the figures are ours."""

from pathlib import Path

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from simulator.errors import UserError
from simulator.fitting.measurements.read import Measurements, read_measurements
from simulator.fitting.measurements.text import Given

NCCL = """\
# nccl-tests version 2.17.6 nccl-headers=22501 nccl-library=22501
# Collective test starting: all_reduce_perf
# nThread 1 nGpus 1 minBytes 1048576 maxBytes 4194304 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 \
validation: 1 graph: 0
#
# Using devices
#  Rank  0 Group  0 Pid   1887 on   worker-0 device  0 [0000:8d:00] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid   1888 on   worker-0 device  1 [0000:91:00] NVIDIA H100 80GB HBM3
#  Rank  2 Group  0 Pid   1885 on   worker-1 device  0 [0000:8d:00] NVIDIA H100 80GB HBM3
#  Rank  3 Group  0 Pid   1886 on   worker-1 device  1 [0000:91:00] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           0             0     float     sum      -1     5.70    0.00    0.00      0     5.54    0.00    0.00      0
     1048576        262144     float     sum      -1    80.00   13.11   19.66      0    79.50   13.19   19.78      0
     4194304       1048576     float     sum      -1   200.00   20.97   31.46      0   201.10   20.86   31.28    N/A
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 17.0453
#
"""
OLD = """\
./build/broadcast_perf -b 8M -e 16M -f 2 -g 2
# nThread 1 nGpus 2 minBytes 8388608 maxBytes 16777216 step: 2(factor) warmup iters: 5 iters: 20 validation: 1
#
# Using devices
#   Rank  0 Pid   1320 on       dgx device  0 [0x06] Tesla V100-SXM2-16GB
#   Rank  1 Pid   1320 on       dgx device  1 [0x07] Tesla V100-SXM2-16GB
#
#                                               out-of-place                    in-place
#       size         count    type  root     time   algbw   busbw  error     time   algbw   busbw  error
#        (B)    (elements)                   (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     8388608       2097152   float     0   419.4   20.00   20.00  0e+00    400.0   20.97   20.97  0e+00
    16777216       4194304   float     0   838.9   20.00   20.00  0e+00    817.8   20.51   20.51  0e+00
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 20.3704
"""
ALL_TO_ALL = NCCL.replace("all_reduce_perf", "alltoall_perf").replace("     sum      -1", "    none      -1")
ALL_TO_ALL = ALL_TO_ALL.replace("19.66", " 9.83").replace("31.46", "15.73").replace("31.28    N/A", "15.64    N/A")
HCCL = """\
# mpirun -n 16 ./bin/all_reduce_test -b 8K -e 64M -f 2 -d fp32 -o sum -p 8
the minbytes is 8192, maxbytes is 67108864, iters is 20, warmup_iters is 5
data_size(Bytes): | aveg_time(us): | alg_bandwidth(GB/s): | check_result:
8192              |      81.92     |       0.10000        | success
67108864          |    1342.18     |      50.00000        | NULL
"""
INTRANODE = """\
[config] num_tokens=4096, hidden=7168, num_topk=8
[layout] Kernel performance: 0.049 ms

[testing] Running with BF16, without top-k (async=False, previous=False) ... passed

[tuning] SMs 24, NVL chunk 4: 306.74 GB/s (NVL), 514.10 us
[tuning] Best dispatch (FP8): SMs 24, NVL chunk 30, 352.43 GB/s (NVL), t: 453.49 us

[tuning] Best dispatch (BF16): SMs 24, NVL chunk 12, 344.45 GB/s (NVL), t: 898.40 us
[tuning] Best combine: SMs 24, NVL chunk 3: 332.57 GB/s (NVL), t: 930.49 us
"""
INTERNODE = """\
[config] num_tokens=4096, hidden=7168, num_topk_groups=2, num_topk=8
[tuning] SMs 24, NVL chunk 4, RDMA chunk 4: 19.33 GB/s (RDMA), 63.23 GB/s (NVL)
[tuning] Best dispatch (FP8): SMs 24, NVL chunk 8, RDMA chunk 32: 47.77 GB/s (RDMA), 155.78 GB/s (NVL)
[tuning] Best dispatch (BF16): SMs 24, NVL chunk 8, RDMA chunk 16, transmit: 1902.41 us, notify: 48.12 us, \
BW: 61.70 GB/s (RDMA), 201.40 GB/s (NVL)
[tuning] Best combine: SMs 24, NVL chunk 1, RDMA chunk 32: 51 + 1950 us, 60.20 GB/s (RDMA), 196.51 GB/s (NVL)
"""
RANKS = 4
LOW_LATENCY = "Allocating buffer size: 2116.291072 MB ...\n" + "".join(
    f"[rank {rank}] Dispatch + combine bandwidth: 193.41 GB/s, avg_t=114.00 us, min_t=111.01 us, max_t=117.50 us\n"
    for rank in range(RANKS)
)
LOW_LATENCY += "".join(
    f"[rank {rank}] Dispatch bandwidth: {200 + rank}.00 GB/s, avg_t={36 + rank}.00 us | "
    f"Combine bandwidth: 215.00 GB/s, avg_t={66 + rank}.00 us\n"
    for rank in reversed(range(RANKS))
)
LOW_LATENCY += "[rank 0] Dispatch send/recv time: 8.11 + 22.08 us | Combine send/recv time: 10.02 + 33.50 us\n"
TABLE = """\
op,ranks,ranks_per_node,size_bytes,time_us,busbw_GBps,remarks
all_gather,8,8,1048576,20.5,,first
all_reduce,8,8,1073741824,,480,"second, from the log"
"""


def read(tmp_path: Path, text: str, name: str = "log.txt", **said: object) -> Measurements:
    path = tmp_path / name
    path.write_text(text)
    return read_measurements([str(path)], Given(**said))  # type: ignore[arg-type]


def problems(tmp_path: Path, text: str, name: str = "log.txt", **said: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as raised:
        read(tmp_path, text, name, **said)
    return tuple(line.replace(str(tmp_path) + "/", "") for line in raised.value.problems)


def test_nccl_tests(tmp_path: Path) -> None:
    found = read(tmp_path, NCCL)
    assert [(row["op"], row["ranks"], row["ranks_per_node"]) for row in found.rows] == [("all_reduce", "4", "2")] * 2
    assert [(row["size_bytes"], row["time_us"]) for row in found.rows] == [("1048576", "80"), ("4194304", "200")]
    assert found.rows[0]["id"] == "log.txt:15"
    assert (found.files[0].tool, found.files[0].rows) == ("nccl-tests", 2)
    assert found.notes == ("log.txt:14: 0 bytes, left out",)


def test_old_versions_name_the_operation_only_on_the_command_line(tmp_path: Path) -> None:
    rows = read(tmp_path, OLD).rows
    assert [(row["op"], row["ranks"], row["size_bytes"]) for row in rows] == [
        ("broadcast", "2", "8388608"),
        ("broadcast", "2", "16777216"),
    ]
    nameless = OLD.split("\n", 1)[1]
    assert read(tmp_path, nameless, "broadcast-2.log").rows[0]["op"] == "broadcast"
    assert read(tmp_path, nameless, op="broadcast").rows[0]["op"] == "broadcast"
    assert "which operation?" in problems(tmp_path, nameless)[0]


def test_several_runs_in_one_file(tmp_path: Path) -> None:
    rows = read(tmp_path, NCCL + "some log line\n" + OLD + ALL_TO_ALL).rows
    assert [row["op"] for row in rows] == ["all_reduce"] * 2 + ["broadcast"] * 2 + ["all_to_all"] * 2
    assert [row["ranks"] for row in rows] == ["4", "4", "2", "2", "4", "4"]


@pytest.mark.parametrize("prefix", ["[1,0]<stdout>:", "[1,0]<stdout>: ", "0: ", "[0] ", "\x1b[32m"])
def test_prefixes_of_launchers(tmp_path: Path, prefix: str) -> None:
    tagged = "".join(f"{prefix}{line}\n" for line in NCCL.splitlines())
    assert [row["time_us"] for row in read(tmp_path, tagged).rows] == ["80", "200"]


def test_hccl_test(tmp_path: Path) -> None:
    rows = read(tmp_path, HCCL).rows
    assert [(row["op"], row["ranks"], row["ranks_per_node"], row["time_us"]) for row in rows] == [
        ("all_reduce", "16", "8", "81.92"),
        ("all_reduce", "16", "8", "1342.18"),
    ]
    bare = HCCL.split("\n", 1)[1].replace("aveg_time", "avg_time")
    assert read(tmp_path, bare, op="all_gather", ranks=8).rows[0]["op"] == "all_gather"
    assert "how many ranks?" in problems(tmp_path, bare, op="all_gather")[0]


def test_deepep_normal(tmp_path: Path) -> None:
    rows = read(tmp_path, INTRANODE, ranks=8).rows
    shapes = [(row["op"], row["payload_dtype"], row["time_us"], row["comm_cores"], row["mode"]) for row in rows]
    assert shapes == [
        ("dispatch", "fp8", "453.49", "24", "normal"),
        ("dispatch", "bf16", "898.4", "24", "normal"),
        ("combine", "bf16", "930.49", "24", "normal"),
    ]
    assert {(row["tokens_per_rank"], row["hidden"], row["top_k"]) for row in rows} == {("4096", "7168", "8")}
    assert "how many ranks?" in problems(tmp_path, INTRANODE)[0]


def test_deepep_between_nodes_as_versions_print_it(tmp_path: Path) -> None:
    rows = read(tmp_path, INTERNODE, ranks=16, ranks_per_node=8).rows
    assert [(row["algbw_GBps"], row["time_us"], row["notify_us"]) for row in rows] == [
        ("47.77", "", ""),
        ("", "1902.41", "48.12"),
        ("", "1950", "51"),
    ]
    assert {row["topk_groups"] for row in rows} == {"2"}


def test_deepep_low_latency_is_the_mean_over_ranks(tmp_path: Path) -> None:
    found = read(tmp_path, LOW_LATENCY)
    dispatch, combine = found.rows
    assert (dispatch["op"], dispatch["ranks"], dispatch["time_us"], dispatch["algbw_GBps"]) == (
        "dispatch",
        "4",
        "37.5",
        "201.5",
    )
    assert (combine["op"], combine["time_us"], combine["payload_dtype"]) == ("combine", "67.5", "bf16")
    assert "128 tokens per rank" in found.notes[0]
    assert not read(tmp_path, LOW_LATENCY, tokens=64).notes
    half = "".join(line + "\n" for line in LOW_LATENCY.splitlines() if "[rank 0]" not in line and "rank 1" not in line)
    assert "part of a larger group" in problems(tmp_path, half)[0]
    assert read(tmp_path, half, ranks=16).rows[0]["ranks"] == "16"


def test_whole_numbers_may_be_written_as_a_spreadsheet_does(tmp_path: Path) -> None:
    rows = read(tmp_path, TABLE.replace("gather,8,8", "gather,8.0,8e0"), "ours.csv").rows
    assert (rows[0]["ranks"], rows[0]["ranks_per_node"]) == ("8", "8")


def test_plain_table(tmp_path: Path) -> None:
    rows = read(tmp_path, TABLE, "ours.csv").rows
    assert [(row["op"], row["time_us"], row["busbw_GBps"]) for row in rows] == [
        ("all_gather", "20.5", ""),
        ("all_reduce", "", "480"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("#        (B)", "#       (KB)", "log.txt:13: units (KB)"),
        ("   80.00   13.11", "    0.00    0.00", "log.txt:15: time 0 us"),
        ("   80.00   13.11", "   0.080   13.11", "log.txt:15: algbw 13.11 GB/s is not size over time"),
        ("19.66      0 ", "19.66      7 ", "log.txt:15: #wrong = 7"),
        ("19.66", "13.11", "log.txt:15: busbw / algbw is 1, all_reduce on 4 ranks has 1.5"),
        ("   79.50   13.19   19.78      0", "   79.50", "log.txt:15: 10 columns, the header has 13"),
        ("# Avg bus bandwidth    : 17.0453\n", "", None),
        ("all_reduce_perf", "gather_perf", "log.txt:15: gather_perf: not modelled"),
        (
            "worker-1 device  0",
            "worker-0 device  2",
            "log.txt:15: ranks per node differ (3 on worker-0, 1 on worker-1)",
        ),
        ("#  Rank  1 Group", "#  Rank  0 Group", "log.txt:7: rank 0 is listed twice"),
        ("   80.00 ", "   eighty ", "log.txt:15: 1048576 262144 float sum -1 eighty"),
    ],
)
def test_bad_nccl_output(tmp_path: Path, old: str, new: str, start: str | None) -> None:
    assert old in NCCL
    text = NCCL.replace(old, new, 1)
    if start is None:
        assert read(tmp_path, text).rows
        assert "has no '# Avg bus bandwidth'" in problems(tmp_path, text.split("# Out of")[0])[0]
    else:
        assert problems(tmp_path, text)[0].startswith(start)


def test_rows_without_header_and_contradictions(tmp_path: Path) -> None:
    headless = "\n".join(line for line in NCCL.splitlines() if "redop" not in line)
    assert problems(tmp_path, headless)[0].startswith("log.txt:13: a row without the header")
    assert problems(tmp_path, NCCL, ranks=8)[0].startswith("log.txt:15: --ranks 8: the output says 4")
    assert problems(tmp_path, NCCL, op="broadcast")[0].startswith("log.txt:15: --op broadcast: the output says all_")


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("alg_bandwidth(GB/s)", "alg_bandwidth(MB/s)", "log.txt:3: header"),
        ("| success", "| failed", "log.txt:4: check_result = failed"),
        ("     81.92", "      0.00", "log.txt:4: time 0 us"),
        ("     81.92", "      8.19", "log.txt:4: alg_bandwidth 0.1 GB/s is not size over time"),
        ("       0.10000        | success", "", "log.txt:4: 8192 | 81.92 |"),
        ("all_reduce_test", "reduce_test", "log.txt:4: reduce_test: not modelled"),
    ],
)
def test_bad_hccl_output(tmp_path: Path, old: str, new: str, start: str) -> None:
    assert old in HCCL
    assert problems(tmp_path, HCCL.replace(old, new, 1))[0].startswith(start)


@pytest.mark.parametrize(
    ("text", "said", "start"),
    [
        (INTRANODE.split("\n", 1)[1], {"ranks": 8}, "log.txt:6: no '[config]"),
        (INTRANODE.replace("(NVL), t: 453.49 us", ""), {"ranks": 8}, "log.txt:7: SMs 24"),
        (INTRANODE.replace("453.49", "0.00"), {"ranks": 8}, "log.txt:7: time 0 us"),
        (LOW_LATENCY.replace(" | Combine bandwidth: 215.00 GB/s, avg_t=66.00 us", ""), {}, "log.txt:9: [rank 0]"),
        (LOW_LATENCY.split("[rank 3] Dispatch bandwidth")[0], {}, "log.txt:2: dispatch and combine together only"),
        (LOW_LATENCY.replace("avg_t=36.00", "avg_t=0.00"), {}, "log.txt:9: a time or bandwidth of 0"),
    ],
)
def test_bad_deepep_output(tmp_path: Path, text: str, said: dict[str, int], start: str) -> None:
    assert problems(tmp_path, text, **said)[0].startswith(start)


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("time_us,busbw_GBps", "time,bandwidth", "log.txt:1: no column of times"),
        ("size_bytes", "size_byte", "log.txt:1: column 'size_byte': unknown (did you mean 'size_bytes'?)"),
        ("all_gather", "all_gathr", "log.txt:2: op = 'all_gathr': unknown (did you mean 'all_gather'?)"),
        ("20.5,,", "0,,", "log.txt:2: time_us = '0': must be a number above 0"),
        ("20.5,,", ",,", "log.txt:2: no time"),
        ("20.5,,", "20 us,,", "log.txt:2: time_us = '20 us': must be a number"),
        ("gather,8,", "gather,8.5,", "log.txt:2: ranks = '8.5': must be a whole number"),
        ("gather,8,", "gather,1e30,", "log.txt:2: ranks = '1e30': must be a whole number above 0, at most 1e+09"),
        ("1048576", "1e300", "log.txt:2: size_bytes = '1e300'"),
        ("gather,8,", "gather,1,", "log.txt:2: ranks = '1'"),
        ("gather,8,8,1048576", "gather,8,8,", "log.txt:2: size_bytes: empty"),
        ("gather,", "gather,8,", "log.txt:2: more or fewer cells"),
        ("all_gather,", "dispatch,", "log.txt:2: tokens_per_rank: empty; dispatch needs it"),
    ],
)
def test_bad_tables(tmp_path: Path, old: str, new: str, start: str) -> None:
    assert old in TABLE
    assert problems(tmp_path, TABLE.replace(old, new, 1))[0].startswith(start)


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        (" #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n", "perftest"),
        ("# OSU MPI Allreduce Latency Test v7.3\n# Size       Avg Latency(us)\n4   8.14\n", "OSU"),
        ("     size(B)    count(elems)     type    time(us)    algbw(GB/s)    busbw(GB/s)\n", "nccom-test"),
    ],
)
def test_output_of_other_tools_is_named(tmp_path: Path, text: str, tool: str) -> None:
    found = problems(tmp_path, text)[0]
    assert found.startswith("log.txt:1: looks like")
    assert tool in found


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "zeros").write_bytes(b"\x00" * 50)
    (tmp_path / "empty").write_text("")
    paths = [str(tmp_path / name) for name in ("binary", "zeros", "empty", "absent", ".")]
    with pytest.raises(UserError) as raised:
        read_measurements(paths, Given())
    assert len(raised.value.problems) == len(paths)


@settings(max_examples=60, deadline=None)
@hypothesis_given(st.data())
def test_any_cut_or_garbled_text_is_read_or_refused_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from([NCCL, OLD, HCCL, INTRANODE, INTERNODE, LOW_LATENCY, TABLE]))
    start, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 40))
    noise = data.draw(st.text(st.characters(blacklist_categories=["Cs"]), max_size=10))
    path = tmp_path_factory.mktemp("garbled") / "log.txt"
    path.write_text(text[:start] + noise + text[start + length :], encoding="utf-8")
    try:
        found = read_measurements([str(path)], Given(ranks=data.draw(st.sampled_from([0, 4, 8]))))
    except UserError as error:
        assert all(line.startswith(str(path)) or line.startswith("and ") for line in error.problems)
    else:
        assert all(float(row["time_us"] or row["algbw_GBps"] or row["busbw_GBps"]) > 0 for row in found.rows)
