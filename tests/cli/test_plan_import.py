"""`epsim plan import`: TOML on standard output or in a file, JSON, and one line per problem."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
PLAN = "-tp 2 -pp 4 -ep 8 -mb 1 -gb 256 --num_gpus 64 --seq-length 4096 --bf16 --save here"
CUSTOM = (
    "--num-layers 8 --hidden-size 1536 --num-attention-heads 12 --ffn-hidden-size 6144 --vocab-size 50304 --swiglu "
    "--bf16 --seq-length 2048 --micro-batch-size 1 --global-batch-size 64 --nproc-per-node 8"
)


def test_toml_runs(epsim: Run, tmp_path: Path) -> None:
    shown = epsim("plan", "import", PLAN, "--model", "mixtral-8x7b", "--cluster", "h100-cluster")
    assert shown.code == 0, shown.err
    table = tomllib.loads(shown.out)
    assert table["plan"]["expert_tensor"] == 2
    written = epsim("plan", "import", PLAN, "--model", "mixtral-8x7b", "--cluster", "h100-cluster", "-o", "my.toml")
    assert written.code == 0, written.err
    assert "no effect" in written.out
    assert max(map(len, written.out.splitlines())) <= 100
    assert tomllib.loads((tmp_path / "my.toml").read_text()) == table


def test_own_model_is_written_beside_the_scenario(epsim: Run, tmp_path: Path) -> None:
    refused = epsim("plan", "import", CUSTOM)
    assert refused.code == 2
    assert "give -o FILE" in refused.err
    written = epsim("plan", "import", CUSTOM, "--cluster", "h100-cluster", "-o", "own.toml")
    assert written.code == 0, written.err
    assert json.loads((tmp_path / "own.config.json").read_text())["hidden_size"] == 1536
    ran = epsim("run", "own.toml")
    assert ran.code == 0, ran.err


def test_json_accounts_for_every_argument(epsim: Run) -> None:
    ran = epsim("plan", "import", PLAN + " --new-thing 3", "--model", "mixtral-8x7b", "--json")
    found = json.loads(ran.out)
    status = {each["argument"]: each["status"] for each in found["arguments"]}
    assert status["save"] == "no effect"
    assert status["new-thing"] == "unknown"
    assert status["tp"] == "used"
    assert found["scenario"]["cluster"] == {"chips": 64}


def test_problems_are_lines(epsim: Run) -> None:
    ran = epsim("plan", "import", "-tp two -gb 8 --bf16", "--model", "mixtral-8x7b")
    assert ran.code == 2
    assert sorted(ran.err.splitlines()) == [
        "error: --seq-length: missing; add it",
        "error: --tensor-model-parallel-size two: not a whole number from 1; write the number",
    ]
    assert epsim("plan", "import", PLAN, "--model", "mixtrall").code == 2
    assert epsim("plan", "import", PLAN, "--model", "mixtral-8x7b", "--cluster", "h100-clustr").code == 2
