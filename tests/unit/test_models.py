"""Model dimensions: the catalogue against published totals, and Hugging Face configurations, good and bad."""

import dataclasses
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

import workloads.models
from workloads.errors import WorkloadError
from workloads.models import ModelSpec, load_model, models, parameters

DATA = Path(workloads.models.__file__).parent / "data"
FILES = sorted(DATA.glob("*.toml"))

# Why a count from the dimensions need not meet the published figure.
ONE_EMBEDDING = "the label leaves the input embedding out"
NO_EMBEDDING = "the label leaves both embeddings out"
EXCEPTIONS = {
    ("deepseek-v3", "active"): ONE_EMBEDDING,
    ("deepseek-v3.2", "active"): ONE_EMBEDDING,
    ("deepseek-v2-lite", "active"): ONE_EMBEDDING,
    ("kimi-k2", "active"): ONE_EMBEDDING,
    ("gpt-oss-20b", "active"): ONE_EMBEDDING,
    ("gpt-oss-120b", "active"): ONE_EMBEDDING,
    ("pangu-ultra-moe", "active"): ONE_EMBEDDING,
    ("minicpm-moe-8x2b", "total"): ONE_EMBEDDING,
    ("glm-4.5", "active"): NO_EMBEDDING,
    ("qwen3-30b-a3b", "active"): "3.35 billion, printed as 3.3",
    ("llama-4-scout", "total"): "the published total holds the vision tower",
}
# Dense models whose label rounds by more than half a unit.
ROUNDED = {
    "llama-2-70b": "69.0 billion, named 70B",
    "qwen-7b": "7.7 billion, named 7B as without its embeddings",
    "qwen1.5-110b": "111.2 billion, named 110B",
    "baichuan2-13b": "13.9 billion, named 13B as its predecessor with half the vocabulary",
    "internlm-65b": "66.5 billion, named 65B",
    "megatron-1.7b": "1.648 billion, and 1.652 with positions and biases, printed as 1.7",
}
EXCEPTIONS |= {(name, which): why for name, why in ROUNDED.items() for which in ("total", "active")}


def tolerance(printed: float) -> float:
    """1 %, or half a unit of the last digit that such labels print (671B, 30.5B, 1.6T), if that is more."""
    unit = 1e11 if printed >= 1e12 and printed % 1e11 == 0 else 1e9 if printed % 1e9 == 0 else 1e8
    return max(0.01 * printed, unit / 2)


CASES = [(spec, which) for spec in models() for which in ("total", "active")]


@pytest.mark.parametrize(("spec", "which"), CASES, ids=[f"{spec.id}-{which}" for spec, which in CASES])
def test_count_agrees_with_the_published(spec: ModelSpec, which: str) -> None:
    assert spec.published
    counted = getattr(parameters(spec), which)
    printed = getattr(spec.published, f"{which}_params")
    agrees = abs(counted - printed) <= tolerance(printed)
    assert agrees != ((spec.id, which) in EXCEPTIONS), f"{counted / 1e9:.2f} against {printed / 1e9} billion"


@pytest.mark.parametrize("key", [key for key, why in EXCEPTIONS.items() if why in {ONE_EMBEDDING, NO_EMBEDDING}])
def test_exception_is_explained_by_embeddings(key: tuple[str, str]) -> None:
    spec = load_model(key[0])
    counts = parameters(spec)
    less = counts.embedding if EXCEPTIONS[key] == ONE_EMBEDDING else counts.embedding + counts.head
    assert spec.published
    assert counts.active - less == pytest.approx(spec.published.active_params, rel=0.025)


def test_parts_make_the_total() -> None:
    for spec in models():
        counts = parameters(spec)
        moe = counts.router_per_layer + counts.shared_experts_per_layer
        moe += counts.expert * (spec.experts.routed_experts if spec.experts else 0)
        layers = spec.layers * counts.attention_per_layer + spec.moe_layers * moe
        layers += (spec.layers - spec.moe_layers) * counts.dense_ffn_per_layer
        assert counts.embedding + counts.head + counts.norms + layers == counts.total
        assert 0 < counts.active <= counts.total
        assert all(value >= 0 for value in dataclasses.astuple(counts))
        assert (counts.mtp > 0) == (spec.mtp_layers > 0)


def test_deepseek_v3_by_hand() -> None:
    counts = parameters(load_model("deepseek-v3"))
    assert counts.expert == 3 * 7168 * 2048
    assert counts.attention_per_layer == (
        7168 * 1536 + 1536 * 128 * 192 + 7168 * (512 + 64) + 512 * 128 * (128 + 128) + 128 * 128 * 7168
    )
    assert counts.head == counts.embedding == 129280 * 7168
    assert counts.total == pytest.approx(671.026e9, rel=1e-5)  # arXiv:2412.19437 rounds to 671


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_has_id_and_sources(file: Path) -> None:
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    assert data["id"] == file.stem
    assert data["source"].strip()  # covers the dimensions: counts without unit, as configurations print them
    assert data["published"]["source"].strip()
    spec = load_model(file.stem)
    assert spec.published
    if spec.experts:
        assert spec.experts.routed_experts % spec.experts.n_group == 0
        assert spec.experts.top_k <= spec.experts.routed_experts
    assert spec.attention.heads % spec.attention.kv_heads == 0
    assert spec.attention.window_layers <= spec.layers


