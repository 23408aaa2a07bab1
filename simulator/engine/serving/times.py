"""Iteration times from tables: a few array operations per run instead of a walk through all layers."""

from dataclasses import dataclass

import numpy as np

from simulator.engine.serving.records import PART_AT, Floats


def spread_over(values: Floats, grid: Floats) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], Floats]:
    """Return the cell of each value on a grid, and how far into the cell it lies; beyond the ends the lines go on."""
    cell = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return cell, (values - grid[cell]) / (grid[cell + 1] - grid[cell])


@dataclass(frozen=True, slots=True)
class PhaseTable:
    """Time of an iteration by what the slowest rank's attention takes and by what the experts get.

    Parameters
    ----------
    attention_s
        ``[a]`` time of one layer's attention on the slowest rank [s].
    tokens
        ``[x]`` tokens of the mean attention-DP rank.
    parts_s
        ``[x, a, len(ITERATION_PARTS)]`` [s].
    """

    attention_s: Floats
    tokens: Floats
    parts_s: Floats

    def at(self, attention_s: Floats, tokens: float) -> Floats:
        """Return parts, linear between the table's points, ``[n, len(ITERATION_PARTS)]`` [s].

        Parameters
        ----------
        attention_s
            ``[n]`` [s].
        tokens
            Tokens of the mean rank.
        """
        row, part = spread_over(np.array([tokens]), self.tokens)
        low, high = self.parts_s[row[0]], self.parts_s[row[0] + 1]
        by_attention = low + (high - low) * part[0]
        cell, inside = spread_over(attention_s, self.attention_s)
        found: Floats = by_attention[cell] * (1.0 - inside)[:, None] + by_attention[cell + 1] * inside[:, None]
        return found


@dataclass(frozen=True, slots=True)
class Attention:
    """Time of one layer's attention on one rank: decode by sequences and tokens, prompts by tokens, prefix, chunks.

    Parameters
    ----------
    sequences, kv_tokens, decode_s
        ``[b]``, ``[k]`` and ``[b, k]`` [s].
    chunk_tokens, prefix, chunks, prompt_s
        ``[p]`` new tokens, ``[c]`` tokens of a chunk's sequence before it, ``[s]`` chunks, ``[p, c, s]`` [s].
    """

    sequences: Floats
    kv_tokens: Floats
    decode_s: Floats
    chunk_tokens: Floats
    prefix: Floats
    chunks: Floats
    prompt_s: Floats

    def of_decode(self, sequences: Floats, kv_tokens: Floats) -> Floats:
        """Return ``[n]`` [s]; 0 for a rank without sequences."""
        at, part = spread_over(sequences, self.sequences)
        column, inside = spread_over(kv_tokens, self.kv_tokens)
        table = self.decode_s
        low = table[at, column] * (1.0 - inside) + table[at, column + 1] * inside
        high = table[at + 1, column] * (1.0 - inside) + table[at + 1, column + 1] * inside
        found: Floats = np.where(sequences > 0, low * (1.0 - part) + high * part, 0.0)
        return found

    def of_prompts(self, tokens: Floats, token_prefixes: Floats, chunks: Floats) -> Floats:
        """Return ``[n]`` [s]; 0 for a rank without new tokens.

        Parameters
        ----------
        token_prefixes
            ``[n]`` tokens of each chunk times those before it, summed: equal chunks at the mean prefix stand for all.
        """
        some = tokens > 0
        shown = np.where(some, tokens, 1.0)
        axes = (
            spread_over(shown, self.chunk_tokens),
            spread_over(token_prefixes / shown, self.prefix),
            spread_over(np.where(some, chunks, 1.0), self.chunks),
        )
        total = np.zeros(len(tokens))
        for corner in range(8):
            weight, place = np.ones(len(tokens)), []
            for axis, (cell, inside) in enumerate(axes):
                up = corner >> axis & 1
                weight = weight * (inside if up else 1.0 - inside)
                place.append(cell + up)
            total += weight * self.prompt_s[tuple(place)]
        found: Floats = np.where(some, total, 0.0)
        return found


@dataclass(frozen=True, slots=True)
class TabulatedTimes:
    """Iteration times of one instance (`IterationTimes`).

    Parameters
    ----------
    attention
        Of one layer and rank.
    decode_table, prompt_table
        Iterations without and with prompts; None where the instance has none.
    queries
        Tokens that decode computes per sequence: one, and the drafts.
    """

    attention: Attention
    decode_table: PhaseTable | None
    prompt_table: PhaseTable | None
    queries: float = 1.0

    def decode(self, sequences: Floats, kv_tokens: Floats, grow_tokens: Floats, steps: int, spread: float) -> Floats:
        """See `IterationTimes`."""
        table = self.decode_table or self.prompt_table
        if table is None:
            raise ValueError("an instance without any iteration table")
        first = self.attention.of_decode(sequences, kv_tokens)
        slowest = [int(first.argmax())]
        if steps > 1:
            last = self.attention.of_decode(sequences, kv_tokens + grow_tokens * (steps - 1))
            slowest = sorted({*slowest, int(last.argmax())})
        passed = np.arange(steps, dtype=np.float64)
        rows = [
            self.attention.of_decode(np.full(steps, sequences[rank]), kv_tokens[rank] + grow_tokens[rank] * passed)
            for rank in slowest
        ]
        time_s = np.maximum(*rows) if len(rows) > 1 else rows[0]
        parts = table.at(time_s, float(sequences.mean()) * self.queries * spread)
        return _with_wait(parts, float(first.mean()), float(first.max()))

    def mixed(self, sequences: Floats, kv_tokens: Floats, chunks: Floats, spread: float) -> Floats:
        """See `IterationTimes`."""
        if self.prompt_table is None:
            raise ValueError("prompts on an instance that only decodes")
        time_s = self.attention.of_decode(sequences, kv_tokens) + self.attention.of_prompts(*chunks)
        tokens = float((sequences * self.queries + chunks[0]).mean()) * spread
        parts = self.prompt_table.at(time_s.max(keepdims=True), tokens)
        found: Floats = _with_wait(parts, float(time_s.mean()), float(time_s.max()))[0]
        return found


def _with_wait(parts: Floats, mean_s: float, slowest_s: float) -> Floats:
    """Return parts in which the wait of the mean rank for the slowest one's attention is called so."""
    if slowest_s <= 0:
        return parts
    wait = parts[:, PART_AT["attention"]] * (1.0 - mean_s / slowest_s)
    parts[:, PART_AT["attention"]] -= wait
    parts[:, PART_AT["imbalance_wait"]] += wait
    return parts
