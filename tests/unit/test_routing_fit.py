import os
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.fit import fit, main, moments
from workloads.routing.spec import DEFAULT, RoutingStatistics, load_statistics, to_toml
from workloads.routing.trace import Trace

TRACES = Path(os.environ.get("EPSIM_TRACES", Path(__file__).parents[3] / "shared" / "traces"))
RECORDED = TRACES / "routing" / "deepseek-v2-lite-esft"


def drawn_traces(
    common: float, tasks: dict[str, float], sequence: float, depth: np.ndarray, rng: np.random.Generator
) -> dict[str, Trace]:
    """Draw tokens one by one from the model itself, with known spreads."""
    layers, experts, top_k, sequences, length = depth.size, 48, 5, 30, 40
    shared = common * rng.standard_normal((layers, experts))
    traces = {}
    for name, sigma in tasks.items():
        own = shared + sigma * rng.standard_normal((layers, experts))
        each = own + sequence * rng.standard_normal((sequences, layers, experts))
        score = np.repeat(depth[:, None] * each, length, axis=0)
        score += rng.gumbel(size=score.shape)
        chosen = np.argpartition(-score, top_k - 1, axis=-1)[..., :top_k]
        traces[name] = Trace(chosen, np.full(sequences, length), experts, "drawn")
    return traces


def test_known_spreads_are_found_again() -> None:
    depth = np.linspace(0.7, 1.3, 40)
    tasks = {"narrow": 0.5, "wide": 1.1}
    found = fit(drawn_traces(0.4, tasks, 0.3, depth, np.random.default_rng(0)))
    assert found.common_sigma == pytest.approx(0.4, abs=0.08)
    assert found.sequence_sigma == pytest.approx(0.3, abs=0.05)
    assert found.task_sigma == pytest.approx(tasks, abs=0.08)
    assert found.depth_profile == pytest.approx(np.linspace(0.7, 1.3, 5), abs=0.12)


def test_uniform_routing_has_no_spread() -> None:
    found = fit(drawn_traces(0, {"a": 0, "b": 0}, 0, np.ones(20), np.random.default_rng(1)))
    assert max(found.common_sigma, found.sequence_sigma, *found.task_sigma.values()) < 0.08


def test_sampling_noise_leaves_the_moments_alone() -> None:
    traces = drawn_traces(0, {"a": 0}, 0, np.ones(40), np.random.default_rng(2))
    found = moments(list(traces.values()))
    assert found.within_sequence.mean() == pytest.approx(1, abs=0.005)
    assert found.within_task.mean() == pytest.approx(1, abs=0.005)


def test_a_task_needs_two_sequences() -> None:
    trace = Trace(np.arange(8).reshape(4, 1, 2), np.array([4]), 8, "short")
    with pytest.raises(WorkloadError, match="1 sequences"):
        fit({"short": trace})


def test_statistics_survive_toml(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(to_toml(load_statistics()))
    assert load_statistics(path) == load_statistics()


def test_shipped_statistics_name_their_source() -> None:
    shipped = load_statistics()
    assert (shipped.layers, shipped.experts, shipped.top_k, shipped.tokens) == (26, 64, 6, 33279)
    assert "@" in shipped.source
    assert shipped.licence == "MIT"
    assert all(len(digest) == 64 for digest in shipped.files.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "not TOML"),
        (b"model = ", "not TOML"),
        (b"model = 'x'", "source: .*Field required"),
        (DEFAULT.read_bytes().replace(b"common_sigma = ", b"common_sigma = -"), "common_sigma: -"),
        (DEFAULT.read_bytes().replace(b'"law" = ', b'"law" = 1'), "task_sigma: .*between 0 and 10"),
        (DEFAULT.read_bytes().replace(b'"law" = ', b'"law" = nan #'), "task_sigma.law: nan"),
        (b"surprise = 1\n" + DEFAULT.read_bytes(), "surprise: 1: Extra inputs"),
    ],
)
def test_defective_statistics_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=message) as caught:
        load_statistics(path)
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    assert isinstance(load_statistics(), RoutingStatistics)


def test_command_refuses_an_empty_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "-o", str(tmp_path / "out.toml")])
    assert caught.value.code == 2
    assert "no <task>.npz files" in capsys.readouterr().err


@pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded traces absent: set EPSIM_TRACES")
def test_shipped_statistics_are_what_the_command_writes(tmp_path: Path) -> None:
    main([str(RECORDED), "-o", str(tmp_path / "again.toml")])
    again, shipped = load_statistics(tmp_path / "again.toml"), load_statistics()
    assert again.files == shipped.files
    assert again.task_sigma == pytest.approx(shipped.task_sigma, abs=2e-3)
    assert again.depth_profile == pytest.approx(shipped.depth_profile, abs=2e-3)
    assert (again.common_sigma, again.sequence_sigma) == pytest.approx(
        (shipped.common_sigma, shipped.sequence_sigma), abs=2e-3
    )
