"""The sequences of one instance as one array, and the KV blocks that they hold."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Rows of the array: request, its rank, cached tokens, prompt tokens still to compute, decode iterations left, tokens
# per decode iteration, blocks held, order of admission, time of its last token [s].
REQUEST, RANK, CACHED, NEED, STEPS, RATE, BLOCKS, ORDER, EMITTED = range(9)
ROWS = 9
MANY_BLOCKS = 2**32  # more than a rank has


class Batch:
    """Sequences on the ranks of an instance; a column each, in no order.

    Parameters
    ----------
    ranks, rank_blocks, block_tokens
        As in `PoolSpec`.

    `free`, `sequences` and `pending` are ``[ranks]``: free KV blocks (-1 on a rank that has failed), sequences, and
    prompt tokens still to compute.
    """

    def __init__(self, ranks: int, rank_blocks: int, block_tokens: int) -> None:
        self.columns = np.zeros((ROWS, 64))
        self.count = 0
        self.block_tokens = block_tokens
        self.free = np.full(ranks, rank_blocks, dtype=np.int64)
        self.sequences = np.zeros(ranks, dtype=np.int64)
        self.pending = np.zeros(ranks)

    @property
    def rows(self) -> Floats:
        """``[ROWS, sequences]`` view of the sequences."""
        return self.columns[:, : self.count]

    @property
    def rank(self) -> Ints:
        """``[sequences]`` ranks."""
        return self.columns[RANK, : self.count].astype(np.int64)

    def by_rank(self, values: Floats) -> Floats:
        """Return sums over the sequences of each rank, ``[ranks]``."""
        summed: Floats = np.bincount(self.rank, values, len(self.free)).astype(np.float64)
        return summed

    def blocks_for(self, tokens: float) -> int:
        """Return the blocks that hold so many tokens."""
        return -int(-tokens // self.block_tokens)

    def best_rank(self, blocks: int, max_sequences: int, budget: float) -> int | None:
        """Return the rank for a sequence of `blocks`: least prompt tokens to compute, then most free blocks.

        Ranks that have an iteration full of prompts take no more, so that late requests may find a better one.
        """
        able = (self.sequences < max_sequences) & (self.free >= blocks) & (self.pending < budget)
        if not able.any():
            return None
        return int(np.where(able, self.pending * MANY_BLOCKS - self.free, np.inf).argmin())

    def add(
        self,
        request: int,
        rank: int,
        cached: float,
        need: float,
        steps: float,
        rate: float,
        blocks: int,
        order: float,
        emitted_s: float,
    ) -> None:
        """Add a sequence, its blocks taken from the rank."""
        if self.count == self.columns.shape[1]:
            self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)], axis=1)
        self.columns[:, self.count] = (request, rank, cached, need, steps, rate, blocks, order, emitted_s)
        self.count += 1
        self.free[rank] -= blocks
        self.sequences[rank] += 1
        self.pending[rank] += need

    def remove(self, index: int, keep_blocks: bool = False) -> Floats:
        """Take a sequence out and return its column; the last one moves to its place.

        Parameters
        ----------
        keep_blocks
            Leave its blocks taken, for a transfer that still reads them.
        """
        column = self.columns[:, index].copy()
        rank = int(column[RANK])
        self.sequences[rank] -= 1
        self.pending[rank] -= column[NEED]
        if not keep_blocks:
            self.free[rank] += int(column[BLOCKS])
        self.count -= 1
        self.columns[:, index] = self.columns[:, self.count]
        return column

    def grown(self, decoding: NDArray[np.bool_], steps: int) -> Floats:
        """Return ``[sequences]`` blocks that hold each sequence after so many more decode iterations."""
        rows = self.rows
        tokens = rows[CACHED] + np.where(decoding, rows[RATE] * steps, 0.0)
        # A sum of fractional rates may exceed a whole number by rounding alone.
        blocks: Floats = np.maximum(rows[BLOCKS], np.ceil(tokens / self.block_tokens - 1e-9))
        return blocks

    def take(self, blocks: Floats) -> None:
        """Let each sequence hold `blocks`, ``[sequences]``."""
        more = blocks - self.rows[BLOCKS]
        if more.any():
            self.free -= self.by_rank(more).astype(np.int64)
            self.rows[BLOCKS] = blocks

    def trim(self, decoding: NDArray[np.bool_]) -> None:
        """Give back what decoding sequences hold beyond their tokens, after a run that ended early."""
        needed = np.maximum(np.ceil(self.rows[CACHED] / self.block_tokens - 1e-9), 1.0)
        self.take(np.where(decoding, np.minimum(needed, self.rows[BLOCKS]), self.rows[BLOCKS]))

    def short(self, blocks: Floats) -> NDArray[np.bool_]:
        """Return the ranks that would lack blocks, ``[ranks]``."""
        lacking: NDArray[np.bool_] = self.by_rank(blocks - self.rows[BLOCKS]) > np.maximum(self.free, 0)
        return lacking
