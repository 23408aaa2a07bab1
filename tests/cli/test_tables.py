"""What commands print: tables of at most 100 columns, JSON that parses, CSV that reads back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simulator.result import PARTS
from simulator.scenario import Scenario
from simulator.scenario_file import load_scenario, shipped_scenarios

Command = Callable[..., Any]
Files = Callable[..., Path]
WIDTH = 100
SWEEP = ["sweep", "small.toml", "--over", "plan.expert=8,7,16", "--over", "seed=1,2", "--jobs", "1"]
PRINTING = [
    ["run", "small.toml"],
    ["run", "small.toml", "--sources"],
    ["run", "dsv3-train-h800", "--allow-oom"],
    ["sweep", "small.toml", "--over", "plan.expert=8,7,16", "--jobs", "1"],
    SWEEP,
    ["compare", "small.toml", "dsv3-decode-h800", "dsv3-decode-910b"],
    ["catalog"],
    *(["catalog", kind] for kind in ("chips", "fabrics", "clusters", "models")),
    ["catalog", "chips", "Ascend 910C"],
    ["catalog", "clusters", "cloudmatrix384"],
    ["catalog", "fabrics", "ub1"],
    ["catalog", "models", "deepseek-v3"],
    ["topology", "show", "cloudmatrix384"],
    ["topology", "show", "ascend-910b-1024", "--chips", "64"],
    ["scenarios"],
    ["doctor"],
]
JSON = [
    ["run", "small.toml"],
    SWEEP,
    ["compare", "small.toml", "small.toml"],
    ["catalog"],
    ["catalog", "chips"],
    ["catalog", "models", "deepseek-v3"],
    ["topology", "show", "a100-server"],
    ["scenarios"],
    ["doctor"],
]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_tables_fit_a_hundred_columns(
    epsim: Command, small_file: Files, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    small_file("decode")
    outcome = epsim(*arguments)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines
    paths = ("written to", "drawn:")  # a path is never broken
    assert max(len(line) for line in lines if not line.startswith(paths)) <= WIDTH
    assert "\x1b" not in outcome.out
    assert not [line for line in outcome.err.splitlines() if line.strip()]


@pytest.mark.parametrize("arguments", JSON, ids=" ".join)
def test_json_is_all_that_is_printed(epsim: Command, small_file: Files, arguments: list[str]) -> None:
    small_file("decode")
    outcome = epsim(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out, parse_constant=pytest.fail)
    assert outcome.err.strip() == ""


def test_a_run_writes_what_it_says(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim("run", small_file("decode"), "--out", "there")
    assert outcome.code == 0
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"result.json", "manifest.json", "breakdown.png"}
    assert "written to there: result.json, manifest.json, breakdown.png" in outcome.out
    assert (tmp_path / "there" / "breakdown.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_a_folder_goes_to_out(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    data = json.loads(epsim("run", small_file("decode"), "--json").out)
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.endswith(data["digest"])
    assert json.loads((folder / "result.json").read_text()) == data


def test_hostile_names_stay_inside_the_output_folder(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    path = small_file("decode", extra='name = "../../escape/../[bold]x[/bold] \\u0000 / \\u202e"\n')
    outcome = epsim("run", path)
    assert outcome.code == 0, outcome.err
    assert {entry.name for entry in tmp_path.iterdir()} == {"small.toml", "out"}
    assert "[bold]x[/bold]" in outcome.out


def test_a_sweep_writes_rows_and_curves(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    small_file("decode")
    printed = json.loads(epsim(*SWEEP, "--json", "--out", "there").out)
    there = tmp_path / "there"
    assert {path.name for path in there.iterdir()} == {"rows.csv", "rows.parquet", "scaling.png", "scaling.svg"}
    rows = pd.read_csv(there / "rows.csv")
    assert len(rows) == len(printed) == len(pd.read_parquet(there / "rows.parquet")) == 6
    assert rows["feasible"].tolist() == [True, True, False, False, True, True]
    assert rows.loc[~rows["feasible"], "reason"].str.contains("7").all()
    assert rows.loc[rows["feasible"], "reason"].isna().all()
    feasible = rows[rows["feasible"]]
    parts = feasible[[f"{part}_s" for part in PARTS]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(feasible["step_s"].to_numpy())
    assert feasible["tokens_per_s"].tolist() == [row["tokens_per_s"] for row in printed if row["feasible"]]


def test_a_sweep_without_a_feasible_point_still_answers(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim("sweep", small_file("decode"), "--over", "plan.expert=7,11", "--jobs", "1", "--out", tmp_path / "o")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("plan.expert") >= 1
    assert len(pd.read_csv(tmp_path / "o" / "rows.csv")) == 2


def test_a_sweep_over_words_still_answers(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    over = "routing.placement=contiguous,balanced,random"
    outcome = epsim("sweep", small_file("decode"), "--over", over, "--jobs", "1", "--out", tmp_path / "o")
    assert outcome.code == 0, outcome.err
    assert pd.read_csv(tmp_path / "o" / "rows.csv")["feasible"].all()


def test_a_comparison_writes_its_rows(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    small_file("decode", name="a.toml")
    small_file("decode", name="b.toml")
    outcome = epsim("compare", "a.toml", "b.toml", "--csv", "rows.csv", "--out", "o")
    assert outcome.code == 0
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert rows["step_s"].nunique() == 1
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"comparison.png", "breakdown.png"}


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_printed_scenario_is_one_to_start_from(epsim: Command, tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(epsim("scenarios", name).out)
    assert load_scenario(str(path)) == load_scenario(name)


def test_a_printed_scenario_runs_to_the_same_result(epsim: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(epsim("scenarios", "dsv3-decode-910b").out)
    assert epsim("run", path, "--json").out == epsim("run", "dsv3-decode-910b", "--json").out


def test_the_schema_knows_every_key(epsim: Command) -> None:
    schema = json.loads(epsim("schema").out)
    assert set(schema["properties"]) == {*Scenario.model_fields, "extends"}
    assert schema["additionalProperties"] is False
    for name, field in Scenario.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner:
            section = schema["$defs"][field.annotation.__name__]  # type: ignore[union-attr]
            assert set(section["properties"]) == set(inner), name


def test_doctor_is_content_here(epsim: Command) -> None:
    rows = json.loads(epsim("doctor", "--json").out)
    assert {row["state"] for row in rows if row["check"] != "trace record"} == {"ok"}
