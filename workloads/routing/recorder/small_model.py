"""Trains a small mixture-of-experts model on the text that comes with Python, and records how it routes.

``python -m workloads.routing.recorder.small_model -o OUT.npz`` made the shipped trace `small-moe`, in 24 minutes of a
shared core; the same versions of Python, torch and transformers on the same processor give the same trace.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.files import check_name
from workloads.routing.recorder import libraries, python_text
from workloads.routing.recorder.record import Request, record
from workloads.routing.trace import Trace, write_trace

Tokens = NDArray[np.int64]  # [sequences, SEQUENCE_TOKENS]

NAME = "small-moe"
SEQUENCE_TOKENS = 256
PER_TOPIC = 16
STEPS = 1500
HELD_OUT = 8  # one sequence of so many is never trained on
VOCABULARY = 2048
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 64,  # of an expert
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "norm_topk_prob": True,
    "router_aux_loss_coef": 0.01,  # as OLMoE was trained with
    "output_router_logits": True,
    "max_position_embeddings": 2 * SEQUENCE_TOKENS,
    "tie_word_embeddings": True,
    "pad_token_id": None,
    "eos_token_id": 0,
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    steps
        Optimizer steps.
    sequences
        Sequences of a batch.
    peak_rate
        Learning rate after warm-up, from which it falls to a tenth along a cosine.
    seed
        Of the weights and the order of the sequences.
    """

    steps: int = STEPS
    sequences: int = 8
    peak_rate: float = 2e-3
    seed: int = 0


def tokenizer(documents: list[str]) -> Any:
    """Return a byte-level BPE of `VOCABULARY` tokens, learnt from the documents."""
    bpe = libraries.tokenizers().ByteLevelBPETokenizer()
    bpe.train_from_iterator(documents, vocab_size=VOCABULARY, special_tokens=["<end>"], show_progress=False)
    return libraries.transformers().PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<end>")


def sequences(documents: list[str], encode: Callable[[str], list[int]]) -> Tokens:
    """Return the documents one after another, cut into sequences ``[sequences, SEQUENCE_TOKENS]``; the rest is left."""
    ids = np.concatenate([np.asarray(encode(text), dtype=np.int64) for text in documents])
    whole = ids.size // SEQUENCE_TOKENS * SEQUENCE_TOKENS
    return ids[:whole].reshape(-1, SEQUENCE_TOKENS)


def split(data: Tokens) -> tuple[Tokens, Tokens]:
    """Return the sequences to train on, and every eighth, which is held out."""
    last = np.arange(len(data)) % HELD_OUT == HELD_OUT - 1
    return data[~last], data[last]


def train(data: Tokens, schedule: Schedule, say: Callable[[str], None] = print) -> Any:
    """Return an OLMoE of `SHAPE` trained to foretell the next token, load balancing included."""
    torch, transformers = libraries.torch(), libraries.transformers()
    torch.manual_seed(schedule.seed)
    model = transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**SHAPE))
    rising = 50
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak_rate, betas=(0.9, 0.95), weight_decay=0.1)
    losses: list[float] = []
    for step, batch in enumerate(_batches(data, schedule)):
        falling = 0.55 + 0.45 * np.cos(np.pi * step / schedule.steps)
        optimizer.param_groups[0]["lr"] = schedule.peak_rate * min((step + 1) / rising, 1.0) * falling
        ids = torch.from_numpy(batch)
        found = model(input_ids=ids, labels=ids)
        found.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(found.loss.detach()))
        if step % 50 == 49:
            say(f"step {step + 1} of {schedule.steps}: loss {np.mean(losses[-50:]):.3f}")
    return model.eval()


def _batches(data: Tokens, schedule: Schedule) -> Iterator[Tokens]:
    rng = np.random.default_rng(schedule.seed)
    epochs = -(-schedule.steps * schedule.sequences // len(data))
    order = np.concatenate([rng.permutation(len(data)) for _ in range(epochs)])
    for step in range(schedule.steps):
        yield data[order[step * schedule.sequences : (step + 1) * schedule.sequences]]


def loss(model: Any, data: Tokens) -> float:
    """Return the mean cross entropy of the next token [nat], load balancing not included."""
    torch = libraries.torch()
    total = 0.0
    with torch.inference_mode():
        for row in data:
            ids = torch.from_numpy(row[None])
            logits = model(input_ids=ids).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))
    return total / len(data)


def recorded(model: Any, held_out: dict[str, Tokens], per_topic: int, source: str) -> Trace:
    """Return the routing of sequences that were not trained on, topic after topic, as many of each.

    Gate weights are left out to keep the file small; each token's experts are in order of falling weight.
    """
    least = min(map(len, held_out.values()))
    if per_topic > least:
        raise WorkloadError(f"--per-topic {per_topic}: only {least} sequences of a topic are held out; ask for fewer")
    chosen = [data[np.linspace(0, len(data) - 1, per_topic).astype(int)] for data in held_out.values()]
    request = Request(NAME, source=source, licence=f"Apache-2.0 (text routed: {python_text.LICENCE})")
    return replace(record(model, np.concatenate(chosen).tolist(), request), gate_weights=None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, record, and write the trace."""
    try:
        _make(_asked(arguments))
    except WorkloadError as error:
        sys.exit("\n".join(f"error: {problem}" for problem in error.problems))


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="small_model", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="trace to write: .npz or .parquet")
    parser.add_argument("--steps", type=_positive, default=STEPS, help="optimizer steps (default %(default)s)")
    parser.add_argument(
        "--per-topic", type=_positive, default=PER_TOPIC, help="sequences recorded of each (default %(default)s)"
    )
    parser.add_argument("--keep", type=Path, help="folder for the trained model and its tokenizer")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 1,000,000")
    return int(text)


def _make(asked: argparse.Namespace) -> None:
    check_name(asked.out)
    texts = python_text.texts()
    words = tokenizer([text for documents in texts.values() for text in documents])
    parts = {topic: split(sequences(documents, words.encode)) for topic, documents in texts.items()}
    data = np.concatenate([known for known, _ in parts.values()])
    schedule = Schedule(steps=asked.steps)
    model = train(data, schedule)
    if asked.keep:
        model.save_pretrained(asked.keep)
        words.save_pretrained(asked.keep)
    held_out = {topic: rest for topic, (_, rest) in parts.items()}
    reached = loss(model, np.concatenate(list(held_out.values())))
    source = _source(model, schedule, reached)
    print(source)
    write_trace(recorded(model, held_out, asked.per_topic, source), asked.out)


def _source(model: Any, schedule: Schedule, reached: float) -> str:
    tokens = schedule.steps * schedule.sequences * SEQUENCE_TOKENS
    parameters = sum(weights.numel() for weights in model.parameters())
    return (
        f"a small model of this project (OLMoE architecture, {parameters / 1e6:.1f} M parameters), trained for "
        f"{schedule.steps:,} steps ({tokens / 1e6:.2f} M tokens) on the standard library of Python "
        f"{platform.python_version()} to a loss of {reached:.2f} nat per token of text held out, and recorded on that "
        f"text, topic after topic in equal parts: {', '.join(python_text.TOPICS)} "
        "(workloads/routing/recorder/small_model.py)"
    )


if __name__ == "__main__":
    main()
