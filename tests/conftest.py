"""What many tests share: small scenarios that run in milliseconds, and the command line in this process."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from simulator.cli.main import main
from simulator.scenario import Scenario
from simulator.scenario_file import apply_override, validate
from workloads.routing.trace import Trace, write_trace

ROOT = Path(__file__).parents[1]

# Four layers of DeepSeek-V2-Lite, one of them dense: 64 experts, top-6, 16 heads.
SMALL_MODEL = """
[model]
name = "deepseek-v2-lite"
layers = 4
dense_layers = 1
"""
SMALL = {
    "training": SMALL_MODEL
    + """
[cluster]
name = "h800-cluster"
chips = 16
[workload]
phase = "training"
sequence_tokens = 512
global_batch_sequences = 64
[plan]
pipeline = 2
expert = 8
""",
    "prefill": SMALL_MODEL
    + """
[cluster]
name = "h800-cluster"
[workload]
phase = "prefill"
sequence_tokens = 512
tokens_per_rank = 2048
[plan]
expert = 16
""",
    "decode": SMALL_MODEL
    + """
[cluster]
name = "h800-cluster"
[workload]
phase = "decode"
sequence_tokens = 1024
batch_per_rank = 16
[plan]
expert = 16
""",
}


class Outcome(NamedTuple):
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Rewrite tests/golden/*.json from this run.")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def small() -> Callable[..., Scenario]:
    """`small(phase, "key=value", ...)`: a validated small scenario."""

    def build(phase: str, *overrides: str) -> Scenario:
        table = tomllib.loads(SMALL[phase])
        for override in overrides:
            apply_override(table, override)
        return validate(table, phase)

    return build


@pytest.fixture
def small_file(tmp_path: Path) -> Callable[..., Path]:
    """`small_file(phase, extra="", name="small.toml")`: a small scenario as a file in `tmp_path`."""

    def write(phase: str, extra: str = "", name: str = "small.toml") -> Path:
        path = tmp_path / name
        path.write_text(extra + SMALL[phase], encoding="utf-8")
        return path

    return write


@pytest.fixture
def trace_file(tmp_path: Path) -> Callable[..., Path]:
    """`trace_file(suffix)`: a trace of 3 MoE layers x 64 experts x top-6 that fits the small model."""

    def write(suffix: str) -> Path:
        generator = np.random.default_rng(3)
        experts = generator.permuted(np.tile(np.arange(64), (96, 3, 1)), axis=-1)[..., :6]
        path = tmp_path / f"trace{suffix}"
        lengths = np.array([40, 56], dtype=np.int32)
        write_trace(Trace(experts.astype(np.int32), lengths, 64, "small", source="drawn in a test"), path)
        return path

    return write


@pytest.fixture
def epsim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`epsim("run", ...)`: the command line in this process, with `tmp_path` as the current folder.

    Anything but an orderly end of the process is an error of the test.
    """

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["epsim", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def epsim_process() -> Callable[..., "subprocess.CompletedProcess[bytes]"]:
    """`epsim_process(arguments, cwd, env)`: the command line in a process of its own; `before` is run there first."""

    def call(
        arguments: Sequence[str | Path],
        cwd: Path,
        env: Mapping[str, str] | None = None,
        before: str = "",
        timeout_s: float = 120.0,
    ) -> "subprocess.CompletedProcess[bytes]":
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        program = f"{before}\nfrom simulator.cli.main import main\nmain()"
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )

    return call
