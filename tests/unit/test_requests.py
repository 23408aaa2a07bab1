"""Request traces: what readers take, refuse and count; drawn arrivals; scaling."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.requests.readers import read_requests
from workloads.requests.synthetic import Lengths, synthetic_requests
from workloads.requests.table import Requests

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
)
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,GPT-4,1087,230,1317,API log\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [0, 9]}\n'
)
VLLM = (
    '{"arrival_time": 0.25, "prompt_len": 10, "output_len": 3}\n'
    '{"arrival_time": 0.75, "prompt_len": 20, "output_len": 4}\n'
)
Write = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "trace"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "arrival", "prompt", "output"),
    [
        (AZURE, [0.0, 4.314579], [374, 396], [44, 109]),
        (BURST, [0.0, 40.0], [472, 1087], [18, 230]),
        (MOONCAKE, [0.0, 2.5], [1030, 600], [5, 7]),
        (VLLM, [0.0, 0.5], [10, 20], [3, 4]),
    ],
    ids=["azure", "burstgpt", "mooncake", "vllm"],
)
def test_readers(written: Write, text: str, arrival: list[float], prompt: list[int], output: list[int]) -> None:
    found, notes = read_requests(written(text))
    assert found.arrival_s == pytest.approx(arrival, abs=1e-6)
    assert found.prompt_tokens.tolist() == prompt
    assert found.output_tokens.tolist() == output
    assert notes == ()


def test_mooncake_prefixes(written: Write) -> None:
    found, _ = read_requests(written(MOONCAKE))
    assert [found.hashes(request).tolist() for request in range(2)] == [[0, 1, 2], [0, 9]]
    assert found.prefix_block_tokens == 512


BAD = (
    AZURE
    + "2023-11-16 18:15:40.0000000,5,5\r\n"  # line 4: before the last
    + "2023-11-16 18:16:00.0000000,0,5\r\n"  # 5
    + "2023-11-16 18:16:01.0000000,7,0\r\n"  # 6
    + "2023-11-16 18:16:02.0000000,7\r\n"  # 7
    + "2023-11-16 18:16:03.0000000,x,5\r\n"  # 8
    + "2023-11-16 18:16:04.0000000,1e300,5\r\n"  # 9
    + "2023-11-16 18:16:05.0000000,8,9\r\n"
)


def test_bad_lines_are_all_named_or_skipped_and_counted(written: Write) -> None:
    path = written(BAD)
    with pytest.raises(WorkloadError) as refused:
        read_requests(path)
    text = str(refused.value)
    for part in (
        "line 4: time goes backwards",
        "line 5: prompt of no tokens",
        "line 6: answer of no tokens",
        "line 7: not 3 columns",
        "line 8: not a time",
        "line 9: more than",
        "--skip-bad-lines",
    ):
        assert part in text
    found, notes = read_requests(path, skip_bad_lines=True)
    assert found.prompt_tokens.tolist() == [374, 396, 8]
    assert len(notes) == 6
    assert all("left out" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a,b,c\n1,2,3\n", "of no known form"),
        (MOONCAKE + "{\n", "line 3: not JSON"),
        (MOONCAKE + "[1]\n", "line 3: not a JSON object|line 3: not JSON"),
        (VLLM + '{"arrival_time": 1.0, "prompt_len": 5}\n', "without a prompt or output length"),
        (VLLM + '{"arrival_time": "soon", "prompt_len": 5, "output_len": 2}\n', "not numbers"),
        (VLLM + '{"arrival_time": NaN, "prompt_len": 5, "output_len": 2}\n', "not a finite number"),
        (VLLM + '{"arrival_time": 9, "prompt_len": true, "output_len": 2}\n', "not numbers"),
        (VLLM + '{"arrival_time": 9, "prompt_len": 1.5, "output_len": 2}\n', "not numbers"),
        (VLLM + '{"arrival_time": 9, "prompt_len": Infinity, "output_len": 2}\n', "not numbers"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no usable request"),
        (VLLM.replace("0.75", "0.15"), "line 2: time goes backwards"),
    ],
)
def test_what_is_refused(written: Write, text: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        read_requests(written(text))


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b'TIMESTAMP,ContextTokens,GeneratedTokens\n"\n'])
def test_hostile_bytes_are_a_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(text)
    with pytest.raises(WorkloadError):
        read_requests(path)
    with pytest.raises(WorkloadError, match="no such file"):
        read_requests(tmp_path / "missing")


def test_many_bad_lines_are_one_problem(written: Write) -> None:
    lines = "".join(json.dumps({"timestamp": 9, "input_length": 0, "output_length": 1}) + "\n" for _ in range(50))
    with pytest.raises(WorkloadError, match=r"50 lines \(1, 2, 3, 4, 5, ...\): prompt of no tokens"):
        read_requests(written(lines))


def test_rate_scaling_and_repeats() -> None:
    base = Requests(
        np.array([0.0, 1.0, 4.0]), np.array([1, 2, 3]), np.array([4, 5, 6]), "x", np.array([7, 8, 9]), np.arange(4)
    )
    assert base.rate_per_s == 0.5
    assert base.at_rate(5.0).arrival_s.tolist() == [0.0, 0.1, 0.4]
    assert base.before(1.0).prompt_tokens.tolist() == [1, 2]
    twice = base.repeated(5)
    assert twice.prompt_tokens.tolist() == [1, 2, 3, 1, 2]
    assert twice.arrival_s.tolist() == [0.0, 1.0, 4.0, 6.0, 7.0]
    assert twice.hashes(4).tolist() == [8]
    with pytest.raises(WorkloadError, match="all 1 requests arrive at once"):
        base.repeated(1).at_rate(2.0)
    with pytest.raises(WorkloadError, match="not a positive number"):
        base.at_rate(float("nan"))


@pytest.mark.parametrize(
    ("arrivals", "variation", "expected"),
    [("poisson", 1.0, 1.0), ("gamma", 0.5, 0.5), ("bursty", 3.0, 3.0), ("even", 1.0, 0.0)],
)
def test_drawn_gaps_have_the_rate_and_spread_asked_for(arrivals: str, variation: float, expected: float) -> None:
    made = synthetic_requests(4.0, 40_000, Lengths(1000.0, 0.9), Lengths(200.0), 1, arrivals, variation)  # type: ignore[arg-type]
    gaps = np.diff(made.arrival_s)
    assert gaps.mean() == pytest.approx(0.25, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(expected, rel=0.05, abs=1e-9)
    assert made.prompt_tokens.mean() == pytest.approx(1000, rel=0.03)
    assert made.prompt_tokens.std() / made.prompt_tokens.mean() == pytest.approx(0.9, rel=0.05)
    assert set(made.output_tokens.tolist()) == {200}


def test_draws_say_everything_that_is_wrong() -> None:
    with pytest.raises(WorkloadError) as refused:
        synthetic_requests(-1.0, 0, Lengths(0.0), Lengths(0.5), 0, "bursty", 0.5)
    assert len(refused.value.problems) == 5
