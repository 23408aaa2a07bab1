"""Files written whole or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from simulator.errors import UserError


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write several files into `folder`, each under a temporary name first and then renamed.

    Raises
    ------
    UserError
        If the folder can't be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file stands where the results should go; give another --out folder")
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".epsim-", dir=folder))
        try:
            for name, data in contents.items():
                (staging / name).write_bytes(data)
            for name in contents:
                (staging / name).replace(folder / name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be written: {error.strerror}; give another folder") from None


def write_file(path: Path, data: bytes) -> None:
    """Write one file under a temporary name, then rename it.

    Raises
    ------
    UserError
        If it can't be written.
    """
    if path.is_dir():
        raise UserError(f"{path}: a directory; give a file name")
    write_folder(path.parent, {path.name: data})
