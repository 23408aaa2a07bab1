"""The wheel holds everything that a run needs, and runs outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = (".toml", ".csv", ".npz", ".typed")
PACKAGES = ("simulator", "topologies", "workloads", "reports")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build", reason="builds the wheel")
    pytest.importorskip("hatchling", reason="builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("epsim-*-py3-none-any.whl")
    return found


def test_the_wheel_holds_code_and_data_of_the_four_packages_alone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (*DATA, ".py") and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert any(name.endswith("chips/h800.toml") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {*PACKAGES, "epsim"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 3_000_000


def test_the_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """A clean environment of its own; only the dependencies are borrowed from this one."""
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    python = place / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, str(wheel)], check=True, timeout=120)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    own = next((place / "lib").glob("python*/site-packages"))
    (own / "borrowed.pth").write_text("\n".join(borrowed))

    def epsim(*arguments: str) -> str:
        done = subprocess.run(
            [place / "bin" / "epsim", *arguments],
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert epsim("--version").startswith("epsim 0.")
    assert "throughput" in epsim("run", "dsv3-decode-cloudmatrix384", "--out", "results")
    assert (tmp_path / "results" / "manifest.json").is_file()
    where = subprocess.run(
        [python, "-c", "import simulator, workloads; print(simulator.__path__[0], workloads.__path__[0])"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert all(path.startswith(str(place)) for path in where.stdout.split())
