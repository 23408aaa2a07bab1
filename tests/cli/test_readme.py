"""The README can't lie: its commands run, its command reference and its validation table are the current ones."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.cli.main import COMMANDS
from simulator.cli.reference import REFERENCE_MARK, VALIDATION_MARK, reference, rewritten, validation

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(?:console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIMIT_S = 120


def lines() -> list[str]:
    """Every command line of `epsim`, and what writes a file for one; `# not run` leaves one out."""
    found = []
    for block in BLOCK.findall(README.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ")
            if text.startswith(("epsim ", "printf ")) and not text.endswith("# not run"):
                found.append(text)
    return found


def test_every_command_is_documented() -> None:
    text = README.read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"epsim {name}" in text, name


def test_the_command_reference_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert rewritten(text, REFERENCE_MARK, reference()) == text, "run `make docs`"


def test_the_validation_table_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert rewritten(text, VALIDATION_MARK, validation()) == text, "run `make docs`"


def test_the_readme_has_commands_to_run() -> None:
    assert len(lines()) >= 5
    assert {shlex.split(line)[1] for line in lines() if line.startswith("epsim ")} <= set(COMMANDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all commands in order, with `epsim` on the path."""
    found = tmp_path_factory.mktemp("readme")
    command = found / "bin" / "epsim"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m simulator.cli.main "$@"\n')
    command.chmod(0o755)
    return found


@pytest.mark.parametrize("line", lines())
def test_commands_run(folder: Path, line: str) -> None:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(README.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or ">" in line
