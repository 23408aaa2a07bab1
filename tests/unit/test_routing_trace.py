import io
import json
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads import placement
from workloads.errors import WorkloadError
from workloads.routing.replay import resample, sequence_counts, trace_counts, trace_destinations
from workloads.routing.trace import Trace, check_model, read_trace, write_trace

pa: Any = import_module("pyarrow")
pq: Any = import_module("pyarrow.parquet")
ABOUT = json.dumps({"model": "tiny", "routed_experts": 16})


def small_trace(seed: int = 0, **change: Any) -> Trace:
    rng = np.random.default_rng(seed)
    ids = rng.random((60, 3, 16)).argsort(axis=-1)[..., :4].astype(np.uint8)
    fields: dict[str, Any] = {
        "experts": ids,
        "seq_lens": np.array([10, 25, 5, 20], dtype=np.int32),
        "routed_experts": 16,
        "model": "tiny",
        "phase": "decode",
        "source": "made up",
        "licence": "none",
    }
    return Trace(**{**fields, **change})


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    trace = small_trace()
    write_trace(trace, tmp_path / name)
    again = read_trace(tmp_path / name)
    assert np.array_equal(again.experts, trace.experts)
    assert np.array_equal(again.seq_lens, trace.seq_lens)
    assert (again.model, again.phase, again.source, again.licence) == ("tiny", "decode", "made up", "none")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_gate_weights_come_back(tmp_path: Path, name: str) -> None:
    gates = np.random.default_rng(1).random((60, 3, 4)).astype(np.float32)
    trace = small_trace(gate_weights=gates)
    write_trace(trace, tmp_path / name)
    again = read_trace(tmp_path / name)
    assert np.array_equal(again.gate_weights, gates)
    assert again.digest == trace.digest != small_trace().digest


def test_another_content_than_the_digest_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    write_trace(small_trace(), path)
    with np.load(path) as arrays:
        about, lens = str(arrays["about"]), arrays["seq_lens"]
    np.savez(path, experts=small_trace(seed=1).experts, seq_lens=lens, about=about)
    with pytest.raises(WorkloadError, match=r"digest: [0-9a-f]{20}\.\.\.: the content has"):
        read_trace(path)


@pytest.mark.parametrize("name", ["t.npz", "t.parquet"])
def test_same_trace_same_bytes(tmp_path: Path, name: str) -> None:
    written = []
    for _ in range(2):
        write_trace(small_trace(), tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_folders_are_made(tmp_path: Path) -> None:
    write_trace(small_trace(), tmp_path / "new" / "folder" / "t.npz")
    assert read_trace(tmp_path / "new" / "folder" / "t.npz").tokens == 60


@pytest.mark.parametrize("name", ["t.csv", "a_file/t.npz"])
def test_unwritable_output_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(WorkloadError, match=r"must end in|can't be written") as caught:
        write_trace(small_trace(), tmp_path / name)
    assert len(caught.value.problems) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(WorkloadError, match="No space left"):
        write_trace(small_trace(), path)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experts": np.zeros((60, 3, 4))}, "experts: float64: must be native-endian integers"),
        ({"experts": np.full((60, 3, 4), np.nan)}, "experts: float64"),
        ({"experts": np.zeros((60, 3, 4), dtype=">i4")}, "experts: >i4"),
        ({"experts": np.zeros((60, 12), dtype=np.uint8)}, r"shape \(60, 12\)"),
        ({"experts": np.zeros((0, 3, 4), dtype=np.uint8)}, "empty"),
        ({"seq_lens": np.array([], dtype=np.int32)}, "empty"),
        ({"seq_lens": np.array([[60]], dtype=np.int32)}, r"must be \[sequences\]"),
        ({"seq_lens": np.array([30, 29], dtype=np.int32)}, "sum 59"),
        ({"seq_lens": np.array([61, -1], dtype=np.int32)}, "least -1"),
        ({"routed_experts": 15}, "id 15: must be 0 to 14"),
        ({"experts": np.tile(np.arange(-1, 3), (60, 3, 1))}, "id -1"),
        ({"experts": np.zeros((60, 3, 4), dtype=np.uint8)}, r"token 0, layer 0: \[0, 0, 0, 0\]: repeats"),
        ({"phase": "training"}, "phase: 'training'"),
        ({"gate_weights": np.ones((60, 3, 5))}, r"gate_weights: float64 \(60, 3, 5\): must be floats"),
        ({"gate_weights": np.full((60, 3, 4), -0.5)}, "gate_weights: token 0, layer 0: -0.5"),
        ({"gate_weights": np.full((60, 3, 4), np.nan)}, "gate_weights: token 0, layer 0: nan"),
    ],
)
def test_defective_arrays_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as caught:
        small_trace(**change)
    assert len(caught.value.problems) == 1


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def good(**change: Any) -> bytes:
    trace = small_trace()
    return npz(**{"experts": trace.experts, "seq_lens": trace.seq_lens, "about": ABOUT, **change})


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return sys.exit, (99,)


