"""Bad input: one line per problem on standard error, exit code 2, no traceback, nothing written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Files = Callable[..., Path]
Command = Callable[..., Any]


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(epsim: Command, folder: Path, *arguments: str | Path, lines: int = 1) -> str:
    """Run a command that must be refused; return what it says."""
    before = contents(folder)
    outcome = epsim(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if not line.startswith("hint: the nearest plan that ")]
    assert len(said) == lines, outcome.err
    assert all(line.startswith("error: ") for line in said)
    assert contents(folder) == before
    return str(outcome.err)


SETTINGS: list[tuple[str, str, list[str]]] = [
    ("training", "cluster.chip=3", ["cluster.chip", "did you mean 'chips'"]),
    ("training", "clutser.chips=3", ["clutser", "did you mean 'cluster'"]),
    ("training", "plan.tensor=two", ["plan.tensor", "'two'", "integer"]),
    ("training", "plan.tensor=[1, 2]", ["plan.tensor"]),
    ("training", "plan=3", ["plan"]),
    ("training", "cluster.chips=-8", ["cluster.chips", "-8"]),
    ("training", "cluster.chips=0", ["cluster.chips", "0"]),
    ("training", "cluster.chips=nan", ["cluster.chips", "nan"]),
    ("training", "cluster.chips=inf", ["cluster.chips", "inf"]),
    ("training", "cluster.chips=true", ["cluster.chips", "True"]),
    ("training", "economics.pue=nan", ["economics.pue", "nan"]),
    ("training", "economics.pue=inf", ["economics.pue", "inf"]),
    ("training", "routing.strength=-1.0", ["routing.strength", "-1.0"]),
    ("training", "routing.strength=nan", ["routing.strength", "nan"]),
    ("training", "seed=-1", ["seed", "-1"]),
    ("training", "seed=1.5", ["seed", "1.5"]),
    ("training", "fidelity=exact", ["fidelity", "exact", "analytic"]),
    ("training", "plan.schedule=zigzag", ["plan.schedule", "zigzag", "1f1b"]),
    ("training", "model.name=deepsek-v3", ["deepsek-v3", "did you mean 'deepseek-v3'"]),
    ("training", "cluster.name=cloudmatrx384", ["cloudmatrx384", "did you mean 'cloudmatrix384'"]),
    ("training", "model.name=/", ["/"]),
    ("training", "cluster.faults=node 5", ["cluster.faults", "node 5"]),
    ("training", "cluster.faults=[3]", ["cluster.faults", "3"]),
    ("training", 'cluster.faults=["leaf"]', ["cluster.faults", "not understood", "'node 5'"]),
    ("training", 'cluster.faults=["leaf 77"]', ["cluster.faults", "'leaf 77' is not there"]),
    ("training", "plan.expert=3", ["plan.expert = 3", "use 2"]),
    ("training", "plan.pipeline=3", ["TP 1 x PP 3", "16 ranks"]),
    ("training", "plan.data=5", ["plan.data = 5", "use data = 8"]),
    ("training", "plan.layers_per_stage=[1, 1]", ["plan.layers_per_stage", "4 layers"]),
    ("training", "plan.layers_per_stage=[5, -1]", ["plan.layers_per_stage"]),
    ("training", "model.dense_layers=9", ["model.dense_layers = 9", "4 layers"]),
    ("training", "workload.global_batch_sequences=17", ["workload.global_batch_sequences = 17", "use for example"]),
    ("training", "plan.micro_batch_sequences=7", ["micro-batch 7"]),
    ("training", "plan.micro_batch_sequences=0", ["plan.micro_batch_sequences"]),
    ("training", "cluster.chips=1000000000000", ["1000000000000", "max_chips"]),
    ("training", "cluster.chips=1e12", ["cluster.chips"]),
    ("training", "workload.sequence_tokens=1000000000000", ["does not fit"]),
    ("training", "workload.sequence_tokens=99999999999999999999", ["workload.sequence_tokens"]),
    ("training", "workload.global_batch_sequences=1000000000000", ["micro-batches"]),
    ("training", "model.layers=1000000000", ["model.layers"]),
    ("training", "precision.gemm=fp12", ["precision.gemm", "fp12"]),
    ("training", "plan.layers_per_stage=[]", ["plan.layers_per_stage"]),
    ("prefill", "plan.pipeline=2", ["plan.pipeline = 2", "prefill"]),
    ("prefill", "workload.tokens_per_rank=100", ["workload.tokens_per_rank = 100", "512"]),
    ("prefill", "workload.tokens_per_rank=1000000000000", ["does not fit"]),
    ("prefill", "plan.expert=0", ["plan.expert"]),
    ("prefill", "routing.shared_expert_ranks=4", ["routing.shared_expert_ranks = 4", "whole nodes of 8"]),
    ("training", "model.layers=999", ["does not fit"]),
    ("training", "model.layers=9999", ["model.layers = 9999"]),
    ("decode", "plan.expert=48", ["64", "48"]),
    ("decode", "workload.batch_per_rank=1000000000", ["does not fit"]),
    ("decode", "workload.tokens_per_rank=4096", ["workload.tokens_per_rank", "prefill"]),
    ("decode", "workload.mtp_acceptance=1.5", ["workload.mtp_acceptance"]),
    ("decode", "routing.redundant_experts=-1", ["routing.redundant_experts"]),
    ("decode", "routing.redundant_experts=3", ["redundant"]),
    ("decode", "routing.redundant_experts=1000000000000", ["redundant"]),
    ("decode", "routing.redundant_experts=some", ["routing.redundant_experts"]),
    ("decode", "routing.shared_expert_ranks=16", ["routing.shared_expert_ranks = 16"]),
    ("decode", "routing.statistics=missing", ["missing"]),
    ("decode", "routing.mix=poetry", ["routing.mix = 'poetry'", "broad", "translation"]),
    ("decode", "routing.trace=somewhere.npz", ["routing.trace", "routing.kind = 'trace'"]),
    ("decode", "routing.statistics=deepseek-v2-lite", ["did you mean 'deepseek-v2-lite-esft'"]),
    ("training", "model.dense_layers=4", ["model.dense_layers = 4", "at most 3"]),
    ("decode", "routing.kind=trace", ["routing.trace"]),
]


@pytest.mark.parametrize(("phase", "setting", "words"), SETTINGS, ids=[f"{p}-{s}" for p, s, _ in SETTINGS])
def test_a_bad_value_is_named_with_its_remedy(
    epsim: Command, small_file: Files, tmp_path: Path, phase: str, setting: str, words: list[str]
) -> None:
    said = refused(epsim, tmp_path, "run", small_file(phase), "--set", setting)
    assert all(word in said for word in words), said


TRACE = ["--set", "routing.kind=trace", "--set"]


def test_all_problems_are_told_at_once(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    path = small_file("training", extra='sed = 1\nfidelity = "exact"\n')
    said = refused(epsim, tmp_path, "run", path, "--set", "plan.tensor=-1", "--set", "plan.exprt=4", lines=4)
    for word in ("sed", "fidelity", "plan.tensor", "plan.exprt"):
        assert f"{word}" in said


@pytest.mark.parametrize(
    ("phase", "settings", "places"),
    [
        ("training", ["plan.tensor=3"], ["TP 3", "plan.tensor = 3"]),
        ("training", ["plan.tensor=1000000000000"], ["TP 1000000000000", "plan.tensor = 1000000000000"]),
        ("training", ["plan.pipeline=8"], ["plan.expert = 8", "plan.pipeline = 8"]),
        ("training", ["model.name=deepsek-v3", "cluster.name=h800clustr"], ["deepseek-v3", "h800-cluster"]),
        ("prefill", ["plan.pipeline=2", "workload.tokens_per_rank=100"], ["plan.pipeline", "tokens_per_rank"]),
    ],
)
def test_every_failed_check_has_its_line(
    epsim: Command, small_file: Files, tmp_path: Path, phase: str, settings: list[str], places: list[str]
) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    lines = refused(epsim, tmp_path, "run", small_file(phase), *options, lines=len(places)).splitlines()
    lines = lines[: len(places)]  # a hint may follow
    for line, place in zip(lines, places, strict=True):
        assert place in line


@pytest.mark.parametrize(
    ("phase", "key"),
    [
        ("training", "global_batch_sequences"),
        ("prefill", "tokens_per_rank"),
        ("decode", "batch_per_rank"),
    ],
)
def test_a_missing_workload_key_is_asked_for(
    epsim: Command, small_file: Files, tmp_path: Path, phase: str, key: str
) -> None:
    path = small_file(phase)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if key not in line))
    assert f"workload.{key}: missing" in refused(epsim, tmp_path, "run", path)


@pytest.mark.parametrize("table", ["model", "cluster", "workload"])
def test_a_missing_table_is_asked_for(epsim: Command, small_file: Files, tmp_path: Path, table: str) -> None:
    path = small_file("decode")
    tables = path.read_text().split("\n[")
    path.write_text("\n[".join(text for text in tables if not text.strip("\n[").startswith(f"{table}]")))
    assert f"{table}: missing" in refused(epsim, tmp_path, "run", path)


def test_experts_on_a_dense_model_are_refused(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    said = refused(epsim, tmp_path, "run", small_file("decode"), "--set", "model.name=llama-3-8b")
    assert "plan.expert = 16" in said
    assert "no routed experts" in said


def test_a_chip_without_the_number_format_is_named(epsim: Command, tmp_path: Path) -> None:
    said = refused(epsim, tmp_path, "run", "dsv3-decode-910b", "--set", "precision.gemm=fp8")
    assert "fp8" in said
    assert "int8" in said


def test_a_plan_that_does_not_fit_is_refused_with_what_is_short(
    epsim: Command, small_file: Files, tmp_path: Path
) -> None:
    said = refused(epsim, tmp_path, "run", small_file("decode"), "--set", "workload.batch_per_rank=100000")
    assert "short by" in said
    assert "GiB on rank class" in said
    assert "--allow-oom" in said


def test_allow_oom_answers_with_a_warning(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    outcome = epsim(
        "run", small_file("decode"), "--set", "workload.batch_per_rank=100000", "--allow-oom", "--out", tmp_path / "out"
    )
    assert outcome.code == 0
    assert "does not fit" in outcome.out


@pytest.mark.parametrize("option", ["plan", "=3", "plan..tensor=2", ".=1", "fidelity.x=1", ""])
def test_malformed_settings_are_refused(epsim: Command, small_file: Files, tmp_path: Path, option: str) -> None:
    path = small_file("decode", extra='fidelity = "des"\n')
    assert "--set" in refused(epsim, tmp_path, "run", path, "--set", option)


@pytest.mark.parametrize(
    "options",
    [
        ["--over", "plan.expert"],
        ["--over", "plan.expert="],
        ["--over", "=4"],
        ["--over", "plan.exprt=4,8"],
        ["--over", "plan.expert=4", "--over", "plan.expert=8"],
        ["--over", "seed=" + ",".join(map(str, range(20_001)))],
    ],
    ids=lambda options: " ".join(options)[:40],
)
def test_malformed_sweeps_are_refused(epsim: Command, small_file: Files, tmp_path: Path, options: list[str]) -> None:
    refused(epsim, tmp_path, "sweep", small_file("decode"), *options, "--jobs", "1")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["rum", "dsv3-train-h800"],
        ["run"],
        ["run", "dsv3-train-h800", "--set"],
        ["run", "dsv3-train-h800", "--ste", "a=1"],
        ["run", "dsv3-trian-h800"],
        ["run", "dsv3-train-h800", "dsv3-train-910b"],
        ["sweep", "dsv3-train-h800"],
        ["sweep", "dsv3-train-h800", "--over", "cluster.chips=64", "--jobs", "0"],
        ["sweep", "dsv3-trian-h800", "--over", "cluster.chips=64", "--jobs", "1"],
        ["compare"],
        ["compare", "dsv3-train-h800"],
        ["compare", "dsv3-train-h800", "dsv3-trian-910b"],
        ["catalog", "chip"],
        ["catalog", "chips", "h80000"],
        ["catalog", "models", "no-such/config.json"],
        ["topology", "show", "cloudmatrx384"],
        ["topology", "show", "cloudmatrix384", "--chips", "1000000000000"],
        ["topology", "show", "cloudmatrix384", "--chips", "many"],
        ["topology", "shwo", "cloudmatrix384"],
        ["scenarios", "dsv3-trian-h800"],
        ["run", "\0"],
        ["run", "x" * 5000],
        ["catalog", "models", "x" * 5000],
        ["catalog", "clusters", ""],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_bad_command_lines_are_one_line(epsim: Command, tmp_path: Path, arguments: list[str]) -> None:
    refused(epsim, tmp_path, *arguments)


def test_a_near_miss_of_a_command_is_suggested(epsim: Command, tmp_path: Path) -> None:
    assert "did you mean 'sweep'" in refused(epsim, tmp_path, "swep")


BAD_FILES: dict[str, bytes] = {
    "empty": b"",
    "not-toml": b"model = [1, 2\n",
    "not-utf8": "name = 'caf\xe9'\n".encode("latin-1"),
    "binary": bytes(range(256)) * 10,
    "nul": b"name = 'a\0b'\n",
    "ten-megabytes": b"garbage \xff\n" * 1_100_000,
    "nested-arrays": b"model = " + b"[" * 4_000 + b"\n",
    "nested-closed": b"model = " + b"[" * 20_000 + b"]" * 20_000 + b"\n",
    "nested-tables": b"[" + b".".join([b"a"] * 20_000) + b"]\n",
    "nested-inline": b"a = " + b"{a=" * 20_000 + b"1" + b"}" * 20_000,
    "long-number": b"seed = " + b"9" * 50_000 + b"\n",
    "duplicate-key": b"seed = 1\nseed = 2\n",
    "extends-a-number": b"extends = 3\n",
    "extends-nothing": b"extends = 'no-such-scenario'\n",
    "extends-itself": b"extends = 'bad.toml'\n",
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_damaged_files_are_refused(epsim: Command, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(BAD_FILES[kind])
    before = contents(tmp_path)
    outcome = epsim("run", path)
    assert outcome.code == 2
    missing = {"empty": 3}  # valid TOML, but model, cluster and workload are missing
    assert len(outcome.err.splitlines()) == missing.get(kind, 1)
    assert outcome.err.count("bad.toml: ") == missing.get(kind, 1)
    assert len(outcome.err) < 1500
    assert contents(tmp_path) == before


def test_extends_must_end(epsim: Command, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("extends = 'b.toml'\n")
    (tmp_path / "b.toml").write_text("extends = 'a.toml'\n")
    assert "never ends" in refused(epsim, tmp_path, "run", "a.toml")


def test_a_directory_is_not_a_scenario(epsim: Command, tmp_path: Path) -> None:
    assert "directory" in refused(epsim, tmp_path, "run", tmp_path)


def test_an_endless_file_is_not_a_scenario(epsim_process: Command, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))"
    done = epsim_process(["run", "/dev/zero"], tmp_path, before=limited, timeout_s=20)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(epsim: Command, small_file: Files, tmp_path: Path) -> None:
    path = small_file("decode")
    path.chmod(0)
    assert "can't be read" in refused(epsim, tmp_path, "run", path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "small.toml", "--out", "taken"],
        ["run", "small.toml", "--out", "taken/deeper"],
        ["sweep", "small.toml", "--over", "seed=1", "--jobs", "1", "--out", "taken"],
        ["compare", "small.toml", "small.toml", "--out", "taken"],
        ["compare", "small.toml", "small.toml", "--csv", "taken/rows.csv"],
        ["catalog", "chips", "--csv", "taken/chips.csv"],
        ["catalog", "chips", "--csv", "."],
        ["topology", "show", "a100-server", "--draw", "taken/picture.png"],
        ["topology", "show", "a100-server", "--draw", "picture.docx"],
    ],
    ids=" ".join,
)
def test_places_that_can_not_be_written_are_refused(
    epsim: Command, small_file: Files, tmp_path: Path, arguments: list[str]
) -> None:
    small_file("decode")
    (tmp_path / "taken").write_text("mine")
    refused(epsim, tmp_path, *arguments)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "directory", "missing"])
def test_damaged_traces_are_refused(
    epsim: Command, small_file: Files, trace_file: Files, tmp_path: Path, suffix: str, damage: str
) -> None:
    path = trace_file(suffix)
    whole = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "garbage": b"\7" * 5000}[damage])
    said = refused(epsim, tmp_path, "run", small_file("decode"), *TRACE, f"routing.trace={path}")
    assert path.name in said


def test_a_trace_of_another_model_is_refused(
    epsim: Command, small_file: Files, trace_file: Files, tmp_path: Path
) -> None:
    path = trace_file(".npz")
    said = refused(
        epsim, tmp_path, "run", small_file("decode"), "--set", "model.layers=5", *TRACE, f"routing.trace={path}"
    )
    assert "3 MoE layers" in said


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("net.json", b'{"nodes": [], "links": []}', "needs 'chip' and 'fabrics'"),
        ("net.json", b"\x00\x01", "not valid JSON"),
        ("net.graphml", b"<!DOCTYPE a><graphml/>", "declares a document type"),
        ("net.graphml", b"<svg/>", "net.graphml"),
        ("net.toml", b"nodes = []\nlinks = []", "needs 'chip' and 'fabrics'"),
        ("net.toml", b"[[islands]]\nname = 'a'", "between.fabric"),
    ],
)
def test_networks_that_are_none(tmp_path: Path, epsim: Command, name: str, data: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert said in refused(epsim, tmp_path, "topology", "show", path)
