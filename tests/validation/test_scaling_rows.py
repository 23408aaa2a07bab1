"""Published strong scaling: efficiency of large sizes against small ones."""

from typing import Any

import pytest

from simulator.validation.replay import replay
from simulator.validation.tables import shipped_rows

ROW = next(row for row in shipped_rows("scaling") if row["id"] == "mlm21-scaling-529.6B-2240")


def one(**cells: str) -> dict[str, Any]:
    return {str(k): v for k, v in replay([ROW | cells], "scaling").to_dict("records")[0].items()}


def test_measured_efficiencies_are_met_within_three_points() -> None:
    rows = [row for row in shipped_rows("scaling") if row["metric_norm"] == "scaling_efficiency"]
    found = replay(rows, "scaling")
    assert len(found) == 4
    assert (found["predicted"] - found["measured"]).abs().max() < 0.03


def test_an_efficiency_is_the_ratio_of_two_runs() -> None:
    rate = {"metric_norm": "tokens_per_s_per_chip", "dp": ""}
    large, small = (one(chips=chips, **rate)["predicted"] for chips in ("2240", "560"))
    assert one()["predicted"] == pytest.approx(large / small)
    assert one(chips="560")["predicted"] == pytest.approx(1.0)


def test_columns_of_scaling_tables_mean_the_same() -> None:
    other = {"seq_len_norm": "", "precision_norm": "", "input_len": ROW["seq_len_norm"], "precision": "FP16"}
    assert one(**other)["predicted"] == one()["predicted"]


def test_an_efficiency_needs_its_baseline() -> None:
    assert one(baseline_chips="")["status"] == "unsupported: missing: baseline_chips"
