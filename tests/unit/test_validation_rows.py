from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import UserError
from simulator.validation.causes import likely_cause
from simulator.validation.cells import Cells, RowError, data
from simulator.validation.names import find_cluster, find_model, formats, packages, recompute_level
from simulator.validation.tables import ALIASES, AREAS, REQUIRED, area_of, load_rows, resolve_area, shipped_rows
from topologies.catalogue import accelerator, cluster


def cells(area: str = "training", **row: str) -> Cells:
    return Cells(row, area)


@pytest.mark.parametrize(
    ("written", "chip"),
    [
        ("NVIDIA H800 SXM", "h800"),
        ("H800 SXM5", "h800"),
        ("H100 SXM", "h100"),
        ("A100 80GB", "a100-80"),
        ("a100", "a100-80"),
        ("910B", "ascend-910b3"),
        ("Ascend 910C", "ascend-910c"),
        ("910C", "ascend-910c"),
        ("GB200 NVL72", "gb200"),
        ("MI300X OAM", "mi300x"),
    ],
)
def test_chips_are_known_by_many_names(written: str, chip: str) -> None:
    assert find_cluster(cells(chip=written), 8).chip == chip


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("DeepSeek-V3 671B", "deepseek-v3"),
        ("DeepSeekV3", "deepseek-v3"),
        ("DeepSeek-R1/V3", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("deepseekv3 (4 layers)", "deepseek-v3"),
        ("LLaMA2 7B", "llama-2-7b"),
        ("llama2_70b_32p", "llama-2-70b"),
        ("llama3-70b (12 layers)", "llama-3-70b"),
        ("Qwen3 30B a3B", "qwen3-30b-a3b"),
        ("GPT OSS 120B", "gpt-oss-120b"),
        ("Mixtral 8x22B BF16", "mixtral-8x22b"),
        ("kimi-k2 W8A8", "kimi-k2"),
        ("Qwen 7B", "qwen-7b"),
        ("qwen1.5-7b", "qwen1.5-7b"),
        ("Qwen3-8B BF16", "qwen3-8b"),
        ("Aquila2 34B", "aquila2-34b"),
        ("Bloom 7B1", "bloom-7b1"),
        ("codellama-34b(16p)", "codellama-34b"),
        ("glm3_6b_32k", "chatglm3-6b"),
        ("gpt2_13b", "gpt2-13b"),
        ("deepseek-33b", "deepseek-coder-33b"),
        ("MiniCPM 8x2B", "minicpm-moe-8x2b"),
        ("GPT 3.6B", "megatron-3.6b"),
        ("Turing-NLG 530B", "megatron-530b"),
    ],
)
def test_model_names_match_leniently(written: str, model: str) -> None:
    assert find_model(cells(model=written)).id == model


@pytest.mark.parametrize(
    "written", ["Aquila 9B", "GPT 177B", "Qwen 72B", "DeepSeek-V3 37B", "DeepSeek-V2 60B", "Kimi-K9", ""]
)
def test_another_model_is_never_taken_for_a_known_one(written: str) -> None:
    with pytest.raises(RowError, match="model"):
        find_model(cells(model=written))


def test_a_cut_down_model_may_carry_its_own_size() -> None:
    row = {"model": "DeepSeek-V2 60B", "hidden": "5120", "experts": "160", "top_k": "6"}
    assert find_model(cells(**row), layers=16).id == "deepseek-v2"


def test_other_dimensions_than_the_catalogue_are_refused() -> None:
    with pytest.raises(RowError, match=r"hidden = 5120.*4096"):
        find_model(cells(model="LLaMA2 7B", hidden="5120"))


def test_every_cluster_of_the_table_has_the_chip() -> None:
    for chip, names in data("names")["clusters"].items():
        for name in names:
            found = accelerator(cluster(name).chip)
            assert found.id in {chip, chip.removesuffix("-die")} or chip in {*found.aliases, "ascend-910b"}, (
                chip,
                name,
            )


def test_clusters_are_chosen_by_size_and_network() -> None:
    assert find_cluster(cells(chip="GB200"), 72).id == "gb200-nvl72"
    assert find_cluster(cells(chip="gb200"), 256).id == "gb200-cluster"
    assert find_cluster(cells(chip="h800"), 64, "MRFT").id == "h800-cluster"
    with pytest.raises(RowError, match="holds 16 chips"):
        find_cluster(cells(chip="mi300x"), 16)
    with pytest.raises(RowError, match="tpu-v5"):
        find_cluster(cells(chip="tpu-v5"), 8)


def test_an_open_chip_grade_is_said() -> None:
    row = cells(chip="ascend-910b")
    find_cluster(row, 8)
    assert "910B3" in row.defaults


