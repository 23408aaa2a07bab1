"""Tensors, lists and numbers out of a file that torch.save wrote, without torch.

The format is a zip of raw storages and a pickle that puts them together. The pickle is never run: its opcodes are
listed by `pickletools` and those that build lists, dicts, numbers and tensors are carried out here, on plain data; any
other opcode, and any name but torch's own for tensors, refuses the file.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.containers.numpy_file import one_line
from workloads.errors import WorkloadError

_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # widened to float32 when a tensor is made
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_REBUILD = {"torch._utils _rebuild_tensor_v2", "torch_npu.utils.storage _rebuild_npu_tensor"}
_DICT = "collections OrderedDict"
_LITERAL = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}


class _Name(NamedTuple):
    """What a pickle calls a function or class: text, never the thing itself."""

    text: str


class _Storage(NamedTuple):
    values: NDArray[Any]
    is_bfloat16: bool


def read_torch(path: Path) -> Any:
    """Read what torch.save wrote: dicts, lists, tuples, text, numbers, and tensors as arrays.

    Raises
    ------
    WorkloadError
        If the file is damaged, of torch before 1.6, or needs anything but plain data and tensors.
    """
    with one_line():
        with path.open("rb") as file:
            start = file.read(2)
        if start[:1] == b"\x80":
            raise WorkloadError("a bare pickle, as torch wrote before 1.6: not read; save it again with a newer torch")
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path.stat().st_size)


def _read(archive: zipfile.ZipFile, size: int) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    programs = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise WorkloadError("no data.pkl in it: not written by torch.save")
    prefix = programs[0].removesuffix("data.pkl")

    def member(name: str) -> bytes:
        entry = entries.get(prefix + name)
        if entry is None:
            raise WorkloadError(f"{name}: missing; the file is damaged")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise WorkloadError(f"{name}: claims {entry.file_size} bytes, which the file does not hold")
        return archive.read(entry)

    order = ">" if prefix + "byteorder" in entries and member("byteorder") == b"big" else "<"

    def storage(reference: Any) -> _Storage:
        kind, name, key, _, numbers = reference
        dtype = _STORAGES.get(name.text.removeprefix("torch ")) if isinstance(name, _Name) else None
        if kind != "storage" or dtype is None:
            raise WorkloadError(f"storage {name}: must be one of {', '.join(_STORAGES)}")
        values = np.frombuffer(member(f"data/{key}"), np.dtype(order + dtype))
        if values.size != numbers:
            raise WorkloadError(f"storage {key}: claims {numbers} numbers, but has {values.size}")
        return _Storage(
            values.astype(values.dtype.newbyteorder("="), copy=False), name.text.endswith("BFloat16Storage")
        )

    try:
        return _evaluate(member("data.pkl"), storage)
    except (IndexError, KeyError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, WorkloadError):
            raise
        raise WorkloadError(f"data.pkl: damaged: {type(error).__name__} {error}") from error


class _Machine:
    """The stack, marks and memo that a pickle's opcodes work on."""

    def __init__(self, storage: Callable[[Any], _Storage]) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[Any, Any] = {}
        self.storage = storage

    def marked(self) -> list[Any]:
        """Return what was put since the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def taken(self, number: int) -> list[Any]:
        """Take the topmost items off."""
        items = self.stack[-number:]
        if len(items) < number:
            raise IndexError("stack")
        del self.stack[-number:]
        return items

    def push(self, item: Any) -> None:
        self.stack.append(item)

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def keep(self, argument: Any) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError(f"items for {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise TypeError(f"keys for {type(self.stack[-1]).__name__}")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


_Action = Callable[[_Machine, Any], None]
_ACTIONS: dict[str, _Action] = {
    **dict.fromkeys(_LITERAL, lambda machine, argument: machine.push(argument)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda machine, argument: machine.keep(argument)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, argument: machine.push(machine.memo[argument])),
    "PROTO": lambda machine, argument: None,
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_TUPLE": lambda machine, argument: machine.push(()),
    "NONE": lambda machine, argument: machine.push(None),
    "NEWTRUE": lambda machine, argument: machine.push(True),
    "NEWFALSE": lambda machine, argument: machine.push(False),
    "MARK": lambda machine, argument: machine.mark(),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, argument: machine.push(tuple(machine.taken(1))),
    "TUPLE2": lambda machine, argument: machine.push(tuple(machine.taken(2))),
    "TUPLE3": lambda machine, argument: machine.push(tuple(machine.taken(3))),
    "APPEND": lambda machine, argument: machine.extend(machine.taken(1)),
    "APPENDS": lambda machine, argument: machine.extend(machine.marked()),
    "SETITEM": lambda machine, argument: machine.update(machine.taken(2)),
    "SETITEMS": lambda machine, argument: machine.update(machine.marked()),
    "GLOBAL": lambda machine, argument: machine.push(_name(argument)),
    "BINPERSID": lambda machine, argument: machine.push(machine.storage(machine.stack.pop())),
    "REDUCE": lambda machine, argument: machine.push(_build(*machine.taken(2))),
}


def _evaluate(program: bytes, storage: Callable[[Any], _Storage]) -> Any:
    """Carry out the opcodes that build plain data."""
    machine = _Machine(storage)
    for opcode, argument, _ in pickletools.genops(io.BytesIO(program)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        action = _ACTIONS.get(opcode.name)
        if action is None:
            raise WorkloadError(f"data.pkl: {opcode.name}: not needed for tensors; refused, and nothing was executed")
        action(machine, argument)
    raise WorkloadError("data.pkl: ends early")


def _name(text: str) -> _Name:
    if text not in _REBUILD and text != _DICT and text.removeprefix("torch ") not in _STORAGES:
        raise WorkloadError(f"data.pkl: names {text}: not needed for tensors; refused, and nothing was executed")
    return _Name(text)


def _build(name: Any, arguments: Any) -> Any:
    """Return what the named constructor would, of those that `_name` lets pass."""
    if name == _Name(_DICT) and arguments == ():
        return {}
    if not isinstance(name, _Name) or name.text not in _REBUILD:
        raise WorkloadError(f"data.pkl: calls {name}: not needed for tensors; refused, and nothing was executed")
    held, offset, shape, strides, *_ = arguments
    numbers = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides), default=0) < 0 or (numbers and (last >= held.values.size)):
        raise WorkloadError(f"tensor of shape {shape}: reaches beyond its storage of {held.values.size} numbers")
    if numbers > held.values.size:
        raise WorkloadError(f"tensor of shape {shape}: claims {numbers} numbers of a storage of {held.values.size}")
    width = held.values.itemsize
    tensor = np.lib.stride_tricks.as_strided(held.values[offset:], shape, [stride * width for stride in strides])
    if held.is_bfloat16:
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.copy()
