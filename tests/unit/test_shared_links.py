"""Operations that keep the same links busy slow each other down, and nothing else does."""

from collections.abc import Hashable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.analytic.longest_path import longest_path
from simulator.cost.max_min import max_min_rates
from simulator.engine.execute import execute
from simulator.engine.shared_links import fair_speeds
from simulator.program import Busy, Program, ProgramBuilder, attribute, part

Item = tuple[int, float, dict[Hashable, float], tuple[int, ...]]


def program(*items: Item) -> Program:
    """Operations as (stream, seconds, seconds busy by link, waits)."""
    builder = ProgramBuilder()
    for stream, time_s, busy, waits in items:
        builder.add(stream, part("compute", time_s), waits, idle="bubble", busy_s=tuple(busy.items()))
    return builder.build()


def test_two_that_want_a_whole_link_take_twice_as_long() -> None:
    start, end = execute(program((0, 3.0, {"a": 3.0}, ()), (1, 3.0, {"a": 3.0}, ())))
    assert start.tolist() == [0.0, 0.0]
    assert end == pytest.approx([6.0, 6.0])


def test_who_wants_less_than_half_is_not_slowed() -> None:
    """A chunk that keeps a port busy for 40 % of its time leaves 60 % to a transfer."""
    _, end = execute(program((0, 10.0, {"a": 4.0}, ()), (1, 3.0, {"a": 3.0}, ())))
    assert end == pytest.approx([10.0, 5.0])


def test_speeds_change_when_others_come_and_go() -> None:
    """Alone for 1 s, at half speed for the 2 s of the other, then alone again."""
    late = (1, 1.0, {}, ())
    _, end = execute(program((0, 4.0, {"a": 4.0}, ()), late, (1, 1.0, {"a": 1.0}, (1,))))
    assert end == pytest.approx([5.0, 1.0, 3.0])


def test_links_with_room_join_nobody() -> None:
    _, end = execute(program((0, 4.0, {"a": 2.0, "b": 2.0}, ()), (1, 5.0, {"a": 2.5}, ()), (2, 6.0, {"b": 3.0}, ())))
    assert end.tolist() == [4.0, 5.0, 6.0]


def test_what_contention_adds_is_attributed() -> None:
    built = program((0, 3.0, {"a": 3.0}, ()), (1, 3.0, {"a": 3.0}, ()))
    rows = attribute(built, *execute(built), [0, 1])
    assert rows.sum(axis=1) == pytest.approx([6.0, 6.0])


def test_the_small_solver_gives_max_min_rates() -> None:
    """Operations of full want are flows of weight 1; those of less also have a link of their own."""
    draw = np.random.default_rng(2)
    for _ in range(50):
        links, ops = int(draw.integers(1, 5)), int(draw.integers(1, 8))
        wants: dict[int, dict[Hashable, float]] = {
            op: {int(link): float(draw.choice([0.2, 0.5, 1.0])) for link in draw.integers(0, links, 2)}
            for op in range(ops)
        }
        full: set[Hashable] = set(range(links))
        most = np.array([max(wants[op].values()) for op in range(ops)])
        link = np.full((3, ops), links + ops)
        share = np.ones((3, ops))
        for op, own in wants.items():
            for place, (each, part_of) in enumerate(own.items()):
                link[place, op], share[place, op] = int(str(each)), part_of / most[op]
            link[2, op] = links + op
        rates = max_min_rates(link, share, np.concatenate([np.ones(links), most]))
        speeds = fair_speeds(wants, full)
        assert [speeds[op] for op in range(ops)] == pytest.approx((rates / most).tolist())


@st.composite
def programs(draw: st.DrawFn) -> Program:
    items: list[Item] = []
    for index in range(draw(st.integers(1, 12))):
        time_s = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
        busy: dict[Hashable, float] = {
            link: time_s * draw(st.sampled_from([0.1, 0.5, 1.0])) for link in draw(st.sets(st.sampled_from("abc")))
        }
        waits = tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=2)))) if index else ()
        items.append((draw(st.integers(0, 3)), time_s, busy, waits))
    return program(*items)


def alone(busy: tuple[Busy, ...], index: int) -> Busy:
    return tuple(((index, link), time_s) for link, time_s in busy[index])


@settings(max_examples=150, deadline=None)
@given(programs())
def test_contention_only_slows_and_no_link_does_more_than_it_can(built: Program) -> None:
    """Every operation takes at least its own time, and a link's use over any run fits into the time of the run."""
    start, end = execute(built)
    assert (end - start >= built.duration_s * (1 - 1e-9)).all()
    assert end.max() >= longest_path(built)[1].max() * (1 - 1e-9)
    for link in "abc":
        users = [op for op, busy in enumerate(built.busy_s) if link in dict(busy)]
        if users:
            used = sum(dict(built.busy_s[op])[link] for op in users)
            assert used <= (end[users].max() - start[users].min()) * (1 + 1e-6)


@settings(max_examples=100, deadline=None)
@given(programs())
def test_with_links_of_their_own_operations_take_the_longest_path(built: Program) -> None:
    own = Program(
        built.duration_s,
        built.stream,
        built.waits_for,
        built.parts,
        built.idle,
        built.labels,
        tuple(alone(built.busy_s, index) for index in range(len(built.busy_s))),
    )
    np.testing.assert_allclose(execute(own)[1], longest_path(own)[1], rtol=1e-9)
