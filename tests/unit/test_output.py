import os
from pathlib import Path

import pytest

from simulator.errors import UserError
from simulator.output import write_file, write_folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_written_into_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write_folder(folder, {"x.json": b"1", "y.json": b"2"})
    assert files(folder) == ["x.json", "y.json"]
    assert (folder / "y.json").read_bytes() == b"2"


def test_a_second_run_replaces_its_files_and_leaves_others(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    write_folder(tmp_path, {"x": b"old"})
    write_folder(tmp_path, {"x": b"new"})
    assert (tmp_path / "x").read_bytes() == b"new"
    assert files(tmp_path) == ["mine.txt", "x"]


def test_a_failure_half_way_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"x": b"old", "y": b"old"})
    write_bytes = Path.write_bytes

    def full_disk(path: Path, data: bytes) -> int:
        if path.name == "y":
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        write_folder(tmp_path, {"x": b"new", "y": b"new"})
    assert (tmp_path / "x").read_bytes() == b"old"
    assert files(tmp_path) == ["x", "y"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for folder in (taken, taken / "below"):
        with pytest.raises(UserError, match="taken"):
            write_folder(folder, {"x": b""})
    assert taken.read_text() == "mine"


def test_a_single_file(tmp_path: Path) -> None:
    write_file(tmp_path / "new" / "rows.csv", b"a\n")
    assert (tmp_path / "new" / "rows.csv").read_bytes() == b"a\n"
    with pytest.raises(UserError, match="directory"):
        write_file(tmp_path / "new", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="can't be written"):
        write_folder(tmp_path / "out", {"x": b""})
