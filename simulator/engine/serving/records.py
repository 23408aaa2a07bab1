"""What the serving engine is given: work, iteration times, pools, the way between them, failures."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Role = Literal["colocated", "prefill", "decode"]
# Where the time of iterations goes; `transfer` is prefixes and swapped sequences that are loaded, `idle` has no work.
ITERATION_PARTS = (
    "attention",
    "experts",
    "head",
    "dispatch",
    "combine",
    "tensor_parallel",
    "imbalance_wait",
    "overhead",
    "transfer",
    "idle",
)
PART_AT = {name: index for index, name in enumerate(ITERATION_PARTS)}


class IterationTimes(Protocol):
    """Times of one instance's iterations, in lock step: each ends with its slowest rank."""

    def decode(self, sequences: Floats, kv_tokens: Floats, grow_tokens: Floats, steps: int, spread: float) -> Floats:
        """Return the parts of consecutive decode iterations of one batch, ``[steps, len(ITERATION_PARTS)]`` [s].

        Parameters
        ----------
        sequences, kv_tokens
            ``[ranks]`` sequences and their cached tokens.
        grow_tokens
            ``[ranks]`` tokens by which the cache of a rank grows in an iteration.
        spread
            Factor on the tokens of an expert rank: above 1 where ranks have failed and others hold their experts.
        """
        ...

    def mixed(self, sequences: Floats, kv_tokens: Floats, chunks: Floats, spread: float) -> Floats:
        """Return the parts of one iteration with prompts in it, ``[len(ITERATION_PARTS)]`` [s].

        Parameters
        ----------
        chunks
            ``[3, ranks]`` new prompt tokens, each times the tokens before its chunk, and chunks.
        """
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """Requests as the engine serves them.

    Parameters
    ----------
    arrival_s, prompt_tokens, output_tokens
        ``[requests]``.
    steps
        ``[requests]`` decode iterations that bring the tokens after the first; 0 where there is only one.
    prefix_blocks, prefix_starts, prefix_block_tokens
        As in `workloads.requests.table.Requests`.
    priority
        ``[requests]``; lower first.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    steps: Ints
    prefix_blocks: Ints | None = None
    prefix_starts: Ints | None = None
    prefix_block_tokens: int = 512
    priority: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)

    def hashes(self, request: int) -> Ints:
        """Return the block hashes of one request's prompt, ``[blocks]``."""
        if self.prefix_blocks is None or self.prefix_starts is None:
            return np.zeros(0, dtype=np.int64)
        return self.prefix_blocks[self.prefix_starts[request] : self.prefix_starts[request + 1]]


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Instances of one kind.

    Parameters
    ----------
    times
        Iteration times of an instance.
    instances, ranks
        Instances, and attention-DP ranks of each.
    rank_blocks, block_tokens
        KV blocks of a rank, and tokens of a block.
    max_sequences
        Sequences that a rank runs at once, at most.
    token_budget
        Tokens of a rank's iteration, at most: decode first, the rest in prompt chunks.
    swap_s_per_token
        Where preempted sequences go to host memory and back: time per token of one way [s]; None: recomputed.
    prefix_tokens
        Capacity of an instance's prefix cache [tokens]; 0: none.
    prefix_s_per_token
        Time to load a cached token [s].
    """

    times: IterationTimes
    instances: int
    ranks: int
    rank_blocks: int
    block_tokens: int
    max_sequences: int
    token_budget: int
    swap_s_per_token: float | None = None
    prefix_tokens: int = 0
    prefix_s_per_token: float = 0.0


@dataclass(frozen=True, slots=True)
class Handover:
    """The way of KV caches from prefill to decode: latency [s], and time per token on a rank's port [s]."""

    latency_s: float
    s_per_token: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A rank of an instance fails at `at_s`.

    `restart`: the instance is gone and back `down_s` later; `redundant`: it goes on without the rank, whose experts the
    others hold too.
    """

    role: Role
    instance: int
    at_s: float
    policy: Literal["restart", "redundant"]
    down_s: float = 0.0


@dataclass(frozen=True, slots=True)
class System:
    """A deployment: one colocated pool, or a pool for prefill and one for decode.

    Parameters
    ----------
    first
        Pool that computes prompts.
    decode
        Pool that decodes; None where the first does both.
    handover
        Way between them.
    router
        How requests are spread over the first pool's instances; the second's always take the least loaded.
    shared_prefixes
        One prefix cache for all instances of the first pool.
    """

    first: PoolSpec
    decode: PoolSpec | None = None
    handover: Handover | None = None
    router: Literal["round-robin", "least-loaded", "cache-aware"] = "least-loaded"
    shared_prefixes: bool = False
    failures: tuple[Failure, ...] = ()
