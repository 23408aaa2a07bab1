"""The same scenario and seed give the same bytes: whatever the hash seed, the process and their number."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Files = Callable[..., Path]
PHASES = ("training", "prefill", "decode")
PROGRAM = """
import json, sys
from simulator.cli.main import main
for command in json.loads(sys.argv.pop()):
    sys.argv[1:] = command
    main()
"""


def written(commands: list[list[str]], cwd: Path, root: Path, hash_seed: int) -> dict[str, bytes]:
    """Run commands in one fresh process; return what they wrote and printed."""
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        check=True,
        timeout=120,
    )
    found = {str(file.relative_to(cwd)): file.read_bytes() for file in cwd.rglob("*") if file.is_file()}
    return {"standard output": done.stdout, **found}


@pytest.fixture
def folders(tmp_path: Path, small_file: Files) -> list[Path]:
    """Two folders with the same scenarios."""
    texts = {phase: small_file(phase).read_bytes() for phase in PHASES}
    found = [tmp_path / name for name in ("first", "second")]
    for folder in found:
        folder.mkdir()
        for phase, text in texts.items():
            (folder / f"{phase}.toml").write_bytes(text)
    return found


def test_runs_are_byte_identical_under_any_hash_seed(folders: list[Path], root: Path) -> None:
    commands = [
        ["run", f"{phase}.toml", "--set", f"fidelity={fidelity}", "--set", "seed=3", "--out", f"{phase}-{fidelity}"]
        for phase in PHASES
        for fidelity in ("analytic", "des")
    ]
    first, second = (written(commands, folder, root, seed) for folder, seed in zip(folders, (0, 12345), strict=True))
    assert len(first) == 1 + len(PHASES) + 3 * len(commands)
    assert {Path(name).name for name in first} >= {"result.json", "manifest.json", "breakdown.png"}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_sweeps_are_byte_identical_serial_and_parallel(folders: list[Path], root: Path) -> None:
    def sweep(jobs: str) -> list[list[str]]:
        axes = ["--over", "plan.expert=8,7,16", "--over", "routing.kind=fitted,uniform"]
        return [["sweep", "decode.toml", "prefill.toml", *axes, "--jobs", jobs, "--out", "o"]]

    serial, parallel = (
        written(sweep(jobs), folder, root, seed) for folder, jobs, seed in zip(folders, "12", (1, 2), strict=True)
    )
    assert {Path(name).name for name in serial} >= {"rows.csv", "rows.parquet", "scaling.png", "scaling.svg"}
    assert serial.keys() == parallel.keys()
    assert [name for name in serial if serial[name] != parallel[name]] == []
