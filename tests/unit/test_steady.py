"""Steady state at any load: equal to runs at the drawn loads, sensible between them; limits found by bisection."""

import pytest

from simulator.errors import UserError
from simulator.phase.queueing import wait_quantile_s
from simulator.phase.setup import setup
from simulator.phase.steady import SteadyState
from simulator.run import run
from simulator.scenario_file import validate
from simulator.study.serve_limit import decode_limit, pools, prefill_limit, transfer_time_s


def scenario(phase="decode", **changes):
    table = {
        "name": "small",
        "model": {"name": "deepseek-v2-lite"},
        "cluster": {"name": "h800-cluster", "chips": 16},
        "workload": {"phase": phase, "sequence_tokens": 2048},
        "plan": {"expert": 16, "overlap": "two-microbatch"},
        "precision": {"gemm": "fp8", "dispatch": "fp8"},
    }
    table["workload"] |= {"decode": {"batch_per_rank": 64}, "prefill": {"tokens_per_rank": 8192}}[phase]
    for section, values in changes.items():
        table[section] = {**table.get(section, {}), **values}
    return validate(table, "test")


@pytest.mark.parametrize(
    ("phase", "changes"),
    [
        ("decode", {}),
        ("decode", {"plan": {"overlap": "none", "tensor": 2}}),
        ("decode", {"model": {"name": "qwen3-8b"}, "plan": {"expert": 1, "overlap": "none"}}),
        ("prefill", {}),
    ],
)
def test_a_drawn_load_is_the_analytic_run(phase, changes):
    asked = scenario(phase, **changes)
    point = SteadyState(setup(asked)).point(float(asked.workload.batch_per_rank or 8192), 2048.0)
    result = run(asked)
    assert point.step_s == pytest.approx(result.step_s, rel=1e-12)
    assert point.tokens_per_s == pytest.approx(result.tokens_per_s, rel=1e-12)
    assert point.memory == result.memory
    assert dict(zip(result.breakdown_s, point.parts, strict=True)) == pytest.approx(result.breakdown_s)


def test_between_drawn_loads_time_is_close_to_a_run_and_grows():
    state = SteadyState(setup(scenario()))
    times = [state.point(float(batch), 2048.0).step_s for batch in range(64, 129, 8)]
    assert times == sorted(times)
    run_s = run(scenario(workload={"batch_per_rank": 104})).step_s
    assert state.point(104.0, 2048.0).step_s == pytest.approx(run_s, rel=0.02)


def test_drafts_are_counted_as_in_a_run():
    asked = scenario(model={"name": "deepseek-v3", "layers": 6, "mtp_layers": 1}, workload={"mtp_acceptance": 0.7})
    point = SteadyState(setup(asked)).point(64.0, 2048.0)
    assert point.tpot_s == pytest.approx(run(asked).tpot_s)


def test_the_limit_keeps_the_level_and_one_more_sequence_does_not():
    state = SteadyState(setup(scenario()))
    level_s = state.point(100.0, 2048.0).tpot_s * 1.0001
    limit = decode_limit(state, level_s, 512.0)
    batch = limit.batch_per_rank
    assert limit.bound_by == "TPOT"
    assert state.point(batch, 2048.0).tpot_s <= level_s < state.point(batch + 1, 2048.0).tpot_s
    assert limit.requests_per_s == pytest.approx(limit.tokens_per_s / 512)


def test_memory_binds_where_the_level_is_generous():
    state = SteadyState(setup(scenario(workload={"sequence_tokens": 32768})))
    limit = decode_limit(state, 10.0, 512.0)
    assert limit.bound_by == "memory"
    assert state.point(limit.batch_per_rank, 32768.0).fits
    assert not state.point(limit.batch_per_rank + 1, 32768.0).fits


def test_a_level_that_one_sequence_misses_is_refused():
    with pytest.raises(UserError, match="one sequence per rank takes"):
        decode_limit(SteadyState(setup(scenario())), 1e-4, 512.0)


def test_prefill_takes_more_arrivals_the_longer_they_may_wait():
    state = SteadyState(setup(scenario("prefill")))
    step_s = state.point(8192.0, 2048.0).step_s
    rates = [prefill_limit(state, factor * step_s, 0.9, 0.0).requests_per_s for factor in (1.2, 1.8, 3.0)]
    assert rates == sorted(rates)
    assert rates[-1] <= 16 * 4 / step_s
    with pytest.raises(UserError, match="without any waiting"):
        prefill_limit(state, 0.5 * step_s, 0.9, 0.0)


def test_pools_balance_what_one_makes_and_the_other_takes():
    found = pools(scenario(), scenario("prefill"), [0.05], 5.0, 256.0, 0.9)[0]
    assert found.prefill_per_decode * found.prefill.requests_per_s == pytest.approx(found.decode.requests_per_s)
    chips = 16 + found.prefill_per_decode * 16
    assert found.tokens_per_s_per_chip * chips == pytest.approx(found.decode.tokens_per_s)


def test_pools_of_other_models_and_phases_are_refused_together():
    other = scenario("decode", model={"name": "deepseek-v3"})
    with pytest.raises(UserError) as refused:
        pools(scenario("prefill"), other, [0.05], None, 256.0, 0.9)
    assert len(refused.value.problems) == 4


def test_keys_and_values_travel_over_the_slower_way_between_nodes():
    bytes_of_prompt = 27 * 576 * 2 * 4096
    on_nics = transfer_time_s(scenario("prefill"), 4096.0)
    assert bytes_of_prompt / 50e9 < on_nics < 2 * bytes_of_prompt / 50e9
    on_ub = transfer_time_s(scenario("prefill", cluster={"name": "cloudmatrix384", "chips": 8}), 4096.0)
    assert on_ub < on_nics


def test_waits_vanish_with_the_load_and_grow_without_end():
    waits = [wait_quantile_s(1.0, 8.0, load, 0.9) for load in (0.0, 0.2, 0.5, 0.9, 0.999)]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert waits[-1] > 60.0