def claiming(header: dict[str, Any], size: int | None = None) -> bytes:
    """An npz whose array `experts` has a header and little else."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    body = member.getvalue() + bytes(1000 if size is None else size)
    file = io.BytesIO(good())
    out = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in ("seq_lens.npy", "about.npy"):
            new.writestr(name, old.read(name))
        new.writestr("experts.npy", body)
    return out.getvalue()


def flipped() -> bytes:
    content = bytearray(good())
    content[200] ^= 0xFF
    return bytes(content)


HUGE = {"descr": "|u1", "fortran_order": False, "shape": (1 << 31, 1, 1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"garbage" * 100, "not a trace, or damaged"),
        (good()[:-40], "not a trace, or damaged"),
        (good()[:200], "not a trace, or damaged"),
        (flipped(), "damaged|unreadable"),
        (npz(experts=np.zeros(3), about=ABOUT), "seq_lens: missing; the file has experts"),
        (npz(experts=np.zeros(3)), "no trace in the native form: .*epsim trace import"),
        (good(experts=np.array([Malicious()], dtype=object)), r"experts: \|O: must be little-endian integers"),
        (good(experts=np.zeros((60, 3, 4), dtype=">i2")), "experts: >i2: must be little-endian integers"),
        (good(experts=np.full((60, 3, 4), np.nan)), "experts: <f8"),
        (good(about=np.zeros(1)), "about: <f8: must be text"),
        (good(about="["), "about: not JSON"),
        (good(about="[]"), "about: must be a JSON object"),
        (good(about="{}"), "about.model: missing"),
        (good(about='{"model": "tiny", "routed_experts": "16"}'), "about.routed_experts: '16'"),
        (good(about='{"model": "tiny", "routed_experts": NaN}'), "about.routed_experts: nan"),
        (good(about='{"model": "tiny", "routed_experts": true}'), "about.routed_experts: True"),
        (claiming(HUGE), "claims 2147483648 bytes"),
        (claiming({**HUGE, "shape": (1 << 62, 1 << 62, 4)}), "which the file does not hold"),
        (b"PAR1" + bytes(100), "not a trace, or damaged"),
    ],
)
def test_defective_files_are_one_line_each(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_trace(path)
    assert all(problem.startswith(f"{path}: ") and "\n" not in problem for problem in caught.value.problems)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    size = 64 << 20
    path = tmp_path / "t.npz"
    path.write_bytes(claiming({**HUGE, "shape": (size, 1, 1)}, size))
    tracemalloc.start()
    try:
        with pytest.raises(WorkloadError, match="claims 67108864 bytes"):
            read_trace(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def table(change: Callable[[dict[str, Any]], None]) -> Any:
    trace = small_trace()
    ids = pa.array(trace.experts.astype(np.uint16).ravel())
    parts: dict[str, Any] = {
        "sequence": pa.array(np.repeat(np.arange(4, dtype=np.int32), trace.seq_lens)),
        "experts": pa.FixedSizeListArray.from_arrays(ids, 12),
        "metadata": {b"epsim": ABOUT.encode(), b"top_k": b"4"},
    }
    change(parts)
    metadata = parts.pop("metadata")
    return pa.table(parts).replace_schema_metadata(metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("experts"), "experts: None: must be a fixed-size list"),
        (lambda p: p.update(sequence=pa.array(np.zeros(60))), "sequence: double: must be int32"),
        (lambda p: p.update(sequence=pa.array(np.full(60, 1, dtype=np.int32))), "must count up from 0"),
        (lambda p: p.update(sequence=pa.array([None] * 60, pa.int32())), "empty cells"),
        (lambda p: p.update(metadata={}), "epsim: missing"),
        (lambda p: p.update(metadata={b"epsim": b"{}"}), "top_k missing"),
        (lambda p: p.update(metadata={b"epsim": b"{}", b"top_k": b"5"}), "12 ids per token"),
        (lambda p: p.update(metadata={b"top_k": b"4"}), "epsim: missing"),
        (lambda p: p.update(metadata={b"epsim": b"{}", b"top_k": b"4"}), "about.model: missing"),
        (lambda p: p.update({key: p[key][:0] for key in ("sequence", "experts")}), "empty"),
    ],
)
def test_defective_parquet_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table(change), path)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_trace(path)
    assert all("\n" not in problem for problem in caught.value.problems)


def test_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_trace(small_trace(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WorkloadError, match="not a trace, or damaged"):
        read_trace(path)


def test_a_directory_or_nothing_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="Is a directory"):
        read_trace(tmp_path)
    with pytest.raises(WorkloadError, match="No such file"):
        read_trace(tmp_path / "nothing")


def test_a_trace_of_another_model_is_refused() -> None:
    check_model(small_trace(), "tiny", 3, 16, 4)
    with pytest.raises(WorkloadError) as caught:
        check_model(small_trace(), "deepseek-v3", 58, 256, 8)
    (line,) = caught.value.problems
    assert "3 MoE layers x 16 experts x top-4" in line
    assert "58 MoE layers x 256 experts x top-8" in line


@pytest.mark.parametrize("tokens", [1, 9, 10, 37, 60, 61, 200])
def test_batches_are_whole_sequences_and_one_cut(tokens: int) -> None:
    trace = small_trace()
    drawn = resample(trace, tokens, 6, np.random.default_rng(0))
    assert (drawn.whole @ trace.seq_lens + drawn.cut_tokens == tokens).all()
    assert (np.ptp(drawn.whole, axis=1) <= 1).all()
    assert (drawn.cut_tokens < trace.seq_lens[drawn.cut_sequence]).all()


def tokens_of(trace: Trace, drawn: Any, batch: int) -> np.ndarray:
    starts = np.cumsum(trace.seq_lens) - trace.seq_lens
    rows = [
        np.arange(starts[s], starts[s] + trace.seq_lens[s])
        for s, times in enumerate(drawn.whole[batch])
        for _ in range(times)
    ]
    cut = starts[drawn.cut_sequence[batch]]
    return np.concatenate([*rows, np.arange(cut, cut + drawn.cut_tokens[batch])])


@pytest.mark.parametrize("tokens", [7, 60, 150])
def test_replayed_counts_and_copies_are_those_of_the_tokens(tokens: int) -> None:
    trace = small_trace()
    held = placement.random(3, 16, 8, np.random.default_rng(1), redundant=8)
    drawn = resample(trace, tokens, 3, np.random.default_rng(2))
    counts = trace_counts(trace, drawn)
    copies = trace_destinations(trace, drawn, held, 3)
    assert (counts.sum(axis=-1) == 4 * tokens).all()
    for batch in range(3):
        rows = tokens_of(trace, drawn, batch)
        for layer in range(3):
            to_rank, to_node = np.zeros(8), np.zeros(3)
            for row in rows:
                ranks = set()
                for expert in trace.experts[row, layer]:
                    slots = np.flatnonzero(held.slot_expert[layer].ravel() == expert)
                    ranks.add(int(slots[row % slots.size]) // held.slots)
                to_rank[list(ranks)] += 1
                to_node[list({rank // 3 for rank in ranks})] += 1
            expected = np.bincount(trace.experts[rows, layer].ravel(), minlength=16)
            assert np.array_equal(counts[batch, layer], expected)
            assert np.array_equal(copies.to_rank[batch, layer], to_rank)
            assert np.array_equal(copies.to_node[batch, layer], to_node)


def test_sequence_counts_add_up() -> None:
    trace = small_trace()
    counts = sequence_counts(trace)
    assert counts.sum(axis=(1, 2)).tolist() == (trace.seq_lens * 12).tolist()


def test_replay_refuses_nonsense() -> None:
    trace = small_trace()
    with pytest.raises(WorkloadError, match="tokens 0"):
        resample(trace, 0, 1, np.random.default_rng(0))
    drawn = resample(trace, 10, 1, np.random.default_rng(0))
    with pytest.raises(WorkloadError, match="2 layers x 16 experts: the trace has 3 x 16"):
        trace_destinations(trace, drawn, placement.contiguous(2, 16, 4), 1)
