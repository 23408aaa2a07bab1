"""Writes what torch.save writes, without torch: a zip of a protocol-2 pickle and raw storages.

Checked against torch itself where that is installed (tests/unit/test_containers.py).
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "i2": "ShortStorage",
    "i1": "CharStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}


class _Global:
    """Stands for a function of torch, so that the pickle names it."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments


class _Storage:
    def __init__(self, array: np.ndarray, key: str) -> None:
        self.array, self.key = array, key


class _Pickler(pickle._Pickler):  # the Python one, whose opcodes can be chosen
    def __init__(self, file: io.BytesIO, storages: list[np.ndarray]) -> None:
        super().__init__(file, protocol=2)
        self.storages = storages

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, np.ndarray):
            self.storages.append(obj)
            strides = tuple(stride // obj.itemsize for stride in np.empty(obj.shape, obj.dtype).strides)
            storage = _Storage(obj, str(len(self.storages) - 1))
            hooks = _Call(_Global("collections", "OrderedDict"), ())
            obj = _Call(_Global("torch._utils", "_rebuild_tensor_v2"), (storage, 0, obj.shape, strides, False, hooks))
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, _Storage):
            kind = STORAGES[np.dtype(obj.array.dtype).str[1:]]
            self.save(("storage", _Global("torch", kind), obj.key, "cpu", obj.array.size))
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def save_torch(path: Path, content: Any, order: str = "<") -> Path:
    """Write `content` (dicts, lists, numbers, text, arrays) as torch.save does; returns the path."""
    storages: list[np.ndarray] = []
    program = io.BytesIO()
    _Pickler(program, storages).dump(content)
    prefix = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(f"{prefix}/data.pkl", program.getvalue())
        file.writestr(f"{prefix}/byteorder", "little" if order == "<" else "big")
        for key, array in enumerate(storages):
            swapped = array.astype(array.dtype.newbyteorder(order))
            file.writestr(f"{prefix}/data/{key}", swapped.tobytes())
        file.writestr(f"{prefix}/version", "3\n")
    return path
