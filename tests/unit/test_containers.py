"""Files of strangers: torch.save, safetensors, npy. Nothing is executed, nothing claimed is allocated."""

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.torch_writer import save_torch
from workloads.containers.numpy_file import INTEGERS, read_npy
from workloads.containers.safetensors_file import read_safetensors
from workloads.containers.torch_file import read_torch
from workloads.errors import WorkloadError

CONTENT = {
    "rank": 0,
    "numbers": [1, -5, 2**40, 300, 0.25, True, False, None],
    "text": "primary",
    "nested": ({"a": ()}, [["x"]]),
    "int32": np.arange(24, dtype=np.int32).reshape(2, 3, 4),
    "int64": np.array([-1, 2**40]),
    "half": np.array([[0.5]], dtype=np.float16),
    "flag": np.array([True, False]),
    "scalar": np.array(7, dtype=np.uint8),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return isinstance(found, np.ndarray) and found.dtype == wanted.dtype and np.array_equal(found, wanted)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return bool(found == wanted)


@pytest.mark.parametrize("order", ["<", ">"])
def test_plain_data_and_tensors_come_back(tmp_path: Path, order: str) -> None:
    path = save_torch(tmp_path / "t.pt", CONTENT, order)
    assert same(read_torch(path), CONTENT)


def test_what_torch_writes_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; the writer in tests stands for it")
    value = torch.arange(12, dtype=torch.int32).reshape(3, 4)
    content = {"t": value, "column": value.t()[1:], "bf": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "n": [1, 2]}
    torch.save(content, tmp_path / "t.pt")
    wanted = {
        "t": value.numpy(),
        "column": value.t()[1:].numpy(),
        "bf": np.array([1.5, -2.0], dtype=np.float32),
        "n": [1, 2],
    }
    assert same(read_torch(tmp_path / "t.pt"), wanted)


RAN: list[str] = []


class Malicious:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return RAN.append, ("executed",)


class Importing:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return __import__, ("antigravity",)


def archive(program: bytes, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("t/data.pkl", program)
        for name, content in members.items():
            file.writestr(f"t/data/{name}", content)
    return out.getvalue()


def tensor_program(shape: str, strides: str, numbers: int = 4, storage: str = "IntStorage") -> bytes:
    """A pickle of one tensor over storage 0."""

    def ints(text: str) -> bytes:
        return b"(" + b"".join(b"\x8a\x05" + int(n).to_bytes(5, "little") for n in text.split()) + b"t"

    reference = b"(X\x07\0\0\0storagectorch\n" + storage.encode() + b"\nX\x01\0\0\x000X\x03\0\0\0cpu"
    reference += b"J" + numbers.to_bytes(4, "little") + b"tQ"
    made = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"K\0" + ints(shape) + ints(strides)
    return made + b"\x89ccollections\nOrderedDict\n)RtR."


FOUR = np.arange(4, dtype="<i4").tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(pickle.dumps(Malicious(), 2)), "refused, and nothing was executed"),
        (archive(pickle.dumps({"x": [Malicious()]}, 4)), "refused, and nothing was executed"),
        (archive(pickle.dumps(Importing(), 2)), "names __builtin__ __import__: not needed"),
        (pickle.dumps(Malicious()), "a bare pickle"),
        (archive(b"\x80\x02K\x01"), "ends early|damaged|unreadable"),
        (archive(b"\x80\x02t."), "damaged"),
        (archive(b"\x80\x02K\x01K\x02a."), "damaged: TypeError items for int"),
        (archive(b"\x80\x02h\x07."), "damaged: KeyError"),
        (archive(tensor_program("2 2", "2 1"), **{"0": FOUR[:-4]}), "storage 0: claims 4 numbers, but has 3"),
        (archive(tensor_program("2 3", "3 1"), **{"0": FOUR}), "reaches beyond its storage of 4 numbers"),
        (archive(tensor_program("2147483648 1", "0 0"), **{"0": FOUR}), "claims 2147483648 numbers of a storage of 4"),
        (archive(tensor_program("2 2", "2 1", storage="ComplexFloatStorage"), **{"0": FOUR}), "names torch ComplexFl"),
        (archive(tensor_program("2 2", "2 1")), "data/0: missing"),
        (b"PK nonsense", "not a trace, or damaged"),
        (b"", "not a trace, or damaged"),
    ],
)
def test_hostile_or_damaged_torch_files_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.pt"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_torch(path)
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]
    assert RAN == []


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = save_torch(tmp_path / "t.pt", CONTENT).read_bytes()
    for length in range(0, len(whole) - 22, 97):
        (tmp_path / "t.pt").write_bytes(whole[:length])
        with pytest.raises(WorkloadError):
            read_torch(tmp_path / "t.pt")


def test_a_compressed_member_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "t.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("t/data.pkl", tensor_program("4", "1"))
        file.writestr("t/data/0", bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(WorkloadError, match="which the file does not hold"):
            read_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "I32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_safetensors_come_back(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(safetensors({"__metadata__": {"a": "b"}, "3_1": entry([2, 2], 0, 16)}, FOUR))
    (name,) = read_safetensors(path)
    assert name == "3_1"
    assert read_safetensors(path)[name].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "header claims 1099511627776 bytes"),
        (safetensors([]), "must be a JSON object"),
        (safetensors({"a": 3}), "a: header has no dtype"),
        (safetensors({"a": entry([2, 2], 0, 16, "BF16")}, FOUR), "a: BF16: must be one of"),
        (safetensors({"a": entry([1 << 31], 0, 1 << 33)}, FOUR), r"a: shape \[2147483648\]"),
        (safetensors({"a": entry([2, 2], 0, 16)}, FOUR[:-1]), "the file holds 15; truncated"),
    ],
)
def test_damaged_safetensors_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_safetensors(path)
    assert len(caught.value.problems) == 1


def test_an_npy_header_may_not_lie(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, np.arange(6).reshape(2, 3))
    assert read_npy(path, INTEGERS).tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(path.read_bytes().replace(b"(2, 3)", b"(1<<9)".replace(b"<<", b"e8")[:6]))
    with pytest.raises(WorkloadError):
        read_npy(path, INTEGERS)
    path.write_bytes(b"")
    with pytest.raises(WorkloadError):
        read_npy(path, INTEGERS)
    np.save(path, np.array([Malicious()], dtype=object), allow_pickle=True)
    with pytest.raises(WorkloadError, match=r"array: \|O: must be little-endian integers"):
        read_npy(path, INTEGERS)
    assert RAN == []
