"""The arrival rate that a deployment can take at all, from iteration times alone."""

import numpy as np

from simulator.engine.serving.records import Work
from simulator.serve.pools import Deployment, Pool


def saturation_per_s(deployed: Deployment, work: Work) -> float:
    """Return the rate at which the pools are always busy with full batches, for requests of mean lengths [requests/s].

    Prompts come in full iterations; decode runs as many sequences as a rank takes or its KV memory holds. Nothing is
    found in prefix caches, which makes the true rate higher where prompts share prefixes.
    """
    prompt, output = float(work.prompt_tokens.mean()), float(work.output_tokens.mean())
    steps = float(work.steps.mean())
    first, decode = deployed.pools[0], deployed.pools[-1]
    prompt_s = _prompt_s(first, prompt)
    step_s, sequences = _step(decode, prompt, output)
    decode_s = steps * step_s / sequences
    if first is decode:
        return first.spec.instances / (prompt_s + decode_s)
    per_second = [pool.spec.instances / each for pool, each in ((first, prompt_s), (decode, decode_s)) if each > 0]
    return min(per_second)


def _prompt_s(pool: Pool, prompt: float) -> float:
    """Return the time of an instance that a prompt takes when all ranks compute prompts [s]."""
    spec = pool.spec
    ranks, budget = spec.ranks, float(spec.token_budget)
    chunks = max(1.0, budget / prompt)
    before = max(0.0, (prompt - budget) / 2.0)
    full = np.full(ranks, budget)
    nothing = np.zeros(ranks)
    parts = spec.times.mixed(nothing, nothing, np.array([full, full * before, np.full(ranks, chunks)]), 1.0)
    return float(parts.sum()) * prompt / (budget * ranks)


def _step(pool: Pool, prompt: float, output: float) -> tuple[float, float]:
    """Return the time of a decode iteration with full batches [s], and an instance's sequences."""
    spec = pool.spec
    resident = prompt + output / 2.0
    held = spec.rank_blocks * spec.block_tokens / (resident + spec.block_tokens / 2.0)
    each = max(min(float(spec.max_sequences), held), 1.0)
    ranks = np.ones(spec.ranks)
    parts = spec.times.decode(each * ranks, each * resident * ranks, each * ranks, 1, 1.0)
    return float(parts.sum()), each * spec.ranks
