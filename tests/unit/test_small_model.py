"""The script that trains the small model: its text anywhere, its training where torch is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.routing.recorder import python_text, small_model
from workloads.routing.trace import read_trace


def test_text_of_every_topic_ships_with_python() -> None:
    found = python_text.texts()
    assert tuple(found) == python_text.TOPICS
    for documents in found.values():
        assert 100_000 < sum(map(len, documents)) <= python_text.TOPIC_CHARACTERS


def test_documents_are_cut_alike() -> None:
    texts = ["a" * 600_000, "b" * 300_000, "c" * 100_000]
    assert [len(text) for text in python_text._cut(texts)] == [300_000, 150_000, 50_000]
    assert python_text._cut(texts[2:]) == texts[2:]


def test_sequences_keep_every_token_in_order_but_the_rest() -> None:
    def encode(text: str) -> list[int]:
        return [ord(letter) for letter in text]

    cut = small_model.sequences(["ab" * 150, "cd" * 150], encode)
    assert cut.shape == (2, small_model.SEQUENCE_TOKENS)
    assert "".join(map(chr, cut.ravel())) == ("ab" * 150 + "cd" * 150)[:512]


def test_what_is_held_out_is_not_trained_on() -> None:
    data = np.arange(20)[:, None] * np.ones((1, 4), dtype=np.int64)
    known, held_out = small_model.split(data)
    assert held_out[:, 0].tolist() == [7, 15]
    assert sorted([*known[:, 0], *held_out[:, 0]]) == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-o", "t.txt"], "error: t.txt: must end in .npz or .parquet"),
        (["-o", "t.npz", "--steps", "0"], "--steps: 0: must be a whole number from 1"),
        (["-o", "t.npz", "--per-topic", "many"], "--per-topic: many: must be"),
    ],
)
def test_what_can_not_be_made_is_refused_at_once(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        small_model.main(arguments)
    assert problem in f"{capsys.readouterr().err}{stop.value.code}"


def test_no_sequence_is_recorded_twice() -> None:
    with pytest.raises(WorkloadError, match="--per-topic 3: only 2 sequences of a topic are held out"):
        small_model.recorded(None, {"a": np.ones((5, 4), dtype=int), "b": np.ones((2, 4), dtype=int)}, 3, "")


@pytest.mark.filterwarnings("default")  # of torch and transformers themselves
def test_training_and_recording_give_the_same_trace_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="training needs the extra `record`")
    pytest.importorskip("transformers", reason="training needs the extra `record`")
    monkeypatch.setattr(python_text, "TOPIC_CHARACTERS", 20_000)
    traces: list[Any] = []
    for name in ("a.npz", "b.npz"):
        small_model.main(["-o", str(tmp_path / name), "--steps", "3", "--per-topic", "1"])
        traces.append(read_trace(tmp_path / name))
    assert traces[0].digest == traces[1].digest
    assert traces[0].seq_lens.tolist() == [small_model.SEQUENCE_TOKENS] * 6
    assert "3 steps" in traces[0].source
