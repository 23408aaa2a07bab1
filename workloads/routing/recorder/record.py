"""Runs a model over prompts, generates, and keeps what its routers chose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.recorder import libraries
from workloads.routing.recorder.routers import Heard, listening, routers
from workloads.routing.trace import Phase, Trace


@dataclass(frozen=True, slots=True)
class Request:
    """What to record.

    Parameters
    ----------
    model
        Name to keep with the trace.
    max_new_tokens
        Tokens to generate after each prompt, fewer where the model ends its text.
    phase
        Tokens to keep: those of the prompts (prefill), the generated ones (decode), or both (mixed).
    source, licence
        Where text and model come from and under which terms.

    Raises
    ------
    WorkloadError
        If the phase and the number of tokens contradict each other.
    """

    model: str
    max_new_tokens: int = 0
    phase: Phase = "prefill"
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 0:
            raise WorkloadError(f"max_new_tokens: {self.max_new_tokens}: must be 0 or more")
        if (self.phase == "prefill") != (self.max_new_tokens == 0):
            keeps = "prompts only; generate none" if self.phase == "prefill" else "generated tokens; generate some"
            raise WorkloadError(f"phase '{self.phase}', max_new_tokens {self.max_new_tokens}: the phase keeps {keeps}")


def record(
    model: Any, prompts: Sequence[Sequence[int]], request: Request, tell: Callable[[int], None] = lambda _: None
) -> Trace:
    """Return what the routers chose, prompt after prompt; each token that a layer sees is in it exactly once.

    Prompts run one at a time, so that no padding is routed. Generation is greedy; a generated token is fed back, the
    last one too, and ends the sequence where it is the model's end of text (which is not fed back).

    Parameters
    ----------
    model
        Causal language model of transformers, of a known architecture.
    prompts
        Token ids of each prompt.
    tell
        Called with the number of prompts done.

    Raises
    ------
    WorkloadError
        If the model has no router that is known, or a prompt is empty, too long or not of its vocabulary.
    """
    _check(model, prompts, request)
    kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
    with listening(model) as heard, libraries.torch().inference_mode():
        model.eval()
        for number, prompt in enumerate(prompts):
            fed = _run(model, prompt, request.max_new_tokens)
            ids, weights = _taken(heard, fed)
            start = len(prompt) if request.phase == "decode" else 0
            kept.append((ids[start:], weights[start:]))
            tell(number + 1)
    if not sum(len(ids) for ids, _ in kept):
        raise WorkloadError("model: ended every text at once: no token was generated; record prefill")
    ids, weights = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    lens = np.array([len(part) for part, _ in kept if len(part)], dtype=np.int32)
    return Trace(
        ids, lens, routers(model)[0].num_experts, request.model, request.phase, request.source, request.licence, weights
    )


def _check(model: Any, prompts: Sequence[Sequence[int]], request: Request) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    problems = [] if prompts else ["prompts: none given"]
    for number, prompt in enumerate(prompts, start=1):
        if not len(prompt):
            problems.append(f"prompt {number}: no token; remove it, or write some text")
        elif wrong := [token for token in prompt if not 0 <= token < model.config.vocab_size]:
            problems.append(f"prompt {number}: token {wrong[0]}: the model has {model.config.vocab_size} tokens")
        elif context is not None and len(prompt) + request.max_new_tokens > context:
            long = f"{len(prompt)} tokens and {request.max_new_tokens} new ones"
            problems.append(f"prompt {number}: {long}: the model takes {context}; shorten it")
    if problems:
        raise WorkloadError(*problems)


def _run(model: Any, prompt: Sequence[int], max_new_tokens: int) -> int:
    """Feed a prompt and what the model makes of it; return how many tokens were fed."""
    torch = libraries.torch()
    ends = _ends(model)
    ids = torch.tensor([list(prompt)], device=model.device)
    cache, fed = None, 0
    for _ in range(max_new_tokens + 1):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        fed += ids.shape[1]
        cache, ids = out.past_key_values, out.logits[:, -1].argmax(dim=-1, keepdim=True)
        if int(ids) in ends:
            break
    return fed


def _ends(model: Any) -> set[int]:
    """Return the tokens that end a text."""
    stated = model.generation_config.eos_token_id
    return set(stated) if isinstance(stated, list) else {stated} - {None}


def _taken(heard: Heard, fed: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Empty what was heard; return ids and weights ``[tokens, layers, top_k]``, each token's by falling weight."""
    for number, calls in enumerate(heard):
        if (routed := sum(len(ids) for ids, _ in calls)) != fed:
            raise WorkloadError(
                f"MoE layer {number}: its router was asked for {routed} of {fed} tokens, so the model runs kernels "
                "that go past it; run it without them, on the CPU for example"
            )
    layers = [[np.concatenate(parts) for parts in zip(*calls, strict=True)] for calls in heard]
    for calls in heard:
        calls.clear()
    ids, weights = (np.stack(parts, axis=1) for parts in zip(*layers, strict=True))
    falling = np.argsort(-weights, axis=2, kind="stable")
    return np.take_along_axis(ids, falling, axis=2), np.take_along_axis(weights, falling, axis=2)
