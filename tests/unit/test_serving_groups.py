"""Errors of serving in groups: in time whatever was measured, with the order of configurations."""

import pytest
from scipy.stats import spearmanr

from reports.serving_errors import serving_errors_table
from reports.text import render
from simulator.validation.replay import replay_each
from simulator.validation.serving_groups import left_out_reasons, rank_correlation, serving_errors, time_error
from simulator.validation.tables import shipped_rows


def row(predicted, measured, metric="tpot_ms", source="aiconfigurator silicon", system="b200 service"):
    status = "predicted" if predicted else "skipped: missing: batch_per_rank"
    return {
        "predicted": predicted,
        "measured": measured,
        "metric": metric,
        "source": source,
        "system": system,
        "status": status,
    }


def test_a_rate_twice_as_high_is_half_the_time():
    assert time_error(row(2000.0, 1000.0, "tokens_per_s_per_chip")) == -0.5
    assert time_error(row(20.0, 10.0)) == 1.0


def test_groups_count_errors_order_and_what_is_left_out():
    rows = [row(10.0 * k, 11.0 * k) for k in range(1, 6)] + [row(None, 5.0), row(9.0, 10.0, system="h200 service")]
    first, second = serving_errors(rows)
    assert (first["rows"], first["left_out"], second["rows"]) == (5, 1, 1)
    assert first["mean"] == pytest.approx(1 / 11)
    assert first["order"] == pytest.approx(1.0)
    assert (first["aim"], first["met"]) == (0.15, True)
    assert second["order"] is None
    assert left_out_reasons(rows) == [("skipped: missing: batch_per_rank", 1)]


def test_a_wrong_order_misses_the_aim_however_small_the_error():
    predicted = (1.02, 1.01, 1.0, 1.03)
    rows = [row(each, measured) for each, measured in zip(predicted, (1.0, 1.01, 1.02, 1.03), strict=True)]
    assert serving_errors(rows)[0]["met"] is False


def test_rank_correlation_is_spearmans_with_ties():
    predicted, measured = [3.0, 1.0, 2.0, 2.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    rows = [row(each, other) for each, other in zip(predicted, measured, strict=True)]
    assert rank_correlation(rows) == pytest.approx(spearmanr(predicted, measured)[0])
    assert rank_correlation([row(1.0, 2.0)] * 5) is None


def test_a_group_without_prediction_is_not_listed_and_the_table_fits():
    assert serving_errors([row(None, 5.0)]) == []
    table = serving_errors_table(serving_errors([row(1.0, 2.0)]), [("skipped: " + "long " * 40, 3)])
    assert max(map(len, render(table).splitlines())) <= 100


def test_rows_of_an_engine_run_with_its_published_kernels():
    rows = {row["id"]: row for row in shipped_rows("inference")}
    ours = rows["sgl-h100-prefill-2048"]
    others = {**ours, "engine": "SGLang 2030-01-01"}
    known, other = (next(iter(replay_each([each], "inference"))) for each in (ours, others))
    assert "kernels = as published" in known["defaults"]
    assert "kernels" not in other["defaults"]
    assert known["predicted"] < other["predicted"]
