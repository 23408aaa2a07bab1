"""Max-min fair rates against closed forms and against filling by one link at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulator.cost.max_min import max_min_rates, nearly_fair_rates, used_bytes_per_s


def rates(capacity: list[float], *flows: list[int]) -> list[float]:
    places = max(map(len, flows))
    link = np.array([[*flow, *[len(capacity)] * (places - len(flow))] for flow in flows]).T
    return max_min_rates(link, None, np.array(capacity)).tolist()


def test_one_bottleneck_is_shared_equally() -> None:
    assert rates([12.0], [0], [0], [0]) == [4.0, 4.0, 4.0]
    assert rates([100.0, 10.0], [0, 1]) == [10.0]


def test_a_flow_held_back_elsewhere_leaves_its_part_to_the_other() -> None:
    assert rates([10.0, 2.0], [0], [0, 1]) == [8.0, 2.0]


def test_three_flows_settle_in_turn() -> None:
    # Link 0 carries a and b, link 1 carries b and c, link 2 only c: c 1, b 6 (half of link 0), a 6; not b 15.
    assert rates([12.0, 16.0, 1.0], [0], [0, 1], [1, 2]) == [6.0, 6.0, 1.0]
    assert rates([20.0, 16.0, 1.0], [0], [0, 1], [1, 2]) == [10.0, 10.0, 1.0]


@pytest.mark.parametrize("hops", [1, 2, 5, 40])
def test_parking_lot(hops: int) -> None:
    """One long flow over all links, one short flow on each: every flow gets half of a link."""
    assert rates([1.0] * hops, list(range(hops)), *[[hop] for hop in range(hops)]) == [0.5] * (hops + 1)


def test_split_flows_count_by_their_parts() -> None:
    link, share = np.array([[0, 0], [1, 2]]), np.array([[0.5, 1.0], [0.5, 1.0]])
    found = max_min_rates(link, share, np.array([9.0, 100.0]))
    assert found.tolist() == [6.0, 6.0]  # 0.5 x + x = 9


def test_no_capacity_no_rate() -> None:
    assert rates([0.0, 5.0], [0, 1], [1]) == [0.0, 5.0]


def one_at_a_time(link: NDArray[np.int64], share: NDArray[np.float64], capacity: NDArray[np.float64]) -> list[float]:
    """Textbook filling: raise all open flows until the first link is full, freeze its flows, go on."""
    weight = np.zeros((capacity.size + 1, link.shape[1]))
    for place in range(link.shape[0]):
        np.add.at(weight, (link[place], np.arange(link.shape[1])), share[place])
    weight = weight[:-1]
    rate, left, waiting = np.zeros(link.shape[1]), capacity.copy(), np.ones(link.shape[1], dtype=bool)
    while waiting.any():
        demand = weight[:, waiting].sum(axis=1)
        step = np.where(demand > 0, left / np.where(demand > 0, demand, 1), np.inf)
        rate[waiting] += step.min()
        left = left - demand * step.min()
        full = weight[step <= step.min() * (1 + 1e-9)].any(axis=0)
        waiting &= ~full
    return rate.tolist()


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    links, flows, places = draw(st.integers(1, 8)), draw(st.integers(1, 30)), draw(st.integers(1, 4))
    link = generator.integers(0, links + 1, (places, flows))
    link[0] = generator.integers(0, links, flows)  # at least one
    share = generator.choice([0.25, 0.5, 1.0], (places, flows))
    return link, share, generator.choice([1.0, 2.0, 5.0, 7.5], links)


@settings(max_examples=200, deadline=None)
@given(problems())
def test_settling_in_parallel_gives_the_textbook_rates(
    problem: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    assert max_min_rates(*problem).tolist() == pytest.approx(one_at_a_time(*problem))


@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([1e-3, 0.01, 0.1]))
def test_nearly_fair_rates_fill_links_and_no_more(
    problem: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]], tolerance: float
) -> None:
    link, share, capacity = problem
    rate = nearly_fair_rates(link, share, capacity, tolerance)
    used = used_bytes_per_s(rate, link, share, capacity.size)[:-1]
    assert (used <= capacity * (1 + 1e-9)).all()
    full = np.append(used >= capacity * (1 - tolerance - 1e-9), False)
    assert full[link].any(axis=0).all()  # no flow could go faster alone
    fair = max_min_rates(link, share, capacity)
    assert rate.min() >= fair.min() * (1 - 1e-9)  # the slowest gets what is fair at the least
