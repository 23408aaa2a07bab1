import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import UserError
from simulator.scenario import Scenario
from simulator.scenario_file import (
    apply_override,
    digest,
    load_scenario,
    read_toml,
    shipped_scenarios,
    validate,
)

Files = Callable[..., Path]


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_are_valid_and_described(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name != "unnamed"
    assert scenario.description
    assert load_scenario(f"{name}.toml") == scenario
    kind = name.split("-")[1]
    phases = {"train": "training", "scaling": "training", "serve": "decode"}
    assert scenario.workload.phase == phases.get(kind, kind)


def test_overrides_are_toml_and_else_text(small_file: Files) -> None:
    path = str(small_file("training"))
    scenario = load_scenario(
        path,
        [
            "cluster.chips=32",
            "routing.strength=0.5",
            "fidelity=des",
            'name="a = b"',
            "description= free text, not TOML ",
            "plan.layers_per_stage=[1, 3]",
            "economics.pue = 1.1",
        ],
    )
    assert scenario.cluster.chips == 32
    assert scenario.routing.strength == 0.5
    assert scenario.fidelity == "des"
    assert scenario.name == "a = b"
    assert scenario.description == "free text, not TOML"
    assert scenario.plan.layers_per_stage == (1, 3)
    assert scenario.economics.pue == 1.1


def test_the_last_override_wins(small_file: Files) -> None:
    assert load_scenario(str(small_file("training")), ["cluster.chips=8", "cluster.chips=32"]).cluster.chips == 32


def test_whole_numbers_are_good_floats_but_not_the_reverse(small_file: Files) -> None:
    path = str(small_file("training"))
    assert load_scenario(path, ["routing.strength=1"]).routing.strength == 1.0
    with pytest.raises(UserError, match=r"cluster\.chips"):
        load_scenario(path, ["cluster.chips=32.0"])


def test_extends_takes_what_a_file_does_not_say(tmp_path: Path, small_file: Files) -> None:
    base = load_scenario(str(small_file("training", name="base.toml")))
    child = tmp_path / "child.toml"
    child.write_text('extends = "base.toml"\nname = "child"\n[plan]\nexpert = 4\n')
    grandchild = tmp_path / "grandchild.toml"
    grandchild.write_text('extends = "child.toml"\n[plan]\ntensor = 2\n')
    scenario = load_scenario(str(grandchild))
    assert scenario.name == "child"
    assert scenario.plan == base.plan.model_copy(update={"expert": 4, "tensor": 2})
    assert scenario.workload == base.workload


def test_extends_may_name_a_shipped_scenario(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "dsv3-decode-h800"\nname = "mine"\n')
    shipped = load_scenario("dsv3-decode-h800")
    assert load_scenario(str(path)) == shipped.model_copy(update={"name": "mine"})


def test_a_sibling_wins_over_a_shipped_scenario(tmp_path: Path, small_file: Files) -> None:
    small_file("decode", name="dsv3-decode-h800")
    path = tmp_path / "mine.toml"
    path.write_text('extends = "dsv3-decode-h800"\n')
    assert load_scenario(str(path)).model.name == "deepseek-v2-lite"


def test_extends_may_not_go_on_for_ever(tmp_path: Path) -> None:
    for index in range(12):
        (tmp_path / f"s{index}.toml").write_text(f'extends = "s{index + 1}.toml"\n')
    with pytest.raises(UserError, match="never ends"):
        load_scenario(str(tmp_path / "s0.toml"))


def test_the_order_of_keys_and_overrides_changes_nothing(small_file: Files) -> None:
    path = small_file("training")
    settings = ["cluster.chips=32", "plan.expert=4", "seed=9", "precision.gemm=fp8"]
    wanted = load_scenario(str(path), settings)
    generator = random.Random(5)
    for _ in range(5):
        generator.shuffle(settings)
        sections = path.read_text().strip().split("\n[")
        generator.shuffle(sections)
        path.write_text("\n" + "\n[".join(["", *(text.lstrip("[") for text in sections)]))
        assert digest(load_scenario(str(path), settings)) == digest(wanted)


def test_the_digest_tells_scenarios_apart(small: Callable[..., Scenario]) -> None:
    scenarios = [
        small("training"),
        small("training", "seed=1"),
        small("training", "fidelity=des"),
        small("training", "economics.pue=1.3"),
        small("decode"),
    ]
    digests = {digest(scenario) for scenario in scenarios}
    assert len(digests) == len(scenarios)
    assert all(len(text) == 16 for text in digests)


def test_a_default_that_is_spelled_out_is_the_same_scenario(small: Callable[..., Scenario]) -> None:
    assert digest(small("training", "plan.tensor=1", "seed=0")) == digest(small("training"))


@pytest.mark.parametrize("phase", ["training", "prefill", "decode"])
def test_a_scenario_survives_its_own_json(small: Callable[..., Scenario], phase: str) -> None:
    scenario = small(phase, "plan.layers_per_stage=[2, 2]")
    again = validate(json.loads(scenario.model_dump_json()), "again")
    assert again == scenario
    assert digest(again) == digest(scenario)


def test_all_problems_are_named_with_file_key_value_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('sed = 3\n[model]\nnmae = "x"\n[cluster]\nname = 3\nchips = -1\n[workload]\nphase = "trianing"\n')
    with pytest.raises(UserError) as refused:
        load_scenario(str(path))
    problems = refused.value.problems
    assert len(problems) == 6
    assert all(problem.startswith("wrong.toml: ") for problem in problems)
    assert all("; " in problem for problem in problems)
    for said in (
        "did you mean 'seed'",
        "did you mean 'name'",
        "model.name: missing",
        "cluster.chips = -1",
        "'trianing'",
    ):
        assert any(said in problem for problem in problems), said


def test_long_values_are_cut(small: Callable[..., Scenario]) -> None:
    with pytest.raises(UserError) as refused:
        small("training", f"plan.schedule={'z' * 10_000}")
    assert len(refused.value.problems[0]) < 300


@pytest.mark.parametrize("override", ["model=x", "model.name.deeper=x"])
def test_a_value_is_not_a_table(override: str) -> None:
    table = tomllib.loads('[model]\nname = "deepseek-v3"\n')
    if override == "model=x":
        apply_override(table, override)
        assert table["model"] == "x"
        return
    with pytest.raises(UserError, match="'name' is a value, not a table"):
        apply_override(table, override)


def test_a_file_over_a_megabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    lines = (b"#" * 999 + b"\n") * 1_000
    path.write_bytes(lines + b"#")
    with pytest.raises(UserError, match="1000001 bytes"):
        read_toml(path)
    path.write_bytes(lines)
    assert read_toml(path) == {}
