"""Tokens and KV blocks are conserved after every event, whatever happens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.serving.batch import BLOCKS, CACHED, NEED, RANK
from simulator.engine.serving.instance import Instance
from simulator.engine.serving.records import (
    ITERATION_PARTS,
    Failure,
    Floats,
    Handover,
    IterationTimes,
    PoolSpec,
    System,
    Work,
)
from simulator.engine.serving.simulate import Serving, simulate_serving


class Linear:
    """Iterations take a while, and longer with more tokens on the fullest rank."""

    def decode(self, sequences: Floats, kv_tokens: Floats, grow_tokens: Floats, steps: int, spread: float) -> Floats:
        parts = np.zeros((steps, len(ITERATION_PARTS)))
        parts[:, 0] = 0.01 + 1e-5 * spread * (kv_tokens + grow_tokens * np.arange(steps)[:, None]).max(axis=1)
        return parts

    def mixed(self, sequences: Floats, kv_tokens: Floats, chunks: Floats, spread: float) -> Floats:
        parts = np.zeros(len(ITERATION_PARTS))
        parts[0] = 0.01 + 1e-5 * spread * kv_tokens.max() + 1e-4 * chunks[0].max()
        return parts


TIMES: IterationTimes = Linear()


def pool(
    instances: int = 1, ranks: int = 2, blocks: int = 12, most: int = 4, budget: int = 40, **more: object
) -> PoolSpec:
    return PoolSpec(TIMES, instances, ranks, blocks, 8, most, budget, **more)  # type: ignore[arg-type]


def check(serving: Serving) -> None:
    """Blocks of sequences, of transfers and free ones are all there are; each sequence has blocks for its tokens."""
    for instance in (*serving.prefill, *serving.decode):
        if not instance.down:
            check_instance(serving, instance)
    log, work = serving.log, serving.work
    assert (log.tokens <= work.output_tokens + 1e-6).all()
    assert (log.steps_left >= 0).all()


def check_instance(serving: Serving, instance: Instance) -> None:
    batch, spec = instance.batch, instance.spec
    rows = batch.rows
    assert (rows[BLOCKS] * spec.block_tokens + 1e-6 >= rows[CACHED]).all()
    assert (rows[NEED] >= 0).all()
    assert (batch.sequences == np.bincount(batch.rank, minlength=spec.ranks)).all()
    assert batch.sequences.max() <= spec.max_sequences
    assert (batch.pending == batch.by_rank(rows[NEED])).all()
    lent = np.zeros(spec.ranks)
    for source, column in serving.sending.values():
        if source is batch:
            lent[int(column[RANK])] += column[BLOCKS]
    alive = batch.free >= 0
    held = batch.by_rank(rows[BLOCKS]) + lent
    assert (held + batch.free == spec.rank_blocks)[alive].all()


@st.composite
def works(draw: st.DrawFn) -> Work:
    count = draw(st.integers(1, 25))
    number = st.integers
    gaps = draw(st.lists(st.floats(0.0, 0.5), min_size=count, max_size=count))
    prompts = np.array(draw(st.lists(number(1, 50), min_size=count, max_size=count)))
    outputs = np.array(draw(st.lists(number(1, 40), min_size=count, max_size=count)))
    drafts = draw(st.sampled_from([1, 2]))
    blocks = np.array(draw(st.lists(number(0, 3), min_size=count, max_size=count)))
    return Work(
        np.cumsum(gaps),
        prompts,
        outputs,
        -(-(outputs - 1) // drafts),
        blocks,
        np.arange(count + 1),
        8,
        np.array(draw(st.lists(number(0, 2), min_size=count, max_size=count))),
    )


@st.composite
def systems(draw: st.DrawFn) -> System:
    apart, ranks = draw(st.booleans()), draw(st.integers(1, 3))
    prefixes = draw(st.sampled_from([0, 16]))
    swap = draw(st.sampled_from([None, 1e-4]))
    both = pool(draw(st.integers(1, 2)), ranks, prefix_tokens=prefixes, prefix_s_per_token=1e-5, swap_s_per_token=swap)
    decode = pool(draw(st.integers(1, 2)), ranks, swap_s_per_token=swap) if apart else None
    roles = ["prefill", "decode"] if apart else ["colocated"]
    failures = draw(
        st.lists(
            st.builds(
                Failure,
                st.sampled_from(roles),
                st.just(0),
                st.floats(0.0, 3.0),
                st.sampled_from(["restart", "redundant"]),
                st.floats(0.1, 2.0),
            ),
            max_size=3,
        )
    )
    router = draw(st.sampled_from(["round-robin", "least-loaded", "cache-aware"]))
    return System(both, decode, Handover(1e-3, 1e-3) if apart else None, router, draw(st.booleans()), tuple(failures))


@given(systems(), works())
@settings(max_examples=150, deadline=None)
def test_tokens_and_blocks_are_conserved(system: System, work: Work) -> None:
    log = simulate_serving(system, work, observe=check)
    assert np.isfinite(log.finish_s).all()
    assert log.tokens == pytest.approx(work.output_tokens)
    assert (log.admitted_s >= work.arrival_s - 1e-9).all()
    assert (log.first_s > log.admitted_s).all()
    assert (log.finish_s >= log.first_s).all()
    assert ((log.finish_s > log.first_s) == (work.output_tokens > 1)).all()


@given(systems(), works())
@settings(max_examples=20, deadline=None)
def test_equal_input_gives_equal_output(system: System, work: Work) -> None:
    first, second = simulate_serving(system, work), simulate_serving(system, work)
    assert first.finish_s.tobytes() == second.finish_s.tobytes()
    assert first.timeline == second.timeline


def test_without_trouble_nothing_is_computed_twice() -> None:
    stream = np.random.default_rng(1)
    work = Work(
        np.cumsum(stream.exponential(0.2, 200)),
        stream.integers(1, 40, 200),
        stream.integers(1, 20, 200),
        stream.integers(1, 20, 200) * 0,
    )
    work = Work(work.arrival_s, work.prompt_tokens, work.output_tokens, work.output_tokens - 1)
    log = simulate_serving(System(pool(blocks=1000)), work)
    assert log.computed_tokens == work.prompt_tokens.sum()
    assert log.preemptions.sum() == 0
    assert log.gaps.sum() == pytest.approx((work.output_tokens - 1).sum())


def test_a_run_of_many_iterations_is_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(2)
    output = stream.integers(1, 60, 60)
    work = Work(np.cumsum(stream.exponential(0.3, 60)), stream.integers(1, 30, 60), output, output - 1)
    system = System(pool(instances=2, ranks=3, blocks=15))
    many = simulate_serving(system, work)
    monkeypatch.setattr("simulator.engine.serving.instance.MAX_RUN", 1)
    single = simulate_serving(system, work)
    assert many.finish_s == pytest.approx(single.finish_s, rel=1e-9)
    assert many.iterations == single.iterations
    assert many.events < single.events


def test_preemption_costs_time_and_loses_no_token() -> None:
    output = np.full(8, 60)
    work = Work(np.zeros(8), np.full(8, 20), output, output - 1)
    roomy, tight = (simulate_serving(System(pool(ranks=1, blocks=blocks, most=8)), work) for blocks in (100, 20))
    assert roomy.preemptions.sum() == 0 < tight.preemptions.sum()
    assert tight.computed_tokens > roomy.computed_tokens
    assert tight.finish_s.max() > roomy.finish_s.max()
    swapped = simulate_serving(System(pool(ranks=1, blocks=20, most=8, swap_s_per_token=1e-6)), work)
    assert swapped.computed_tokens == roomy.computed_tokens


def test_a_cached_prefix_saves_its_tokens() -> None:
    blocks = np.tile(np.arange(4), 10)
    ones = np.full(10, 5)
    work = Work(np.arange(10) * 10.0, np.full(10, 33), ones, ones - 1, blocks, np.arange(11) * 4, 8)
    without = simulate_serving(System(pool()), work)
    cached = simulate_serving(System(pool(prefix_tokens=32)), work)
    assert without.computed_tokens == 330
    assert cached.computed_tokens == 33 + 9
    assert cached.first_s.sum() < without.first_s.sum()
    small = simulate_serving(System(pool(prefix_tokens=16)), work)  # the first blocks stay, the later ones leave
    assert small.computed_tokens == 33 + 9 * 17


def test_a_handover_takes_the_time_of_its_bytes() -> None:
    work = Work(np.zeros(1), np.array([32]), np.array([2]), np.array([1]))
    direct = simulate_serving(System(pool(), pool(), Handover(0.0, 0.0)), work)
    slow = simulate_serving(System(pool(), pool(), Handover(0.5, 0.25)), work)
    assert slow.first_s == direct.first_s
    assert slow.finish_s[0] - direct.finish_s[0] == pytest.approx(0.5 + 32 * 0.25)


def test_ranks_wait_for_the_slowest() -> None:
    """A long context on one rank slows the sequence on the other."""
    output = np.full(2, 50)
    alone = simulate_serving(
        System(pool(ranks=2, blocks=100)), Work(np.zeros(1), np.array([8]), output[:1], output[:1] - 1)
    )
    both = simulate_serving(
        System(pool(ranks=2, blocks=100, budget=800)), Work(np.zeros(2), np.array([8, 400]), output, output - 1)
    )
    assert both.finish_s[0] - both.first_s[0] > 1.2 * (alone.finish_s[0] - alone.first_s[0])