def test_dies_are_counted_as_half_packages() -> None:
    assert packages(cells(chip="ascend-910c-die"), 32) == 16
    assert packages(cells(chip="ascend-910c"), 32) == 32
    with pytest.raises(RowError, match="dies"):
        packages(cells(chip="ascend-910c-die"), 3)


@pytest.mark.parametrize(
    ("text", "layers", "level"),
    [
        ("none", 32, "none"),
        ("norm, act", 32, "light"),
        ("selective (attention core)", 32, "selective"),
        ("full selective", 32, "full"),
        ("full uniform 1", 16, "full"),
        ("full block 10", 10, "full"),
    ],
)
def test_recomputation_is_read_from_words(text: str, layers: int, level: str) -> None:
    assert recompute_level(text, layers) == level


@pytest.mark.parametrize(
    ("text", "reason"), [("block 30", "some layers"), ("partial [6, 3]", "some layers"), ("?", "?")]
)
def test_partial_recomputation_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RowError) as refused:
        recompute_level(text, 56)
    assert reason in str(refused.value)


def test_formats_name_what_is_computed_and_sent() -> None:
    assert formats("mxfp8") == {"gemm": "fp8", "dispatch": "fp8"}
    assert formats("NVFP4") == {"gemm": "fp4", "dispatch": "fp4"}
    with pytest.raises(RowError, match="fp7"):
        formats("fp7")


def test_defaults_are_remembered_and_have_reasons() -> None:
    row = cells("inference", routing="")
    assert row.text("routing") == "natural"
    assert row.defaults == "routing = natural"
    for area in AREAS:
        for entry in data("defaults")[area].values():
            assert entry["value"]
            assert len(entry["because"]) > 10


@pytest.mark.parametrize("text", ["abc", "-1", "nan", "inf", ""])
def test_bad_numbers_are_refused_by_column(text: str) -> None:
    with pytest.raises(RowError, match="chips"):
        cells(chips=text).number("chips")


def test_causes_match_by_mechanism_and_direction() -> None:
    row = cells("inference", phase_norm="prefill")
    assert likely_cause(row, "tokens/s/chip", 0.2) == ""
    assert "EPLB" in likely_cause(row, "tokens/s/chip", 0.5)
    assert likely_cause(row, "ms", -0.5) == likely_cause(row, "tokens/s/chip", 0.5)
    assert likely_cause(row, "ms", 0.5) == ""


def test_causes_name_columns_and_no_row() -> None:
    for area in AREAS:
        for cause in data("causes")[area]:
            assert "id" not in cause["when"]
            assert set(cause["when"]) <= set(shipped_rows(area)[0]) | {"library", "time_scope", "comm_cores"}
            assert cause.get("than", "faster") in {"faster", "slower"}


def test_areas_are_told_apart_by_columns() -> None:
    for area in AREAS:
        rows = shipped_rows(area)
        assert area_of(rows, "x") == area
        assert area_of(rows, "x", area) == area
        assert set(REQUIRED[area]) <= set(rows[0])
    for alias in ALIASES:
        assert resolve_area(alias)[0] in AREAS
    with pytest.raises(UserError, match="did you mean 'training'"):
        resolve_area("trainig")


def test_missing_columns_are_named_all_at_once() -> None:
    with pytest.raises(UserError) as refused:
        area_of([{"id": "a", "chip": "h800", "model": "x"}], "mine.csv", "training")
    missing = set(REQUIRED["training"]) - {"id", "chip", "model"}
    assert len(refused.value.problems) == len(missing)
    assert all(any(f"column {name} " in line for line in refused.value.problems) for name in missing)


def _directory(folder: Path) -> Path:
    return folder


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "rows.csv"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_directory, "a directory"),
        (lambda folder: folder / "none.csv", "can't be read"),
        (_bytes(b""), "empty"),
        (_bytes(b"\xff\xfe\x00\x01"), "not text"),
        (_bytes(b"id,op,chip,ranks\n"), "no rows"),
        (_bytes(b'id,op\n"a,b\n'), "not CSV"),
        (_bytes(b"id,id\n1,2\n"), "twice"),
        (_bytes(bytes(range(1, 128)) * 100), "rows.csv"),
    ],
)
def test_files_that_are_no_tables_are_refused_in_one_line(
    make: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        area_of(load_rows(make(tmp_path)), "rows.csv")
    assert says in refused.value.problems[0]
    assert "\n" not in refused.value.problems[0]


def test_columns_may_stand_in_any_order_and_rows_may_be_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffop,ranks,id,chip,extra\ndispatch,8,a\n", encoding="utf-8")
    assert load_rows(path) == [{"op": "dispatch", "ranks": "8", "id": "a", "chip": "", "extra": ""}]
