"""Placement files of serving stacks: what the writers write is read again, and defects are named."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.torch_writer import save_torch
from workloads import placement
from workloads.errors import WorkloadError
from workloads.placement import EMPTY, Placement
from workloads.placement_files import read_placement
from workloads.placement_files.writers import ascend_table, eplb_maps, sglang_locations

TRACES = Path(os.environ.get("EPSIM_TRACES", Path(__file__).parents[3] / "shared" / "traces"))


def replicated() -> Placement:
    return placement.random(3, 16, 4, np.random.default_rng(0), redundant=8)


def refused(path: Path, *arguments: Any) -> str:
    with pytest.raises(WorkloadError) as caught:
        read_placement(path, *arguments)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def distinct() -> Placement:
    """Four ranks of five slots, no expert twice on a rank."""
    held = np.arange(20).reshape(4, 5) % 16
    return Placement(np.stack([held, (held + 5) % 16]), 16)


@pytest.mark.parametrize("write", [ascend_table, sglang_locations, eplb_maps])
def test_what_is_written_is_read_again(tmp_path: Path, write: Any) -> None:
    path = tmp_path / ("p.npz" if write is eplb_maps else "p.json")
    path.write_bytes(write(distinct()))
    again = read_placement(path, 4)
    assert np.array_equal(again.slot_expert, distinct().slot_expert)
    assert again.experts == 16


def test_empty_slots_of_a_table_come_back(tmp_path: Path) -> None:
    held = distinct().slot_expert.copy()
    held[1, 3, 4] = EMPTY
    held[1, 3, :4] = [4, 5, 6, 7]
    held[1, 2] = [8, 9, 10, 11, 12]
    held[1, 1] = [13, 14, 15, 0, 1]
    held[1, 0] = [2, 3, 4, 5, 6]
    (tmp_path / "p.json").write_bytes(ascend_table(Placement(held, 16)))
    assert np.array_equal(read_placement(tmp_path / "p.json").slot_expert, held)


def table(change: str, value: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(ascend_table(distinct()))
    place: Any = document
    *path, last = [int(step) if step.isdecimal() else step for step in change.split(".")]
    for step in path:
        place = place[step]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (table("moe_layer_count", 3), "moe_layer_count: 3: the table has 2 layers; truncated"),
        (table("layer_list", []), "moe_layer_count: 2: the table has 0 layers"),
        (table("layer_list.1.device_count", 5), "layer_list[1].device_count: 5: the layer has 4 devices; truncated"),
        (table("layer_list.1.layer_id", 7), "layer_list[1]: layer_id and device_id must count up from 0"),
        (table("layer_list.0.device_list.2.device_id", 0), "layer_list[0]: layer_id and device_id must count up"),
        (table("layer_list.0.device_list.0.device_expert", [0, 1, 2, 2]), "device_expert: [0, 1, 2, 2]: holds an exp"),
        (table("layer_list.0.device_list.0.device_expert", [0, "1"]), "[0, '1']: must be expert numbers"),
        (table("layer_list.0.device_list.2", {}), "layer_list[0]: 'device_id': missing"),
        (table("layer_list.0.device_list.2.device_expert", [0]), "placement: layer 0: expert 10 has no slot"),
        ([], "must be a JSON object"),
        ({"a": 1}, "layer_list, physical_to_logical_map: missing"),
        ({"logical_count": [[1]]}, "logical_count: a load, not a placement"),
        ({"physical_to_logical_map": [[0, 1], [0]]}, "physical_to_logical_map"),
        ({"physical_to_logical_map": [[0, -1]]}, "physical_to_logical_map: -1: must be 0 or more"),
    ],
)
def test_defects_of_json_are_named(tmp_path: Path, document: Any, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    assert message in refused(path, 1)


def test_maps_say_nothing_of_ranks(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(sglang_locations(distinct()))
    assert "20 slots: on how many ranks is not in the file; state a divisor of 20" in refused(path)
    assert "state a divisor of 20" in refused(path, 3)


def test_maps_that_contradict_each_other(tmp_path: Path) -> None:
    held = replicated().slot_expert.reshape(3, -1)
    replicas = np.stack([np.bincount(row, minlength=16) for row in held])
    path = tmp_path / "p.pt"
    save_torch(path, {"phy2log": held, "logcnt": replicas})
    assert np.array_equal(read_placement(path, 4).slot_expert, replicated().slot_expert)
    save_torch(path, {"phy2log": held, "logcnt": replicas[:, ::-1]})
    assert "logcnt: not the replicas that phy2log has" in refused(path, 4)
    save_torch(path, {"phy2log": held, "log2phy": np.zeros((3, 16, 9), dtype=int)})
    assert "log2phy: does not agree with phy2log" in refused(path, 4)


def test_zeros_and_ones(tmp_path: Path) -> None:
    held = np.zeros((2, 1, 4), dtype=np.int64)
    held[0, 0, [0, 1, 3]] = 1
    held[1, 0, [1, 2]] = 1
    np.save(tmp_path / "p.npy", held)
    assert read_placement(tmp_path / "p.npy").slot_expert.tolist() == [[[0, 1, 3], [1, 2, EMPTY]]]
    held[1, 0, 2] = 0
    np.save(tmp_path / "p.npy", held)
    assert "expert 2 has no slot" in refused(tmp_path / "p.npy")
    held[1, 0, 2] = 2
    np.save(tmp_path / "p.npy", held)
    assert "must be 0 and 1 of shape [ranks, layers, experts]" in refused(tmp_path / "p.npy")


def test_recorded_placements_of_deepseek_v3() -> None:
    path = TRACES / "placement" / "omni-infer-deepseek-v3" / "placements.npz"
    if not path.is_file():
        pytest.skip("the recorded traces (../shared/traces, or EPSIM_TRACES) are absent")
    assert "part: the file holds dsv3_prefill_rearrange_16ranks" in refused(path)
    contiguous = read_placement(path, part="dsv3_baseline_16devices")
    assert np.array_equal(contiguous.slot_expert, placement.contiguous(58, 256, 16).slot_expert)
    redundant = read_placement(path, part="dsv3_gsm8k_decode_redundant10_32dies")
    assert (redundant.ranks, redundant.slots) == (32, 9)
    assert sorted((redundant.slot_expert != EMPTY).sum(axis=(1, 2)).tolist()) == [256] * 48 + [288] * 10
