"""Shipped scenarios give the numbers that were reviewed; `pytest tests/golden --update-golden` rewrites them."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.run import run
from simulator.scenario_file import load_scenario

HERE = Path(__file__).parent
DIGITS = 9
WORDS = {"digest", "sources", "assumptions"}  # change with every key and sentence that is added
SCENARIOS = {
    "dsv3-train-h800": [],
    "dsv3-prefill-910b": [],
    "dsv3-decode-cloudmatrix384": ["fidelity=des"],
}


def rounded(value: Any) -> Any:
    """Keep nine significant digits, so that a change of the last bit changes nothing."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """Return leaves by path."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, entry in entries for path, leaf in flat(entry, f"{place}/{key}").items()}
    return {place: value}


@pytest.mark.parametrize("name", SCENARIOS)
def test_results_are_as_reviewed(name: str, request: pytest.FixtureRequest) -> None:
    result = run(load_scenario(name, SCENARIOS[name]))
    found = rounded(result.model_dump(mode="json", exclude=WORDS))
    path = HERE / f"{name}.json"
    if request.config.getoption("--update-golden"):
        path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    wanted, got = flat(json.loads(path.read_text(encoding="utf-8"))), flat(found)
    assert got.keys() == wanted.keys()
    wrong = {
        place: f"{wanted[place]} -> {value}"
        for place, value in got.items()
        if value != (pytest.approx(wanted[place], rel=1e-7, abs=1e-12) if isinstance(value, float) else wanted[place])
    }
    assert wrong == {}, "if the change is meant, run pytest tests/golden --update-golden and review the difference"