def test_names_are_unique_and_lenient() -> None:
    owner: dict[str, str] = {}
    for spec in models():
        for name in {spec.id, spec.name, *spec.aliases}:
            plain = "".join(filter(str.isalnum, name.casefold()))
            assert owner.setdefault(plain, spec.id) == spec.id, name
            for spelling in (name, name.upper(), name.replace("-", " "), name.replace(" ", "_")):
                assert load_model(spelling).id == spec.id


@pytest.mark.parametrize("name", ["R1", "deepseek-r1", "DeepSeek-V3/R1", "DeepSeek-V3 / DeepSeek-R1", "DeepSeekV3"])
def test_names_of_deepseek_v3(name: str) -> None:
    assert load_model(name).id == "deepseek-v3"


def test_estimate_and_gaps_are_flagged() -> None:
    assert [spec.id for spec in models() if spec.estimate] == ["deepseek-v4-press-estimate"]
    assert "compressor" in load_model("V4-Pro").lacks
    assert "compressor" in load_model("V4-Flash").lacks
    assert "selected keys" in load_model("DeepSeek-V3.2").lacks


@pytest.mark.parametrize(("word", "near"), [("deepsek-v3", "deepseek-v3"), ("mixtral8x7", "mixtral-8x7b")])
def test_unknown_name_gets_the_nearest(word: str, near: str) -> None:
    with pytest.raises(WorkloadError, match=f"did you mean '{near}'"):
        load_model(word)


@pytest.mark.parametrize("word", ["", "\0", "x" * 1_000_000, "nobody/nothing-9b"])
def test_nonsense_is_refused_in_a_line(word: str) -> None:
    with pytest.raises(WorkloadError, match="not in the catalogue") as caught:
        load_model(word)
    assert len(str(caught.value)) < 250


# Configurations in the shape of the real ones; the expected model is the catalogue's.
COMMON: dict[str, Any] = {"tie_word_embeddings": False, "torch_dtype": "bfloat16", "rope_scaling": None}
MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}


def shape(layers: int, hidden: int, vocab: int, heads: int, kv_heads: int, ffn: int, context: int) -> dict[str, Any]:
    return COMMON | {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "vocab_size": vocab,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "max_position_embeddings": context,
    }


