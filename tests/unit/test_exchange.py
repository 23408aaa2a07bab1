"""Ways of getting tokens to their experts in serving: copies, gathered, summed."""

import numpy as np
import pytest

from simulator.cost.collectives import collective
from simulator.cost.expert_parallel import token_bytes
from simulator.errors import UserError
from simulator.phase.serving import serving_iteration
from simulator.phase.setup import setup
from simulator.phase.traffic import traffic
from simulator.program import PART_INDEX
from simulator.scenario_file import validate

BATCH = 16


def scenario(**changes):
    table = {
        "model": {"name": "deepseek-v3"},
        "cluster": {"name": "h200-cluster", "chips": 8},
        "workload": {"phase": "decode", "sequence_tokens": 2048, "batch_per_rank": BATCH},
        "plan": {"expert": 8},
        "precision": {"gemm": "fp8", "dispatch": "fp8"},
    }
    for section, values in changes.items():
        table[section] = {**table.get(section, {}), **values}
    return validate(table, "test")


def iteration(**changes):
    return serving_iteration(setup(scenario(**changes)))


def last_layer(found, block, name):
    return found.blocks[block, 0, :, -1, PART_INDEX[name]].sum()


def test_gathered_is_an_all_gather_and_a_reduce_scatter_of_all_tokens():
    found = iteration(transport={"library": "all-gather"})
    machine, groups = found.setup.machine, found.setup.layout.expert_rank_groups()
    tokens = 8 * BATCH
    there = collective(machine.network, groups, "all_gather", tokens * token_bytes(7168, "fp8"))
    back = collective(machine.network, groups, "reduce_scatter", tokens * token_bytes(7168, "bf16"))
    assert last_layer(found, 1, "dispatch") == pytest.approx(there.time_s)
    assert last_layer(found, 3, "combine") == pytest.approx(back.time_s)


def test_tensor_parallel_experts_are_summed_by_one_all_reduce():
    found = iteration(plan={"tensor": 8, "expert": 8})
    machine, groups = found.setup.machine, found.setup.layout.tensor_groups()
    cost = collective(machine.network, groups, "all_reduce", BATCH * 7168 * 2.0)
    assert last_layer(found, 1, "dispatch") == 0
    assert last_layer(found, 3, "combine") == pytest.approx(cost.time_s)
    assert found.routed.tokens == BATCH


def test_tensor_parallel_ranks_over_fewer_experts_still_send_copies():
    found = iteration(plan={"tensor": 2, "expert": 8})
    assert last_layer(found, 1, "dispatch") > 0


def test_the_experts_have_the_same_work_whatever_the_exchange():
    copies, gathered = iteration(), iteration(transport={"library": "all-gather"})
    assert np.array_equal(copies.blocks[2], gathered.blocks[2])
    assert not np.array_equal(copies.blocks[1], gathered.blocks[1])


def test_training_can_not_gather():
    training = {
        "workload": {"phase": "training", "batch_per_rank": None, "global_batch_sequences": 64},
        "transport": {"library": "all-gather"},
    }
    with pytest.raises(UserError, match="serving only"):
        setup(scenario(**training))


def test_links_of_a_collective_exchange_are_not_shown_as_copies():
    with pytest.raises(UserError, match="collective"):
        traffic(setup(scenario(transport={"library": "all-gather"})), "dispatch")


def overlapped(**changes):
    return iteration(**{**changes, "plan": {"expert": 8, "overlap": "two-microbatch", **changes.get("plan", {})}})


def test_sending_and_receiving_kernels_hold_the_compute_stream_of_a_gpu():
    alone, beside = iteration(), overlapped(workload={"batch_per_rank": 2 * BATCH})
    issued = beside.setup.issued_s
    assert min(issued) > 0
    assert last_layer(beside, 0, "dispatch") == pytest.approx(2 * issued[0])
    assert last_layer(beside, 2, "combine") == pytest.approx(2 * issued[1])
    # nothing is lost: two halves of the doubled batch exchange what two such batches do, one after the other
    for name in ("dispatch", "combine"):
        index = PART_INDEX[name]
        total = [found.blocks[:, 0, :, -1, index].sum() for found in (alone, beside)]
        assert total[1] == pytest.approx(2 * total[0])


def test_nothing_is_issued_where_nothing_hides_or_vector_cores_exchange():
    assert iteration().setup.issued_s == (0.0, 0.0)
    assert overlapped(transport={"mode": "normal"}).setup.issued_s == (0.0, 0.0)
    on_ascend = {"name": "cloudmatrix384", "chips": 4}
    assert overlapped(cluster=on_ascend, precision={"gemm": "int8", "dispatch": "int8"}).setup.issued_s == (0.0, 0.0)
