"""Tables of iteration times for request-level simulation, from the cost functions of steady-state serving."""

from dataclasses import replace

import numpy as np

from simulator.analytic.longest_path import longest_paths
from simulator.engine.serving.records import ITERATION_PARTS, PART_AT, Floats
from simulator.engine.serving.times import Attention, PhaseTable, TabulatedTimes
from simulator.phase.fold import iteration_program
from simulator.phase.layers import operator_parts
from simulator.phase.serving import ServingIteration, serving_iteration
from simulator.phase.setup import Setup
from simulator.phase.tensor_parallel import tensor_parallel_parts
from simulator.program import PART_INDEX
from workloads.operators import Phase, attention_operators

ACTIVATION_BYTES = 2.0
# Ratios of neighbouring grid points: attention is smooth (square in a chunk's tokens), experts nearly linear.
ATTENTION_STEP, CHUNK_STEP, TOKEN_STEP, TIME_POINTS = 1.3, 1.15, 2.0, 64
MAX_CONTEXT = 1 << 20


def geometric(low: float, high: float, ratio: float) -> Floats:
    """Return a rising grid of whole numbers from `low` to at least `high`, about `ratio` apart, two points at least."""
    count = int(np.ceil(np.log(max(high / low, 2.0)) / np.log(ratio))) + 1
    return np.unique(np.rint(low * ratio ** np.arange(count)))


def iteration_times(decode: Setup | None, prefill: Setup | None, max_sequences: int, budget: int) -> TabulatedTimes:
    """Return the iteration times of an instance that decodes, computes prompts, or does both.

    Parameters
    ----------
    decode, prefill
        The scenario resolved for either phase; None where the instance never does it alone.
    max_sequences
        Sequences of a rank that the tables cover.
    budget
        Tokens of a rank in an iteration with prompts.
    """
    attention = _attention(decode or prefill, prefill or decode, max_sequences, budget)
    drafts = _drafts(decode)
    decode_table = _table(decode, attention, geometric(4, max_sequences, TOKEN_STEP)) if decode else None
    prompt_table = _table(prefill, attention, geometric(64, budget, TOKEN_STEP)) if prefill else None
    return TabulatedTimes(attention, decode_table, prompt_table, 1.0 + drafts)


def _drafts(resolved: Setup | None) -> int:
    if resolved is None or resolved.scenario.workload.mtp_acceptance is None:
        return 0
    return resolved.model.mtp_layers


def _halves(resolved: Setup) -> int:
    return 2 if resolved.scenario.plan.overlap == "two-microbatch" else 1


def attention_parts(resolved: Setup, tokens: Floats, context: Floats, sequences: Floats, phase: Phase) -> Floats:
    """Return the attention block of one micro-batch of a layer on one rank, ``[..., len(PARTS)]`` [s].

    Parameters
    ----------
    tokens, context, sequences
        Of the whole iteration, broadcast against each other; halved where two micro-batches overlap.
    """
    placed, halves = resolved.layout, _halves(resolved)
    share = resolved.core_share if halves == 2 else 1.0
    tokens, context, sequences = np.broadcast_arrays(tokens / halves, context, sequences / halves)
    ops = attention_operators(
        resolved.model, tokens, context, sequences, phase, resolved.precision, placed.tensor, placed.context
    )
    parts = operator_parts(ops, resolved.machine, share)
    if placed.tensor > 1:
        per_token = ACTIVATION_BYTES * resolved.model.hidden
        sizes, where = np.unique(tokens, return_inverse=True)
        rows = [tensor_parallel_parts(resolved.machine, placed, float(size) * per_token) for size in sizes]
        parts = parts + np.array(rows)[where.reshape(tokens.shape)]
    return parts


def _attention(decode: Setup | None, prefill: Setup | None, max_sequences: int, budget: int) -> Attention:
    if decode is None or prefill is None:
        raise ValueError("neither decode nor prefill")
    queries = 1.0 + _drafts(decode)
    sequences = geometric(1, max_sequences, ATTENTION_STEP)
    kv_tokens = geometric(1, MAX_CONTEXT * 8, ATTENTION_STEP)
    held, kv = sequences[:, None], kv_tokens[None, :]
    context = np.maximum(kv / held, queries)  # a sequence holds what it computes at least
    decode_s = attention_parts(decode, held * queries, context, held, "decode").sum(axis=-1)
    tokens = geometric(1, budget, CHUNK_STEP)
    prefix = np.concatenate([[0.0], geometric(64, MAX_CONTEXT, 1.5)])
    chunks = geometric(1, 256, ATTENTION_STEP)
    new, before, number = tokens[:, None, None], prefix[None, :, None], chunks[None, None, :]
    number = np.minimum(number, new)  # more chunks than tokens can't be
    prompt_s = attention_parts(prefill, new, before + new / number, number, "prefill").sum(axis=-1)
    return Attention(sequences, kv_tokens, decode_s, tokens, prefix, chunks, prompt_s)


