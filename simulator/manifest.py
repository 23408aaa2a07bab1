"""What a run wrote and what it rests on, as bytes that depend on the scenario alone."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version

from simulator.result import Result
from simulator.scenario import Scenario
from simulator.scenario_file import values

PACKAGES = ("epsim", "numpy", "scipy", "simpy", "networkx", "pydantic")


def result_bytes(result: Result) -> bytes:
    """Return the result as JSON."""
    return _json(result.model_dump(mode="json"))


def manifest_bytes(scenario: Scenario, result: Result) -> bytes:
    """Return scenario, digest, seed, versions and sources as JSON; no date, so that equal runs give equal bytes."""
    return _json(
        {
            "scenario": values(scenario),
            "digest": result.digest,
            "seed": result.seed,
            "fidelity": result.fidelity,
            "versions": {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES},
            "sources": [source.model_dump() for source in result.sources],
            "assumptions": list(result.assumptions),
            "warnings": list(result.warnings),
        }
    )


def package_version(name: str) -> str:
    """Return the installed version of a distribution, or 'not installed' (a checkout on the path)."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
