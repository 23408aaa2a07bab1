import json
from collections.abc import Callable

import pytest

from simulator.manifest import PACKAGES, manifest_bytes, package_version, result_bytes
from simulator.result import PARTS
from simulator.run import run
from simulator.scenario import Scenario
from simulator.scenario_file import digest, validate

Small = Callable[..., Scenario]


@pytest.mark.parametrize("phase", ["training", "prefill", "decode"])
def test_the_manifest_says_what_a_run_rests_on(small: Small, phase: str) -> None:
    scenario = small(phase, "seed=11")
    result = run(scenario)
    manifest = json.loads(manifest_bytes(scenario, result))
    assert manifest["seed"] == 11
    assert manifest["digest"] == digest(scenario) == result.digest
    assert manifest["fidelity"] == "analytic"
    assert validate(manifest["scenario"], "manifest") == scenario
    assert set(manifest["versions"]) == {"python", *PACKAGES}
    kinds = {source["kind"] for source in manifest["sources"]}
    assert {"datasheet", "fitted"} <= kinds
    assert all(source["what"] and source["source"] for source in manifest["sources"])
    assert manifest["assumptions"]


def test_every_part_of_the_machine_and_the_routing_has_its_source(small: Small) -> None:
    result = run(small("training"))
    whats = " ".join(source.what for source in result.sources)
    for word in ("DeepSeek-V2-Lite", "device memory", "peak arithmetic rate", "layout", "port rate", "routing"):
        assert word in whats
    assert len({(source.what, source.source) for source in result.sources}) == len(result.sources)


@pytest.mark.parametrize(("kind", "evidence"), [("fitted", "fitted"), ("uniform", "assumed"), ("balanced", "assumed")])
def test_the_routing_source_follows_its_kind(small: Small, kind: str, evidence: str) -> None:
    result = run(small("decode", f"routing.kind={kind}"))
    (source,) = (source for source in result.sources if source.what.startswith("routing"))
    assert source.kind == evidence


def test_a_trace_is_named_as_the_source(small: Small, trace_file: Callable[..., object]) -> None:
    result = run(small("decode", "routing.kind=trace", f"routing.trace={trace_file('.npz')}"))
    (source,) = (source for source in result.sources if source.what.startswith("routing"))
    assert source.kind == "trace"
    assert source.source == "drawn in a test"


def test_the_result_as_json(small: Small) -> None:
    result = run(small("decode"))
    data = json.loads(result_bytes(result))
    assert list(data["breakdown_s"]) == sorted(PARTS)
    assert data["step_s"] == result.step_s
    assert data["ttft_s"] is None
    assert result_bytes(result).endswith(b"}\n")
    assert type(result).model_validate_json(result_bytes(result)) == result


def test_an_unknown_distribution_has_no_version() -> None:
    assert package_version("no-such-distribution-of-ours") == "not installed"
