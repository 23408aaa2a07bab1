"""Requests that wait for an instance, and how they get KV blocks there or lose them."""

import heapq

import numpy as np
from numpy.typing import NDArray

from simulator.engine.serving.batch import CACHED, EMITTED, NEED, ORDER, RANK, RATE, REQUEST, STEPS, Batch
from simulator.engine.serving.log import Log
from simulator.engine.serving.prefix_cache import PrefixCache
from simulator.engine.serving.records import Floats, PoolSpec, Role

# Share of a rank's blocks that admission leaves free for sequences to grow (vllm-project/vllm: `watermark`).
WATERMARK = 0.01


class Queue:
    """First come, first served within a priority; preempted requests come back at their old place.

    Parameters
    ----------
    spec, role, log, prefixes
        Of the instance.
    """

    def __init__(self, spec: PoolSpec, role: Role, log: Log, prefixes: PrefixCache) -> None:
        self.spec, self.role, self.log, self.prefixes = spec, role, log, prefixes
        self.waiting: list[tuple[int, int]] = []
        self.swapped: set[int] = set()
        self.load_s = np.zeros(spec.ranks)
        self._admissions = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def push(self, request: int) -> None:
        """Let a request wait."""
        priority = self.log.work.priority
        heapq.heappush(self.waiting, (0 if priority is None else int(priority[request]), request))

    def emptied(self) -> list[int]:
        """Return all requests that wait, and forget them."""
        gone = [request for _, request in self.waiting]
        self.waiting, self.swapped = [], set()
        return gone

    def loaded_s(self) -> float:
        """Return the time of loads from elsewhere since the last call: that of the rank with most [s]."""
        longest = float(self.load_s.max())
        self.load_s[:] = 0.0
        return longest

    def admit(self, batch: Batch, now_s: float) -> None:
        """Take requests in while the first in the queue finds a rank with enough free blocks."""
        log, spec = self.log, self.spec
        reserve = int(WATERMARK * spec.rank_blocks)
        while self.waiting:
            request = self.waiting[0][1]
            computed = self.role == "decode" or request in self.swapped
            tokens = float(log.work.prompt_tokens[request] + np.rint(log.tokens[request]) - computed)
            blocks = batch.blocks_for(tokens + 1)
            rank = batch.best_rank(blocks, spec.max_sequences, spec.token_budget)
            if rank is None or (batch.sequences[rank] and batch.free[rank] < blocks + reserve):
                return
            heapq.heappop(self.waiting)
            cached = tokens if computed else float(self._prefix(request, rank, tokens))
            if request in self.swapped:
                self.swapped.discard(request)
                self.load_s[rank] += tokens * (spec.swap_s_per_token or 0.0)
            if np.isnan(log.admitted_s[request]):
                log.admitted_s[request] = now_s
            left, missing = int(log.steps_left[request]), float(log.work.output_tokens[request] - log.tokens[request])
            rate, emitted_s = missing / left if left else 0.0, float(log.emitted_s[request])
            batch.add(request, rank, cached, tokens - cached, left, rate, blocks, self._admissions, emitted_s)
            self._admissions += 1

    def _prefix(self, request: int, rank: int, tokens: float) -> int:
        """Return the prompt tokens that the prefix cache holds, at most all but one; loading them is counted."""
        work = self.log.work
        if not self.prefixes.capacity or work.prefix_blocks is None:
            return 0
        found = min(self.prefixes.hit(work.hashes(request)) * work.prefix_block_tokens, int(tokens) - 1)
        self.log.cached_prefix[request] = found
        self.load_s[rank] += found * self.spec.prefix_s_per_token
        return found

    def make_room(self, batch: Batch) -> list[int]:
        """Preempt the latest sequences of ranks whose blocks do not last for one more iteration.

        They wait here, their cache swapped out or to be computed again; where prompts are computed elsewhere, those
        without a swapped cache are returned.
        """
        elsewhere: list[int] = []
        while True:
            short = np.flatnonzero(batch.short(batch.grown(batch.rows[NEED] <= 0, 1)))
            if not short.size:
                return elsewhere
            rows = batch.rows
            there = np.flatnonzero(rows[RANK] == short[0])
            victim = int(there[rows[ORDER, there].argmax()])
            swaps, tokens = self.spec.swap_s_per_token is not None and rows[NEED, victim] <= 0, rows[CACHED, victim]
            request = self.drop(batch, victim)
            self.log.preemptions[request] += 1
            if swaps:
                self.load_s[short[0]] += tokens * (self.spec.swap_s_per_token or 0.0)
                self.swapped.add(request)
            if swaps or self.role != "decode":
                self.push(request)
            else:
                elsewhere.append(request)

    def drop(self, batch: Batch, index: int) -> int:
        """Take a sequence out that is not done, its tokens so far kept; return its request."""
        column = batch.remove(index)
        request = int(column[REQUEST])
        if column[NEED] <= 0:
            keep_progress(self.log, column)
        return request


def keep_progress(log: Log, column: Floats) -> None:
    """Write into the log how far a decoding sequence has come."""
    request = int(column[REQUEST])
    log.steps_left[request] = int(column[STEPS])
    log.tokens[request] = log.work.output_tokens[request] - column[RATE] * column[STEPS]
    log.emitted_s[request] = column[EMITTED]


def chunks_of(batch: Batch, prompts: NDArray[np.int64], budget: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the sequences with prompts in the order of service, and the tokens of each that an iteration computes.

    Parameters
    ----------
    prompts
        Sequences with prompt tokens to compute.
    budget
        ``[ranks]`` tokens that each rank has left.
    """
    rank = batch.rows[RANK, prompts].astype(np.int64)
    order = np.lexsort((batch.rows[ORDER, prompts], rank))
    prompts, rank = prompts[order], rank[order]
    need = batch.rows[NEED, prompts]
    before = np.cumsum(need) - need
    before -= before[np.searchsorted(rank, rank)]
    return prompts, np.clip(budget[rank] - before, 0.0, need)
