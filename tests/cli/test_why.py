"""`epsim why`: tree, JSON, picture, and what it refuses."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
File = Callable[..., Path]


def leaves(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [leaf for below in line["lines"] for leaf in leaves(below)] if line["lines"] else [line]


def test_tree_path_and_changes_in_text(epsim: Run, small_file: File, tmp_path: Path) -> None:
    ran = epsim("why", small_file("training"))
    assert ran.code == 0, ran.err
    for words in ("Where the time goes", "├ ", "grouped GEMM", "Critical path", "What would help most"):
        assert words in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    assert list(tmp_path.glob("out/*/why.png"))


def test_json_sums_to_the_step(epsim: Run, small_file: File) -> None:
    ran = epsim("why", small_file("decode"), "--json", "--no-changes")
    found = json.loads(ran.out)
    assert math.isclose(math.fsum(leaf["time_s"] for leaf in leaves(found["tree"])), found["step_s"], rel_tol=1e-9)
    assert found["changes"] == []
    assert found["path"]["steps"]


def test_bad_input_is_one_line(epsim: Run, small_file: File) -> None:
    ran = epsim("why", small_file("training"), "--set", "plan.expert=7")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "plan.expert = 7" in ran.err
