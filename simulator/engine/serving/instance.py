"""One serving instance: ranks in lock step, iterations one after the other."""

from collections.abc import Callable

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.engine.serving.batch import BLOCKS, CACHED, EMITTED, NEED, RANK, RATE, REQUEST, STEPS, Batch
from simulator.engine.serving.log import Log
from simulator.engine.serving.prefix_cache import PrefixCache
from simulator.engine.serving.queue import Queue, chunks_of, keep_progress
from simulator.engine.serving.records import PART_AT, Floats, PoolSpec, Role

# Iterations of one event, at most; more of them cost memory, not accuracy.
MAX_RUN = 256
LATE_S = 1e-9


class Instance:
    """Serves the requests that it is given; says when prompts are done and when requests must start again.

    Between events stands a run: one iteration with prompts, or as many decode iterations as have the same sequences.
    A request that arrives meanwhile cuts the run at the end of the iteration under way.

    Parameters
    ----------
    role, index
        Which pool, and the instance's number in it.
    prefixes
        Its prefix cache, perhaps shared with others.
    prefilled
        Called with the instance and the sequence's column when a prompt is done in a prefill pool.
    restarted
        Called with the instance and a request that lost its KV cache here and must be computed again.
    finished
        Called with the instance and a request that is done.
    """

    def __init__(
        self,
        env: simpy.Environment,
        spec: PoolSpec,
        role: Role,
        index: int,
        log: Log,
        prefixes: PrefixCache,
        prefilled: Callable[["Instance", Floats], None],
        restarted: Callable[["Instance", int], None],
        finished: Callable[["Instance", int], None],
    ) -> None:
        self.env, self.spec, self.role, self.index, self.log = env, spec, role, index, log
        self.prefilled, self.restarted, self.finished = prefilled, restarted, finished
        self.batch = Batch(spec.ranks, spec.rank_blocks, spec.block_tokens)
        self.queue = Queue(spec, role, log, prefixes)
        self.running = self.down = False
        self.dead_ranks, self.outstanding_tokens = 0, 0.0
        self._generation, self._idle_since, self._start_s = 0, 0.0, 0.0
        self._ends, self._parts = np.zeros(0), np.zeros((0, len(PART_AT)))
        self._chunks: tuple[NDArray[np.int64], Floats] | None = None
        self._was_cut, self._prompt_share = False, 0.0

    @property
    def pool(self) -> int:
        """0 where prompts are computed, 1 for decode alone."""
        return 1 if self.role == "decode" else 0

    def submit(self, request: int) -> None:
        """Queue a request; it is taken in at the end of the iteration under way."""
        alone = not self.queue
        self.queue.push(request)
        self.log.instance[request] = self.index
        if alone:
            self._wake()

    def release(self, column: Floats) -> None:
        """Free the blocks that a transfer has read."""
        rank = int(column[RANK])
        if self.batch.free[rank] >= 0:
            self.batch.free[rank] += int(column[BLOCKS])
        if self.queue:
            self._wake()

    def fail(self, policy: str, down_s: float) -> None:
        """Lose a rank: the whole instance for `down_s` [s], or that rank alone while others hold its experts too."""
        if self.down:
            return
        self._advance(int(np.searchsorted(self._ends, self.env.now, side="right")))
        rank = self.spec.ranks - 1 - self.dead_ranks
        whole = policy == "restart" or rank <= 0
        lost = np.flatnonzero(self.batch.rank >= (0 if whole else rank))
        gone = [self.queue.drop(self.batch, index) for index in lost[::-1].tolist()]
        self._halt()
        if whole:
            gone += self.queue.emptied()
            self.batch = Batch(self.spec.ranks, self.spec.rank_blocks, self.spec.block_tokens)
            self.dead_ranks, self.down = 0, True
            self._schedule(down_s, self._back)
        else:
            self.batch.free[rank], self.dead_ranks = -1, self.dead_ranks + 1
            self._wake()
        for request in sorted(gone):
            self.restarted(self, request)

    def _back(self) -> None:
        self.down = False
        self._wake()

    def _wake(self) -> None:
        """Start iterating, or end the run with the iteration under way, so that requests can be taken in."""
        if self.down:
            return
        if not self.running:
            self.running = True
            self.log.parts_s[self.pool, PART_AT["idle"]] += self.env.now - self._idle_since
            self._schedule(0.0, self._boundary)
            return
        left = int(np.searchsorted(self._ends, self.env.now, side="left")) + 1
        if left < len(self._ends):
            self._ends, self._was_cut = self._ends[:left], True
            self._schedule(self._ends[-1] - self.env.now, self._complete)

    def _halt(self) -> None:
        self._generation += 1
        self._ends = self._ends[:0]
        if self.running:
            self.running, self._idle_since = False, self.env.now

    def _schedule(self, delay_s: float, what: Callable[[], None]) -> None:
        """Let `what` happen after a delay, in place of what was scheduled before."""
        self._generation += 1
        generation = self._generation
        event = self.env.timeout(max(delay_s, 0.0))
        event.callbacks.append(lambda _: what() if generation == self._generation else None)

    def _complete(self) -> None:
        self._advance(len(self._ends))
        self._boundary()

    def _boundary(self) -> None:
        """Between two iterations: take requests in, see to blocks, start the next run."""
        self.queue.admit(self.batch, self.env.now)
        for request in self.queue.make_room(self.batch):
            self.restarted(self, request)
        if not self.batch.count:
            self._halt()
            return
        decoding = self.batch.rows[NEED] <= 0
        self._parts = self._decode() if decoding.all() else self._mixed(decoding)
        self._parts[0, PART_AT["transfer"]] += self.queue.loaded_s()
        self._start_s = self.env.now
        self._ends = self._start_s + np.cumsum(self._parts.sum(axis=1))
        self._schedule(self._ends[-1] - self._start_s, self._complete)

    @property
    def _spread(self) -> float:
        return self.spec.ranks / (self.spec.ranks - self.dead_ranks)

    def _decode(self) -> Floats:
        """Give the blocks of as many iterations as end no sequence and overflow no rank; return their times."""
        rows, batch = self.batch.rows, self.batch
        everyone = np.ones(batch.count, dtype=np.bool_)
        steps = min(int(rows[STEPS].min()), MAX_RUN)
        blocks = batch.grown(everyone, steps)
        while steps > 1 and batch.short(blocks).any():
            steps //= 2
            blocks = batch.grown(everyone, steps)
        batch.take(blocks)
        self._chunks, self._prompt_share = None, 0.0
        sequences, cached = batch.sequences.astype(float), batch.by_rank(rows[CACHED] + 1.0)
        return self.spec.times.decode(sequences, cached, batch.by_rank(rows[RATE]), steps, self._spread)

    def _mixed(self, decoding: NDArray[np.bool_]) -> Floats:
        rows, batch, ranks = self.batch.rows, self.batch, self.spec.ranks
        batch.take(batch.grown(decoding, 1))
        sequences = batch.by_rank(decoding.astype(float))
        cached = batch.by_rank(np.where(decoding, rows[CACHED] + 1.0, 0.0))
        prompts, chunk = chunks_of(batch, np.flatnonzero(~decoding), self.spec.token_budget - sequences)
        rank, prefix = rows[RANK, prompts].astype(np.int64), rows[CACHED, prompts]
        chunks = np.array([np.bincount(rank, each, ranks) for each in (chunk, chunk * prefix, chunk > 0)])
        self._chunks = (prompts, chunk)
        self._prompt_share = float(chunk.sum() / (chunk.sum() + sequences.sum()))
        return self.spec.times.mixed(sequences, cached, chunks, self._spread)[None]

    def _advance(self, steps: int) -> None:
        """Count what the first iterations of the run have done; sequences that are done leave."""
        if not steps:
            return
        log, batch, rows = self.log, self.batch, self.batch.rows
        took = np.diff(self._ends[:steps], prepend=self._start_s)
        end_s = float(self._ends[steps - 1])
        decoding = rows[NEED] <= 0
        self._count_gaps(rows[EMITTED, decoding], took)
        rows[CACHED, decoding] += rows[RATE, decoding] * steps
        rows[STEPS, decoding] -= steps
        rows[EMITTED, decoding] = end_s
        if self._was_cut:
            batch.trim(decoding)
            self._was_cut = False
        waits = len(self.queue)
        used = self.spec.rank_blocks * self.spec.ranks - int(np.maximum(batch.free, 0).sum())
        log.timeline.append(
            (end_s, self.pool, self.index, int(decoding.sum()), int((~decoding).sum()), waits, used, took.mean(), steps)
        )
        log.parts_s[self.pool] += self._parts[:steps].sum(axis=0)
        log.prompt_s[self.pool] += self._prompt_share * took.sum()
        log.iterations += steps
        log.events += 1
        done = np.flatnonzero(decoding & (rows[STEPS] <= 0))
        if self._chunks is not None:
            done = np.concatenate([done, self._prompts_advance(end_s)])
        for index in np.sort(done)[::-1].tolist():
            self._leave(index, end_s)
        self._ends = self._ends[:0]

    def _count_gaps(self, emitted_s: Floats, took_s: Floats) -> None:
        late = emitted_s < self._start_s - LATE_S
        waited = emitted_s[late]
        self.log.count_gaps(took_s[:1], float(len(emitted_s) - len(waited)))
        self.log.count_gaps(self._start_s + took_s[0] - waited)
        self.log.count_gaps(took_s[1:], float(len(emitted_s)))

    def _prompts_advance(self, end_s: float) -> NDArray[np.int64]:
        """Compute the chunks of an iteration; return the sequences that leave with their prompt done."""
        log, rows = self.log, self.batch.rows
        prompts, chunk = self._chunks or (np.zeros(0, dtype=np.int64), np.zeros(0))
        self._chunks = None
        rows[CACHED, prompts] += chunk
        rows[NEED, prompts] -= chunk
        self.batch.pending -= np.bincount(rows[RANK, prompts].astype(np.int64), chunk, self.spec.ranks)
        log.computed_tokens += float(chunk.sum())
        leave = []
        for index in prompts[rows[NEED, prompts] <= 0].tolist():
            request = int(rows[REQUEST, index])
            self.queue.prefixes.use(log.work.hashes(request))
            if np.isnan(log.first_s[request]):
                log.first_s[request] = end_s
            elif log.steps_left[request]:
                log.steps_left[request] -= 1
            log.tokens[request] += 1.0
            left = int(log.steps_left[request])
            rows[STEPS, index], rows[EMITTED, index] = left, end_s
            rows[RATE, index] = (log.work.output_tokens[request] - log.tokens[request]) / left if left else 0.0
            if not left or self.role == "prefill":
                leave.append(index)
        return np.array(leave, dtype=np.int64)

    def _leave(self, index: int, end_s: float) -> None:
        done = self.batch.columns[STEPS, index] <= 0
        column = self.batch.remove(index, keep_blocks=not done)
        request = int(column[REQUEST])
        keep_progress(self.log, column)
        if done:
            self.log.tokens[request] = self.log.work.output_tokens[request]
            self.log.finish_s[request] = end_s
            self.finished(self, request)
        else:
            self.prefilled(self, column)
