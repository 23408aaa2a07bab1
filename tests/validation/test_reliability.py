"""Published goodput and mean times to failure, from failure rates and recovery times alone."""

import os
from pathlib import Path
from typing import Any

import pytest

from simulator.validation.replay import replay
from simulator.validation.tables import area_of, load_rows, shipped_rows

SHARED = Path(os.environ.get("EPSIM_MEASURED", Path(__file__).parents[3] / "shared" / "measured")) / "reliability.csv"


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict[str, Any]]:
    frame = replay(shipped_rows("reliability"), "reliability")
    return {str(row["id"]): {str(k): v for k, v in row.items()} for row in frame.to_dict("records")}


def test_every_shipped_row_is_predicted(shipped: dict[str, dict[str, Any]]) -> None:
    assert {row["status"] for row in shipped.values()} == {"predicted"}


@pytest.mark.parametrize("name", ["llama3-eff", "rsc-ettr60", "rsc-ettr5", "megascale-eff", "byterobust-ettr"])
def test_goodput_comes_within_ten_percent(shipped: dict[str, dict[str, Any]], name: str) -> None:
    assert abs(shipped[name]["error"]) < 0.10


def test_shorter_checkpoint_intervals_raise_goodput_as_published(shipped: dict[str, dict[str, Any]]) -> None:
    gain = shipped["rsc-ettr5"]["predicted"] - shipped["rsc-ettr60"]["predicted"]
    assert gain == pytest.approx(0.93 - 0.70, abs=0.05)


def test_large_errors_have_a_likely_cause(shipped: dict[str, dict[str, Any]]) -> None:
    assert all(row["cause"] for row in shipped.values() if abs(row["error"]) > 0.25)


def one(**cells: str) -> dict[str, Any]:
    row = {"id": "x", "system": "mine", "chips": "1000", "metric": "goodput", "value": "0.9", "unit": "ratio"} | cells
    return {str(k): v for k, v in replay([row], "reliability").to_dict("records")[0].items()}


def test_a_table_of_ones_own_may_state_rate_and_times() -> None:
    stated = {"failures_per_chip_hour": "1e-5", "detection_s": "0", "restart_s": "0", "checkpoint": "synchronous"}
    assert one(**stated)["predicted"] > one()["predicted"]
    assert one(metric="MTTF", unit="hours", value="100", **stated)["error"] == pytest.approx(0.0)
    assert "fleet" not in one(**stated)["defaults"]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"metric": "jobs"}, "metric 'jobs'"),
        ({"unit": "weeks"}, "unit 'weeks'"),
        ({"chips": ""}, "missing: chips"),
        ({"fleet": "llama3"}, "did you mean 'llama-3'"),
        ({"checkpoint": "never"}, "checkpoint: Input should be"),
        ({"restart_s": "-4"}, "restart_s = -4"),
    ],
)
def test_rows_that_can_not_be_built_say_why(cells: dict[str, str], said: str) -> None:
    assert said in one(**cells)["status"]


@pytest.mark.skipif(not SHARED.exists(), reason="no table of published reliability beside the checkout")
def test_the_whole_table_is_read() -> None:
    rows = load_rows(SHARED)
    assert area_of(rows, str(SHARED)) == "reliability"
    found = replay(rows, "reliability")
    assert (found["status"] == "predicted").sum() >= 12
    assert not found["status"].str.startswith("failed").any()