def _at_tokens(resolved: Setup, tokens: float) -> ServingIteration:
    """Return the steady-state iteration with so many tokens on each attention-DP rank."""
    workload = resolved.scenario.workload
    key = "batch_per_rank" if workload.phase == "decode" else "tokens_per_rank"
    per_sequence = 1 + _drafts(resolved) if workload.phase == "decode" else 1
    changed = workload.model_copy(update={key: tokens / per_sequence})
    return serving_iteration(replace(resolved, scenario=resolved.scenario.model_copy(update={"workload": changed})))


def _table(resolved: Setup, attention: Attention, axis: Floats) -> PhaseTable:
    """Return times over the tokens of a rank and over the attention time of the slowest one."""
    workload = resolved.scenario.workload
    drafts = _drafts(resolved) if workload.phase == "decode" else 0
    tokens = axis * (1 + drafts)
    longest = max(float(attention.decode_s[-1].max()), float(attention.prompt_s.max()))
    times = np.geomspace(float(min(attention.decode_s.min(), attention.prompt_s.min())), longest, TIME_POINTS)
    rows = [_row(resolved, _at_tokens(resolved, float(each)), float(each), times, drafts) for each in tokens]
    return PhaseTable(times, tokens, np.array(rows))


def _row(resolved: Setup, found: ServingIteration, tokens: float, times: Floats, drafts: int) -> Floats:
    """Return ``[a, len(ITERATION_PARTS)]``: the iteration with its attention replaced by each time."""
    workload = resolved.scenario.workload
    context = float(workload.sequence_tokens)
    decode = workload.phase == "decode"
    sequences = tokens / (1 + drafts) if decode else tokens / context
    phase: Phase = "decode" if decode else "prefill"
    one = attention_parts(resolved, np.array(tokens), np.array(context), np.array(sequences), phase)
    other = attention_parts(resolved, np.array(tokens), np.array(2 * context), np.array(sequences), phase)
    slope = (other - one) / (other - one).sum()
    blocks = found.blocks.mean(axis=1)
    longer = blocks.copy()
    longer[0] += slope
    ends_slope = drafts * blocks.shape[1] * slope
    program = iteration_program(blocks, found.ends, blocks.shape[1])
    per_second = iteration_program(longer, found.ends + ends_slope, blocks.shape[1]).duration_s - program.duration_s
    more_s = times - one.sum()
    durations = program.duration_s[:, None] + per_second[:, None] * more_s
    length_s = longest_paths(durations, program.stream.tolist(), program.waits_for)
    layers = blocks.shape[1] * blocks.shape[2]
    attention = blocks[0].sum(axis=(0, 1)) + slope * more_s[:, None] * layers
    ends = found.ends + ends_slope * more_s[:, None]
    return _by_part(length_s, attention, blocks[2].sum(axis=(0, 1)), ends, blocks[[1, 3]].sum(axis=(0, 1, 2)))


def _by_part(length_s: Floats, attention: Floats, experts: Floats, ends: Floats, exchange: Floats) -> Floats:
    """Return the time of iterations by part; what dispatch and combine do not hide is shared out as they take it.

    Parameters
    ----------
    length_s
        ``[a]`` whole iterations [s].
    attention, experts, ends, exchange
        ``[a, len(PARTS)]`` or ``[len(PARTS)]`` what all layers spend [s].
    """
    found = np.zeros((len(length_s), len(ITERATION_PARTS)))
    busy = [PART_INDEX["compute"], PART_INDEX["memory"]]
    on_compute = attention + experts + ends
    exposed = length_s - on_compute.sum(axis=-1)
    total = exchange.sum()
    spent = on_compute + (exchange / total if total else 0.0 * exchange) * exposed[:, None]
    for name, where in (("attention", attention), ("experts", experts), ("head", ends)):
        found[:, PART_AT[name]] = where[..., busy].sum(axis=-1)
    for part, index in PART_INDEX.items():
        if part not in {"compute", "memory"}:
            found[:, PART_AT[part if part in PART_AT else "overhead"]] += spent[:, index]
    return found
