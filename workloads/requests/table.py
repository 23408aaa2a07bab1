"""Requests as arrays: when each arrives, how long its prompt and answer are, and which prefix it shares."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in the order of their arrival.

    Parameters
    ----------
    arrival_s
        ``[requests]`` arrival times, the first at 0 [s].
    prompt_tokens, output_tokens
        ``[requests]`` lengths, at least 1 [tokens].
    source
        Where they come from, for the result.
    prefix_blocks, prefix_starts
        Hashes of the prompt's blocks, those of request i at ``prefix_blocks[prefix_starts[i]:prefix_starts[i + 1]]``;
        equal hashes mean an equal prompt up to there. None where prompts are not known to share anything.
    prefix_block_tokens
        Tokens of one such block.
    priority
        ``[requests]``; lower is served first. None: all equal.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    source: str
    prefix_blocks: Ints | None = None
    prefix_starts: Ints | None = None
    prefix_block_tokens: int = 512
    priority: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Time from the first arrival to the last [s]."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate [requests/s]; infinite where all arrive at once."""
        return (len(self) - 1) / self.span_s if self.span_s > 0 else float("inf")

    def hashes(self, request: int) -> Ints:
        """Return the block hashes of one request's prompt, ``[blocks]``."""
        if self.prefix_blocks is None or self.prefix_starts is None:
            return np.zeros(0, dtype=np.int64)
        return self.prefix_blocks[self.prefix_starts[request] : self.prefix_starts[request + 1]]

    def taken(self, keep: NDArray[np.bool_]) -> "Requests":
        """Return some of the requests, arrival times counted from the first of them."""
        where = np.flatnonzero(keep)
        arrival = self.arrival_s[where]
        blocks, starts = self.prefix_blocks, self.prefix_starts
        if blocks is not None and starts is not None:
            sizes = np.diff(starts)[where]
            inside = np.concatenate([blocks[starts[i] : starts[i + 1]] for i in where] or [blocks[:0]])
            blocks, starts = inside, np.concatenate([[0], np.cumsum(sizes)])
        return replace(
            self,
            arrival_s=arrival - (arrival[0] if len(arrival) else 0.0),
            prompt_tokens=self.prompt_tokens[where],
            output_tokens=self.output_tokens[where],
            prefix_blocks=blocks,
            prefix_starts=starts,
            priority=None if self.priority is None else self.priority[where],
        )

    def at_rate(self, rate_per_s: float) -> "Requests":
        """Return the same requests with all gaps scaled so that they arrive at a mean rate [requests/s].

        Raises
        ------
        WorkloadError
            If the rate is not positive, or all requests arrive at the same time.
        """
        if not (np.isfinite(rate_per_s) and rate_per_s > 0):
            raise WorkloadError(f"requests: rate = {rate_per_s:g}: not a positive number of requests per second")
        if self.span_s <= 0:
            raise WorkloadError(
                f"requests: rate = {rate_per_s:g}: all {len(self)} requests arrive at once, so there are no gaps to "
                "scale; leave the rate out, or give requests with arrival times"
            )
        return replace(self, arrival_s=self.arrival_s * (self.rate_per_s / rate_per_s))

    def before(self, duration_s: float) -> "Requests":
        """Return the requests that arrive within `duration_s` [s] of the first.

        Raises
        ------
        WorkloadError
            If the duration is not positive.
        """
        if not duration_s > 0:
            raise WorkloadError(f"requests: duration = {duration_s:g} s: not positive")
        return self.taken(self.arrival_s <= duration_s)

    def repeated(self, count: int) -> "Requests":
        """Return `count` requests: the first ones, or all of them again and again, one mean gap between the rounds.

        Repeated prompts share prefixes with their first round only where hashes say that prompts share any.
        """
        if count <= len(self):
            return self.taken(np.arange(len(self)) < count)
        rounds = -(-count // len(self))
        period = self.span_s + (self.span_s / (len(self) - 1) if len(self) > 1 else 0.0)
        shifts = np.repeat(np.arange(rounds) * period, len(self))
        starts = self.prefix_starts
        if self.prefix_blocks is not None and starts is not None:
            starts = np.concatenate([[0], np.cumsum(np.tile(np.diff(starts), rounds))])
        whole = replace(
            self,
            arrival_s=np.tile(self.arrival_s, rounds) + shifts,
            prompt_tokens=np.tile(self.prompt_tokens, rounds),
            output_tokens=np.tile(self.output_tokens, rounds),
            prefix_blocks=None if self.prefix_blocks is None else np.tile(self.prefix_blocks, rounds),
            prefix_starts=starts,
            priority=None if self.priority is None else np.tile(self.priority, rounds),
            source=f"{self.source}, repeated to {count:,} requests",
        )
        return whole.taken(np.arange(len(whole)) < count)
