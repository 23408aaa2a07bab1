import os
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace, write_counts
from workloads.routing.fit import fit
from workloads.routing.fit_files import fit_files
from workloads.routing.moments import moments
from workloads.routing.preferences import preferences
from workloads.routing.sample import sample_tokens
from workloads.routing.spec import DEFAULT, RoutingStatistics, load_statistics, to_toml
from workloads.routing.trace import Trace, write_trace

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


def sampled(link: float, persistence: float) -> Trace:
    """Sample a small model's tokens with known ties."""
    changes = {"link": (link,), "persistence": (persistence,), "task_sigma": {"a": 0.8}}
    statistics = load_statistics().model_copy(update=changes)
    rng = np.random.default_rng(7)
    model = preferences(statistics, 6, 32, 4, rng)
    lens = np.full(40, 100)
    return Trace(sample_tokens(model, lens, rng), lens, 32, "drawn")


def test_known_ties_are_found_again() -> None:
    found = fit({"a": sampled(0.7, 0.25)})
    assert np.mean(found.persistence) == pytest.approx(0.25, abs=0.03)
    assert np.mean(found.link) == pytest.approx(0.7, abs=0.1)
    loose = fit({"a": sampled(0.0, 0.0)})
    assert max(loose.persistence) < 0.04
    assert np.mean(loose.link) < 0.15


def test_loads_alone_tell_popularity_alone(tmp_path: Path) -> None:
    traces = drawn_traces(0.4, {"narrow": 0.5, "wide": 1.1}, 0.0, np.ones(8), np.random.default_rng(4))
    paths = []
    for task, trace in traces.items():
        counts = np.stack([np.bincount(layer.ravel(), minlength=48) for layer in trace.experts.swapaxes(0, 1)])
        paths.append(tmp_path / f"{task}.npz")
        write_counts(CountTrace(100 * counts[None], "counted", top_k=5), paths[-1])
    found = fit_files(paths, {})
    assert found.task_sigma == pytest.approx({"narrow": 0.5, "wide": 1.1}, abs=0.15)
    assert set(found.assumed) == {"sequence_sigma", "persistence", "link", "cold"}
    assert found.link == load_statistics().link


def test_files_of_different_models_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for name, experts in (("a", 16), ("b", 8)):
        ids = np.argsort(rng.random((60, 2, experts)), axis=-1)[..., :2]
        paths.append(tmp_path / f"{name}.npz")
        write_trace(Trace(ids, np.array([30, 30]), experts, "m"), paths[-1])
    with pytest.raises(WorkloadError, match=r"b: each token's experts of m .*x 8 experts.* but a is"):
        fit_files(paths, {})


@pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded traces absent: set EPSIM_TRACES")
def test_shipped_statistics_are_what_the_command_writes() -> None:
    shipped = load_statistics()
    about = {"model": shipped.model, "routed_experts": 64, "source": shipped.source, "licence": shipped.licence}
    again = fit_files([RECORDED / f"{task}.npz" for task in shipped.task_sigma], about)
    assert again.files == shipped.files
    assert again.recorded == shipped.recorded
    assert again.task_sigma == pytest.approx(shipped.task_sigma, abs=2e-3)
    for name in ("depth_profile", "persistence", "link", "cold", "common_sigma", "sequence_sigma"):
        assert getattr(again, name) == pytest.approx(getattr(shipped, name), abs=2e-3)
