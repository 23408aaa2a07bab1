import tomllib
from pathlib import Path

import pytest

from simulator.run import run
from simulator.scenario_file import load_scenario
from topologies.build import network
from topologies.catalogue import cluster
from topologies.catalogue.machine_file import machine_parts
from topologies.errors import TopologyError

OURS = """
like = "h800-cluster"
name = "Ours"
chip = "h200"
chips = 64

[scale_out]
oversubscription = 2.0

[override.chip]
memory.bandwidth_bytes_per_s = 4.0e12

[override.scale_out_fabric]
port_bytes_per_s = 1.0e11
"""


def written(folder: Path, text: str) -> str:
    path = folder / "ours.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_values_of_its_own_replace_those_of_the_catalogue(tmp_path: Path) -> None:
    spec, chip, fabrics = machine_parts(written(tmp_path, OURS))
    assert (spec.id, spec.name, spec.chips, spec.chip) == ("ours", "Ours", 64, "h200")
    assert spec.scale_out is not None
    assert spec.scale_out.oversubscription == 2.0
    assert spec.scale_out.fabric == "ib-400g"
    assert chip.memory.bandwidth_bytes_per_s == 4.0e12
    assert chip.memory.capacity_bytes == pytest.approx(141 * 2**30)
    assert fabrics["ib-400g"].port_bytes_per_s == 1.0e11
    assert machine_parts("h800-cluster").spec == cluster("h800-cluster")


def test_a_wider_network_is_faster_in_a_run(tmp_path: Path) -> None:
    settings = ["workload.batch_per_rank=64", "plan.expert=64", "routing.kind=balanced"]
    slow = run(load_scenario("dsv3-decode-h800", [*settings, "cluster.name=h800-cluster"]))
    wide = "like = 'h800-cluster'\n[override.scale_out_fabric]\nport_bytes_per_s = 2e11\n"
    fast = run(load_scenario("dsv3-decode-h800", [*settings, f"cluster.name={written(tmp_path, wide)}"]))
    assert fast.step_s < slow.step_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chips = 8", "like: missing"),
        ("like = 'h800-clustr'", "did you mean"),
        ("like = 'h800-cluster'\nchipss = 8", "chipss = 8: unknown key"),
        ("like = 'h800-cluster'\n[override.chip]\nmemory.bandwidth_bytes_per_s = -1.0", "memory.bandwidth_bytes_per_s"),
        ("like = 'h800-cluster'\n[override.scale_out_fabric]\nport_bytes_per_s = nan", "port_bytes_per_s = nan"),
        ("like = 'h800-cluster'\n[override.scale_up_fabric]\nport_bytes_per_s = 0", "should be greater than 0"),
        ("like = 'a100-server'\n[override.scale_out_fabric]\nport_bytes_per_s = 1e9", "no such network"),
        ("like = 'h800-cluster'\n[override.nic]\nx = 1", "tables chip, scale_up_fabric, scale_out_fabric only"),
        ("like = 'h800-cluster'\noverride = 3", "tables chip"),
        ("like = 'h800-cluster'\n[override]\nchip = 3", "must be a table"),
        ("like = 'h800-cluster'\n[override.chip]\nid = 'x'", "keeps its id"),
        ("like = 'h800-cluster", "not valid TOML"),
    ],
)
def test_a_bad_machine_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        machine_parts(written(tmp_path, text))
    assert said in "\n".join(caught.value.problems)
    assert all("\n" not in line for line in caught.value.problems)


def test_the_example_of_the_readme_is_a_machine(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = next(block for block in readme.split("```toml\n")[1:] if block.startswith("like"))
    text = example.split("```")[0]
    assert tomllib.loads(text)
    assert machine_parts(written(tmp_path, text)).spec.name == "Ours, with faster NICs"


def test_nodes_can_be_joined_by_one_named_plane_only() -> None:
    spec, chip, fabrics = machine_parts("cloudmatrix384", "vpc")
    assert spec.scale_up.domain_chips == 8
    reduced = network(spec, chip, fabrics, 384)
    assert [tier.name for tier in reduced.tiers] == ["node", "nic", "leaf"]
    assert set(reduced.tiers[1].uplink_bytes_per_s) == {50e9}
    reduced = network(*machine_parts("cloudmatrix384", "scale-out"), 384)
    assert reduced.planes[1].fabric == "roce-2x200g"
    for name, said in (("cloudmatrix384", "has scale-out, vpc"), ("gb200-nvl72", "none between nodes")):
        with pytest.raises(TopologyError, match=said):
            machine_parts(name, "storage")


def test_another_shape_replaces_the_whole_table(tmp_path: Path) -> None:
    table = (
        "[scale_out]\nshape = 'dragonfly'\nfabric = 'ib-400g'\nswitch_nodes = 1\ngroup_switches = 4\nglobal_links = 2\n"
    )
    spec, chip, fabrics = machine_parts(written(tmp_path, f"like = 'h800-cluster'\nchips = 64\n{table}groups = 9\n"))
    assert spec.scale_out is not None
    assert spec.scale_out.shape == "dragonfly"
    assert network(spec, chip, fabrics, 64).tiers[-1].name == "switch"
    with pytest.raises(TopologyError, match=r"scale_out\.dragonfly\.groups"):
        machine_parts(written(tmp_path, f"like = 'h800-cluster'\n{table}"))


def test_a_machine_can_be_described_in_full(tmp_path: Path) -> None:
    text = "chip = 'h800'\nchips = 16\nchips_per_node = 4\n[scale_up]\nfabric = 'nvlink4-h800'\ndomain_chips = 16\n"
    spec, chip, fabrics = machine_parts(written(tmp_path, text))
    assert (spec.id, chip.id) == ("ours", "h800")
    assert network(spec, chip, fabrics, 16).tiers[-1].name == "supernode"
    with pytest.raises(TopologyError, match="chips_per_node"):
        machine_parts(written(tmp_path, text.replace("chips_per_node = 4", "")))
