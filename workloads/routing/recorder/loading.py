"""Models and prompts from files, as text and weights only: no code of a model's author is ever run."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from workloads.errors import WorkloadError
from workloads.routing.recorder import libraries
from workloads.routing.recorder.routers import check_type

_LEAST_TRANSFORMERS = 5  # routers return what they chose since then
_MOST_PROMPT_BYTES = 1 << 30


class Loaded(NamedTuple):
    """A model and its tokenizer, both of transformers."""

    model: Any
    tokenizer: Any


def load(name: str, device: str = "cpu") -> Loaded:
    """Load a causal language model in its own precision.

    Parameters
    ----------
    name
        Folder with configuration, safetensors and tokenizer, or an id of the Hugging Face hub.
    device
        As torch names it.

    Raises
    ------
    WorkloadError
        If a library lacks, the model can't be had, or its architecture is unknown.
    """
    torch, transformers = libraries.torch(), libraries.transformers()
    if int(transformers.__version__.partition(".")[0]) < _LEAST_TRANSFORMERS:
        raise WorkloadError(
            f"transformers: {transformers.__version__}: too old; install {_LEAST_TRANSFORMERS} or later"
        )
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise WorkloadError(f"device '{device}': {_line(error)}; use cpu, or what torch finds here") from error
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    safe = {"trust_remote_code": False}
    try:
        check_type(transformers.AutoConfig.from_pretrained(name, **safe).model_type)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **safe)
        if not tokenizer("a")["input_ids"]:  # as where a folder has none: transformers then makes up an empty one
            raise WorkloadError("no tokenizer; save it beside the model")
        model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True, **safe)
        return Loaded(model.to(place).eval(), tokenizer)
    except WorkloadError as error:
        raise WorkloadError(*(f"{name}: {problem}" for problem in error.problems)) from error
    except Exception as error:  # the libraries raise many kinds, all of them about the files
        raise WorkloadError(f"{name}: {_line(error)}; give a folder with safetensors, or an id of the hub") from error


def _line(error: Exception) -> str:
    """Return the first line of what a library says, without its full stop."""
    said = str(error).strip().splitlines()
    return said[0].rstrip(". ")[:300] if said else type(error).__name__


def read_prompts(path: Path) -> list[str]:
    """Read prompts: each line one, or with ``.jsonl`` the ``prompt`` of each line's object; blank lines don't count.

    Raises
    ------
    WorkloadError
        One line per defect, each naming the file and the line.
    """
    try:
        if path.stat().st_size > _MOST_PROMPT_BYTES:
            raise WorkloadError(f"{path}: larger than {_MOST_PROMPT_BYTES >> 20} MiB: no file of prompts")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror}; give a file of prompts") from error
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise WorkloadError(f"{path}: empty; write a prompt per line")
    if path.suffix != ".jsonl":
        return [line for _, line in numbered]
    read = [_prompt(line) for _, line in numbered]
    wrong = [number for (number, _), prompt in zip(numbered, read, strict=True) if prompt is None]
    if wrong:
        raise WorkloadError(*(f'{path}: line {number}: must be {{"prompt": "some text"}}' for number in wrong))
    return [prompt for prompt in read if prompt is not None]


def _prompt(line: str) -> str | None:
    try:
        stated = json.loads(line)
    except (ValueError, RecursionError):
        return None
    prompt = stated.get("prompt") if isinstance(stated, dict) else None
    return prompt if isinstance(prompt, str) and prompt else None
