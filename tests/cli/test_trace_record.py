"""`epsim trace record`."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from simulator.cli import trace_record
from workloads.routing.trace import read_trace

Epsim = Callable[..., Any]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("one two three\n\nfour five\n")
    return path


def refused(outcome: Any) -> str:
    """The one line that the user sees."""
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    return str(line)


def test_without_torch_the_extra_is_named(epsim: Epsim, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = epsim("trace", "record", "--model", "x", "--prompts", str(prompts), "-o", "t.npz")
    assert refused(outcome) == (
        "error: torch: not installed, and recording needs it; install the extra: pip install 'epsim[record]'"
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.txt", None, "No such file"),
        ("p.txt", b"", "empty; write a prompt per line"),
        ("p.txt", b" \n\n", "empty; write a prompt per line"),
        ("p.txt", b"\xff\xfe\x00", "not UTF-8 text"),
        ("p.jsonl", b'{"prompt": "good"}\n\n{"text": "bad"}\n', 'line 3: must be {"prompt": "some text"}'),
        ("p.jsonl", b"[[[[", 'line 1: must be {"prompt"'),
        ("p.jsonl", b'{"prompt": ""}', 'line 1: must be {"prompt"'),
    ],
)
def test_prompts_that_are_none(epsim: Epsim, tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    line = refused(epsim("trace", "record", "--model", "x", "--prompts", str(path), "-o", "t.npz"))
    assert line.startswith(f"error: {path}: ")
    assert problem in line


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--phase", "decode"], "the phase keeps generated tokens; generate some"),
        (["--phase", "prefill", "--max-new-tokens", "3"], "the phase keeps prompts only; generate none"),
        (["-o", "t.txt"], "t.txt: must end in .npz or .parquet"),
    ],
)
def test_contradictions_are_refused_before_anything_is_loaded(
    epsim: Epsim, prompts: Path, arguments: list[str], problem: str
) -> None:
    line = refused(epsim("trace", "record", "--model", "x", "--prompts", str(prompts), "-o", "t.npz", *arguments))
    assert problem in line


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("allenai/OLMoE-1B-7B-0924", "olmoe-1b-7b"),
        ("someone/Their-MoE", "Their-MoE"),
        (".", "my-moe"),
        ("../my-moe/", "my-moe"),
    ],
)
def test_a_trace_is_named_after_its_model(
    model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-moe").mkdir()
    monkeypatch.chdir(tmp_path / "my-moe")
    assert trace_record._name(model) == name


def test_doctor_says_whether_recording_is_possible(epsim: Epsim) -> None:
    (row,) = [row for row in json.loads(epsim("doctor", "--json").out) if row["check"] == "trace record"]
    there = all(find_spec(name) for name in ("torch", "transformers"))
    assert row["state"] == ("ok" if there else "off")
    assert there or "epsim[record]" in row["detail"]


@pytest.mark.filterwarnings("default")  # of torch and transformers themselves
def test_a_saved_model_is_recorded(epsim: Epsim, prompts: Path, tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="recording needs the extra `record`")
    tokenizers: Any = pytest.importorskip("tokenizers", reason="recording needs the extra `record`")
    words = tokenizers.ByteLevelBPETokenizer()
    words.train_from_iterator(["one two three four five"], vocab_size=280, show_progress=False)
    config = transformers.OlmoeConfig(
        vocab_size=280,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        pad_token_id=None,
        eos_token_id=None,
    )
    folder, out = tmp_path / "tiny-moe", tmp_path / "made" / "t.parquet"
    transformers.OlmoeForCausalLM(config).save_pretrained(folder)
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer)
    words.save_pretrained(folder)
    options = ["--max-new-tokens", "5", "--licence", "CC0-1.0", "--json"]
    outcome = epsim("trace", "record", "--model", str(folder), "--prompts", str(prompts), "-o", str(out), *options)
    assert outcome.code == 0, outcome.err
    told, trace = json.loads(outcome.out), read_trace(out)
    assert (told["model"], told["phase"], told["digest"]) == ("tiny-moe", "mixed", trace.digest)
    lens = [len(words.encode(text)) + 5 for text in ("one two three", "four five")]
    assert trace.seq_lens.tolist() == lens
    assert (trace.moe_layers, trace.routed_experts, trace.top_k) == (2, 8, 2)
    assert trace.licence == "CC0-1.0"
    assert trace.source == "tiny-moe on prompts.txt"