def deepseek(**other: Any) -> dict[str, Any]:
    experts = {"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1}
    groups = {"n_group": 8, "topk_group": 4, "first_k_dense_replace": 3, "moe_layer_freq": 1, "q_lora_rank": 1536}
    base = shape(61, 7168, 129280, 128, 128, 18432, 163840)
    return base | MLA | experts | groups | {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1} | other


LITE = shape(27, 2048, 102400, 16, 16, 10944, 163840) | MLA
LITE |= {"model_type": "deepseek_v2", "q_lora_rank": None, "n_routed_experts": 64, "num_experts_per_tok": 6}
LITE |= {"moe_intermediate_size": 1408, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1}
KIMI = deepseek(model_type="kimi_k2", vocab_size=163840, num_attention_heads=64, num_key_value_heads=64)
KIMI |= {"n_routed_experts": 384, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
KIMI |= {"num_nextn_predict_layers": 0, "max_position_embeddings": 131072}
QWEN = {"model_type": "qwen3_moe", "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8}
QWEN |= {"moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": [], "sliding_window": None}
GLM = shape(92, 5120, 151552, 96, 8, 12288, 131072) | {"model_type": "glm4_moe", "head_dim": 128, "n_group": 1}
GLM |= {"n_routed_experts": 160, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "n_shared_experts": 1}
GLM |= {"first_k_dense_replace": 3, "attention_bias": True, "num_nextn_predict_layers": 1, "topk_group": 1}
OSS = shape(24, 2880, 201088, 64, 8, 2880, 131072) | {"model_type": "gpt_oss", "head_dim": 64, "sliding_window": 128}
OSS |= {"num_local_experts": 32, "num_experts_per_tok": 4, "attention_bias": True}
OSS |= {"layer_types": ["sliding_attention", "full_attention"] * 12}
MIXTRAL = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
OLMOE = {"model_type": "olmoe", "num_experts": 64, "num_experts_per_tok": 8}

CONFIGS = {
    "deepseek-v3": deepseek(),
    "deepseek-v3.2": deepseek(model_type="deepseek_v32", index_topk=2048, index_n_heads=64),
    "deepseek-v2-lite": LITE,
    "kimi-k2": KIMI,
    "mixtral-8x7b": shape(32, 4096, 32000, 32, 8, 14336, 32768) | MIXTRAL,
    "qwen3-30b-a3b": shape(48, 2048, 151936, 32, 4, 6144, 40960) | QWEN,
    "glm-4.5": GLM,
    "olmoe-1b-7b": shape(16, 2048, 50304, 16, 16, 1024, 4096) | OLMOE,
    "gpt-oss-20b": OSS,
    "llama-3-8b": shape(32, 4096, 128256, 32, 8, 14336, 8192) | {"model_type": "llama"},
}


def write(folder: Path, config: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_gives_the_catalogue_model(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    write(folder, CONFIGS[name])
    found, known = load_model(str(folder)), load_model(name)
    assert parameters(found) == parameters(known)
    assert found.attention == known.attention
    assert found.experts == known.experts
    assert (found.layers, found.dense_layers, found.id) == (known.layers, known.dense_layers, "my-model")
    assert load_model(folder / "config.json").attention == known.attention


@pytest.mark.parametrize(
    ("config", "bias", "ffn"),
    [
        (shape(28, 3584, 152064, 28, 4, 18944, 131072) | {"model_type": "qwen2"}, True, 18944),
        (shape(36, 4096, 151936, 32, 8, 12288, 40960) | {"model_type": "qwen3", "head_dim": 128}, False, 12288),
    ],
)
def test_dense_qwen(config: dict[str, Any], bias: bool, ffn: int, tmp_path: Path) -> None:
    spec = load_model(write(tmp_path, config | {"sliding_window": 4096, "use_sliding_window": False}))
    assert (spec.experts, spec.attention.bias, spec.dense_ffn) == (None, bias, ffn)
    assert (spec.attention.head_dim, spec.attention.window) == (128, None)
    assert parameters(spec).total == pytest.approx({True: 7.62e9, False: 8.19e9}[bias], rel=0.01)  # model cards


def test_qwen2_moe_57b(tmp_path: Path) -> None:
    config = shape(28, 3584, 151936, 28, 4, 18944, 131072) | {"model_type": "qwen2_moe", "num_experts": 64}
    config |= {"num_experts_per_tok": 8, "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480}
    counts = parameters(load_model(write(tmp_path, config)))
    assert counts.total == pytest.approx(57.4e9, rel=0.01)  # Qwen/Qwen2-57B-A14B model card
    assert counts.active == pytest.approx(14.2e9, rel=0.02)


def test_interleaved_dense_layers_are_counted(tmp_path: Path) -> None:
    config = CONFIGS["qwen3-30b-a3b"] | {"decoder_sparse_step": 2, "mlp_only_layers": [0, 1]}
    spec = load_model(write(tmp_path, config))
    assert (spec.moe_layers, spec.dense_layers) == (23, 25)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"hidden_size": "7168"}, "hidden_size: '7168': expected a whole number"),
        ({"hidden_size": 7168.0}, "hidden_size: 7168.0: expected a whole number"),
        ({"hidden_size": float("nan")}, "hidden_size: nan: expected a whole number"),
        ({"hidden_size": True}, "hidden_size: True: expected a whole number"),
        ({"hidden_size": 0}, "hidden_size: 0: expected a whole number from 1"),
        ({"hidden_size": 10**30}, "hidden_size: 1000000000000000000000000000000: expected"),
        ({"vocab_size": [1]}, r"vocab_size: \[1\]: expected a whole number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: 'no': expected true or false"),
        ({"first_k_dense_replace": 62}, "62 dense layers of 61"),
        ({"num_experts_per_tok": 257}, "num_experts_per_tok: 257: more than the 256"),
        ({"n_group": 7}, "n_group: 7: 256 experts"),
        ({"moe_layer_freq": 2}, "moe_layer_freq: 2: only 1"),
        ({"model_type": "deepseek_v4"}, "model_type: 'deepseek_v4': not supported; supported are deepseek_v2"),
        ({"model_type": None}, "model_type: None: not supported"),
    ],
)
def test_bad_value_is_told(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=told) as caught:
        load_model(write(tmp_path, deepseek(**change)))
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError) as caught:
        load_model(write(tmp_path, deepseek(hidden_size=None, vocab_size=-1, v_head_dim="x", n_shared_experts={})))
    assert len(caught.value.problems) == 4
    assert all(str(tmp_path) in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "holds a list"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"garbage " * 1_310_720, "larger than 1 MiB"),
    ],
    ids=["empty", "truncated", "list", "binary", "nested", "digits", "10 MB"],
)
def test_bad_file_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(WorkloadError, match=told) as caught:
        load_model(file)
    assert "\n" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_bad_places_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json", tmp_path / "none"):
        with pytest.raises(WorkloadError, match="no such file"):
            load_model(path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(WorkloadError, match="not a regular file"):
        load_model(tmp_path / "pipe.json")
    with pytest.raises(WorkloadError, match="can't be read"):
        load_model(tmp_path / ("x" * 5000))
    with pytest.raises(WorkloadError, match="can't be read"):
        load_model(write(tmp_path, {}) / "config.json")
    with pytest.raises(WorkloadError, match="can't be read"):
        load_model("~no-such-user-here/config.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, deepseek())
    file.chmod(0)
    with pytest.raises(WorkloadError, match="can't be read"):
        load_model(file)


def test_catalogue_name_wins_over_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "olmoe"
    folder.mkdir()
    write(folder, deepseek())
    monkeypatch.chdir(tmp_path)
    assert load_model("olmoe").id == "olmoe-1b-7b"
    assert load_model("./olmoe").layers == 61
