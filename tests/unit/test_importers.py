"""Recordings of other tools, written here in their shapes, come in as what they were made from."""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.torch_writer import save_torch
from workloads.errors import WorkloadError
from workloads.routing.counts import CountTrace
from workloads.routing.importers import KINDS, Imported, Options, import_trace, kind_of
from workloads.routing.importers.vllm import read_log
from workloads.routing.trace import Trace

E, K, L = 16, 4, 3  # experts, top-k, MoE layers
LENS = [7, 5, 9]
KNOWN = Options("tiny", phase="decode", source="made up", licence="none", routed_experts=E, top_k=K)


def ids_of(tokens: int, seed: int = 0, layers: int = L) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((tokens, layers, E)).argsort(axis=-1)[..., :K].astype(np.int32)


def counted(ids: np.ndarray) -> np.ndarray:
    """Tokens per layer and expert."""
    return np.stack([np.bincount(layer.ravel(), minlength=E) for layer in ids.swapaxes(0, 1)])


def bring(kind: str, paths: Path | Sequence[Path], options: Options = KNOWN) -> Imported:
    return import_trace(kind, [paths] if isinstance(paths, Path) else paths, options)


def tokens_of(imported: Imported) -> Trace:
    assert isinstance(imported.trace, Trace)
    return imported.trace


def counts_of(imported: Imported) -> CountTrace:
    assert isinstance(imported.trace, CountTrace)
    return imported.trace


def refused(kind: str, paths: Path | Sequence[Path], options: Options = KNOWN) -> str:
    with pytest.raises(WorkloadError) as caught:
        bring(kind, paths, options)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


# --- SGLang ---

HELD = np.stack([np.random.default_rng(9).permuted(np.r_[0:E, 3, 5]) for _ in range(L + 1)])  # 2 replicas per layer


def physical(ids: np.ndarray) -> np.ndarray:
    """[layers, tokens, 8] positions as SGLang keeps them: layer 0 dense and 0, unused choices -1."""
    out = np.full((L + 1, len(ids), 8), -1, dtype=np.int32)
    out[0] = 0
    for layer in range(L):
        slot = np.argsort(HELD[layer + 1], kind="stable")
        first = np.searchsorted(HELD[layer + 1][slot], np.arange(E))
        out[layer + 1, :, :K] = slot[first[ids[:, layer]]]
    return out


def record(step: int, ids: np.ndarray, positions: list[int], mode: int, lens: list[int] | None) -> dict[str, Any]:
    where = physical(ids)
    counts = np.stack([np.bincount(layer[layer >= 0], minlength=E + 2) for layer in where]).astype(np.int32)
    counts[0] = 0
    return {
        "forward_pass_id": step,
        "rank": 0,
        "gatherer_key": "primary",
        "input_ids": list(range(len(ids))),
        "positions": positions,
        "extend_seq_lens": lens,
        "forward_mode": mode,
        "topk_ids_of_layer": where,
        "misc_objects": [],
        "global_physical_count": counts,
    }


def served() -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Three requests, the first in two chunks, then decoded together until they end one by one."""
    a, b, c = (ids_of(n, seed) for seed, n in enumerate((8, 6, 4)))
    idle = record(5, a[:0], [], 4, None)
    return [
        record(1, np.concatenate([a[:3], b[:4]]), [0, 1, 2, 0, 1, 2, 3], 1, [3, 4]),
        record(2, np.concatenate([a[3:5], c[:2]]), [3, 4, 0, 1], 1, [2, 2]),
        record(3, np.stack([a[5], b[4], c[2]]), [5, 4, 2], 2, None),
        record(4, np.stack([a[6], b[5], c[3]]), [6, 5, 3], 2, None),
        idle,
        record(6, a[7:8], [7], 2, None),
    ], [a, b, c]


def dump(path: Path, records: list[dict[str, Any]], order: str = "<") -> Path:
    held = HELD.astype(np.int64)
    return save_torch(path, {"records": records, "last_physical_to_logical_map": held}, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sglang_per_token(tmp_path: Path, order: str) -> None:
    records, sequences = served()
    imported = bring("sglang", dump(tmp_path / "r_0.pt", records, order))
    trace = tokens_of(imported)
    assert trace.seq_lens.tolist() == [8, 6, 4]
    assert np.array_equal(trace.experts, np.concatenate(sequences))
    assert any("1 of 4 layers route nothing" in note for note in imported.notes)
    assert any("last placement" in note for note in imported.notes)


def test_sglang_ranks_serve_their_own_sequences(tmp_path: Path) -> None:
    records, _ = served()
    other = [record(1, ids_of(5, 7), [0, 1, 2, 3, 4], 1, [5])]
    paths = [dump(tmp_path / f"r_{rank}.pt", own) for rank, own in enumerate((records, other, records))]
    imported = bring("sglang", paths)
    assert tokens_of(imported).seq_lens.tolist() == [8, 6, 4, 5]
    assert any("r_2.pt: the same tokens as another rank's" in note for note in imported.notes)


def test_sglang_padding_is_left_out(tmp_path: Path) -> None:
    padded = record(1, ids_of(6), list(range(6)), 1, [6])
    padded["topk_ids_of_layer"][:, 4:] = -1
    imported = bring("sglang", dump(tmp_path / "r.pt", [padded]))
    assert np.array_equal(tokens_of(imported).experts, ids_of(6)[:4])
    assert any("2 of 6 tokens are padding" in note for note in imported.notes)


def test_sglang_per_pass_adds_up_the_ranks(tmp_path: Path) -> None:
    paths, wanted = [], np.zeros((2, L, E), dtype=int)
    for rank in range(2):
        passes = [ids_of(5, seed=10 * rank + step) for step in range(2)]
        wanted += np.stack([counted(ids) for ids in passes])
        records = [record(step, ids, [0] * 5, 1, [5]) for step, ids in enumerate(passes)]
        for one in records:
            for name in ("input_ids", "positions", "extend_seq_lens", "forward_mode", "topk_ids_of_layer"):
                del one[name]
        paths.append(dump(tmp_path / f"r_{rank}.pt", records))
    trace = counts_of(bring("sglang", paths))
    assert np.array_equal(trace.counts, wanted)
    assert trace.in_order


def stat(path: Path, counts: np.ndarray) -> Path:
    content = {"rank": 0, "logical_count": counts.astype(np.int32), "average_utilization_rate_over_window": None}
    return save_torch(path, content)


def test_sglang_stat_of_a_buffer_that_is_not_full_is_in_order(tmp_path: Path) -> None:
    counts = np.zeros((5, L + 1, E), dtype=int)
    counts[:3, 1:] = np.random.default_rng(0).integers(1, 9, (3, L, E))
    imported = bring("sglang", stat(tmp_path / "s.pt", counts))
    assert np.array_equal(counts_of(imported).counts, counts[:3, 1:])
    assert counts_of(imported).in_order
    assert any("2 of 5 steps of the buffer are empty" in note for note in imported.notes)


def test_sglang_stat_of_a_full_buffer_has_no_order(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(1, 9, (5, L, E))
    imported = bring("sglang", stat(tmp_path / "s.pt", counts))
    assert not counts_of(imported).in_order
    assert any("order of its steps is not known" in note for note in imported.notes)


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda one: one.update({name: value})


def cut_ids(one: dict[str, Any]) -> None:
    one["topk_ids_of_layer"] = one["topk_ids_of_layer"][:, :-1]


def put(value: int, choice: int = 0) -> Callable[[dict[str, Any]], None]:
    return lambda one: one["topk_ids_of_layer"].__setitem__((2, 1, choice), value)


def repeat(one: dict[str, Any]) -> None:
    one["topk_ids_of_layer"][2, 1, 0] = one["topk_ids_of_layer"][2, 1, 1]


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        (cut_ids, "records[0].topk_ids_of_layer: 6 tokens, but 7 positions and 7 input_ids; truncated"),
        (put(E + 2), "records[0].topk_ids_of_layer: layer 2, token 1: 18: must be a position from 0 to 17, or -1"),
        (put(-2), "layer 2, token 1: -2: must be a position"),
        (put(-1), "some ids are -1 (none)"),
        (repeat, "repeats an expert"),
        (change("forward_mode", 5), "records[0].forward_mode: 5: must be 1 (extend)"),
        (change("forward_mode", None), "records[0].forward_mode: None: must be an integer"),
        (change("extend_seq_lens", [4, 4]), "records[0].extend_seq_lens: [4, 4]: must be positive and sum to 7"),
        (change("positions", [0.5] * 7), "records[0].positions: float64 (7,): must be integers"),
        (change("topk_ids_of_layer", np.zeros((2, 7, 8), np.int32)), "2 layers, but the map has 4"),
        (change("topk_ids_of_layer", np.zeros((4, 7, 8))), "float64 (4, 7, 8): must be integers"),
    ],
)
def test_sglang_defects(tmp_path: Path, defect: Callable[[dict[str, Any]], None], message: str) -> None:
    records, _ = served()
    defect(records[0])
    line = refused("sglang", dump(tmp_path / "r.pt", records))
    assert line.startswith(f"{tmp_path / 'r.pt'}: ")
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "neither logical_count nor records"),
        ({"logical_count": np.zeros((2, L, E), np.int32)}, "all 0; nothing was recorded"),
        ({"logical_count": np.ones((L, E), np.int32)}, "must be integers with 3 dimensions"),
        ({"logical_count": np.ones((2, L, E), np.float32)}, "float32"),
        ({"logical_count": np.full((2, L, E), -1, np.int32)}, "must be 0 or more"),
        ({"records": []}, "last_physical_to_logical_map: missing"),
        ({"records": [], "last_physical_to_logical_map": HELD}, "must be a list of at least one record"),
    ],
)
def test_sglang_contents_that_are_no_recording(tmp_path: Path, content: Any, message: str) -> None:
    assert message in refused("sglang", save_torch(tmp_path / "r.pt", content))


# --- routed_experts ---


def sequences() -> list[np.ndarray]:
    return [ids_of(n, seed) for seed, n in enumerate(LENS)]


def with_dense(ids: np.ndarray) -> np.ndarray:
    return np.pad(ids, ((0, 0), (1, 0), (0, 0)))


def test_routed_experts_as_base64_in_responses(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    coded = [base64.b64encode(with_dense(ids).astype("<i4").tobytes()).decode() for ids in sequences()]
    lines = [
        {"text": "x", "meta_info": {"routed_experts": coded[0]}},
        {"choices": [{"sgl_ext": {"routed_experts": coded[1]}}, {"sgl_ext": {"routed_experts": coded[2]}}]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    trace = tokens_of(bring("routed-experts", path, replace(KNOWN, layers=L + 1)))
    assert trace.seq_lens.tolist() == LENS
    assert np.array_equal(trace.experts, np.concatenate(sequences()))
    assert "layers: not in the recording; state it with --layers" in refused("routed-experts", path)
    assert "must be a multiple of 5 layers x 4 ids x 4 bytes" in refused(
        "routed-experts", path, replace(KNOWN, layers=5)
    )


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt"])
def test_routed_experts_as_arrays(tmp_path: Path, suffix: str) -> None:
    arrays = [with_dense(ids) for ids in sequences()]
    paths = [tmp_path / f"r{number}{suffix}" for number in range(3)]
    if suffix == ".npz":
        paths = paths[:1]
        np.savez(paths[0], *arrays)
    for path, ids in zip(paths, arrays, strict=False):
        if suffix == ".npy":
            np.save(path, ids)
        elif suffix == ".pt":
            save_torch(path, ids)
    assert np.array_equal(tokens_of(bring("routed-experts", paths)).experts, np.concatenate(sequences()))


def test_routed_experts_defects(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"text": "no routing"}')
    assert "not in any response; ask the server" in refused("routed-experts", path)
    path.write_text('{"routed_experts": "!!"}')
    assert "routed_experts: not base64" in refused("routed-experts", path, replace(KNOWN, layers=1))
    path.write_text('{"routed_experts": [[1, 2], [3]]}')
    assert "rows of different length" in refused("routed-experts", path)
    path.write_text('{"routed_experts": ')
    assert "not JSON, or truncated" in refused("routed-experts", path)
    ids = ids_of(4)
    ids[2, 1, 0] = E
    np.save(tmp_path / "r.npy", ids)
    assert "token 2, layer 1: id 16: must be 0 to 15" in refused("routed-experts", tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", ids_of(4).astype(">i4"))
    assert ">i4: must be little-endian" in refused("routed-experts", tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", ids_of(4)[:0])
    assert "must be integers with 3 dimensions" in refused("routed-experts", tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", np.zeros((4, 3, 4), dtype=int))
    assert "no layer routes any token" in refused("routed-experts", tmp_path / "r.npy")


# --- counts ---


def load(steps: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 50, (steps, L, E))


@pytest.mark.parametrize("name", ["w.npy", "w.npz", "w.pt", "w.json"])
def test_eplb_weight(tmp_path: Path, name: str) -> None:
    path, weight = tmp_path / name, load()[0]
    if name == "w.npy":
        np.save(path, weight.astype(np.float32))  # the balancer takes floats too
    elif name == "w.npz":
        np.savez(path, weight=weight)
    elif name == "w.pt":
        save_torch(path, weight)
    else:
        path.write_text(json.dumps({"logical_count": weight.tolist()}))
    trace = counts_of(bring("eplb-weight", path))
    assert np.array_equal(trace.counts[0], weight)
    assert (trace.model, trace.phase, trace.source, trace.licence) == ("tiny", "decode", "made up", "none")


def test_eplb_weight_defects(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", load()[0] + 0.5)
    assert "weight: float64" in refused("eplb-weight", tmp_path / "w.npy")
    np.save(tmp_path / "w.npy", load()[0, :, :5])
    assert "5 experts per layer, but 16 stated" in refused("eplb-weight", tmp_path / "w.npy")
    np.savez(tmp_path / "w.npz", phy2log=load()[0])
    assert "weight: missing; the file has phy2log" in refused("eplb-weight", tmp_path / "w.npz")
    (tmp_path / "w.txt").write_text("1")
    assert ".txt: must be .npz, .npy" in refused("eplb-weight", tmp_path / "w.txt")


def test_mindspeed(tmp_path: Path) -> None:
    path, counts = tmp_path / "token_collects_all.json", load()[0]
    rows = {str(layer + 3): {str(e): int(n) for e, n in enumerate(row)} for layer, row in enumerate(counts)}
    path.write_text(json.dumps(rows))
    assert np.array_equal(counts_of(bring("mindspeed", path)).counts[0], counts)
    for document, message in [
        ([], "must be a JSON object of layers"),
        ({"0": []}, "layer 0: must be an object of experts"),
        ({"a": {"0": 1}}, "layer 'a': must be a number"),
        ({"0": {"0": -1}}, "layer 0, expert 0: -1: must be a count"),
        ({"0": {"0": 1.5}}, "layer 0, expert 0: 1.5: must be a count"),
        ({"0": {"16": 1}}, "expert 16: must be 0 to 15"),
    ]:
        path.write_text(json.dumps(document))
        assert message in refused("mindspeed", path)


def test_vllm_window(tmp_path: Path) -> None:
    held = HELD[1:]
    window = np.zeros((6, L, E + 2), dtype=np.int32)
    window[:4] = np.random.default_rng(0).integers(0, 9, (4, L, E + 2))
    path = save_torch(tmp_path / "e.pt", {"expert_load_window": window, "physical_to_logical_map": held})
    imported = bring("vllm-eplb", path)
    wanted = np.zeros((4, L, E), dtype=int)
    for step in range(4):
        for layer in range(L):
            for position in range(E + 2):
                wanted[step, layer, held[layer, position]] += window[step, layer, position]
    assert np.array_equal(counts_of(imported).counts, wanted)
    assert not counts_of(imported).in_order
    np.savez(tmp_path / "e.npz", expert_load_pass=window[0], physical_to_logical_map=held[:, :-1])
    assert "physical map: int64 (3, 17): must be integers (3, 18)" in refused("vllm-eplb", tmp_path / "e.npz")
    np.savez(tmp_path / "e.npz", expert_load_pass=window[0])
    assert "physical_to_logical_map: missing" in refused("vllm-eplb", tmp_path / "e.npz")


def test_vllm_log(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    line = "INFO 09-17 17:43:06 [eplb_state.py:390] EPLB step: {}avg_tokens={}, max_tokens={}, balancedness={}{}\n"
    path.write_text(
        "other\n"
        + line.format("", "0.00", 0, "0.0000", "")
        + line.format("", "50.00", 80, "0.6250", "")
        + line.format("12 for model x: ", "30.50", 61, "0.5000", ", steps until the next rearrangement: 3")
    )
    assert [step.busiest_tokens for step in read_log(path)] == [80, 61]
    path.write_text(line.format("", "50.00", 80, "0.9000", ""))
    with pytest.raises(WorkloadError, match=r"line 1: balancedness=0.9: not avg_tokens / max_tokens"):
        read_log(path)
    path.write_text("nothing")
    with pytest.raises(WorkloadError, match="no line 'EPLB step"):
        read_log(path)


def omni_files(folder: Path, counts: np.ndarray, ranks: int = 4) -> list[Path]:
    paths = []
    for step, rows in enumerate(counts):
        for rank, part in enumerate(np.split(rows, ranks, axis=1)):
            path = folder / f"activation_counts_recordstep_{step + 1}_rank_{rank}.txt"
            path.write_text("".join("\t".join(map(str, row)) + "\t\n" for row in part))
            paths.append(path)
    return paths


def test_omni(tmp_path: Path) -> None:
    counts = load(2)
    paths = omni_files(tmp_path, counts)
    assert np.array_equal(counts_of(bring("omni", tmp_path)).counts, counts)
    order = np.stack([np.random.default_rng(n).permutation(E) for n in range(L)])
    placed = counts_of(bring("omni", paths, replace(KNOWN, physical_to_logical=order)))
    assert np.array_equal(np.take_along_axis(placed.counts, np.broadcast_to(order, counts.shape), axis=2), counts)
    assert "step 1: rank 3 is missing" in refused("omni", [path for path in paths if path.name[-12:] != "1_rank_3.txt"])
    paths[0].write_text(paths[0].read_text().rsplit("\t", 3)[0])
    assert "line 3: 2 numbers, but line 1 has 4; truncated" in refused("omni", paths)
    paths[0].write_text("1\tx\n")
    assert "line 1: 'x': must be a whole number" in refused("omni", paths)
    paths[0].rename(tmp_path / "other.txt")
    assert "must be named activation_counts_recordstep" in refused("omni", tmp_path / "other.txt")


def safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.astype("<i4").tobytes()
        header[name] = {"dtype": "I32", "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def trtllm(folder: Path, raw: bool) -> list[np.ndarray]:
    (folder / "meta_info.json").write_text(json.dumps({"num_experts": E, "num_experts_per_token": K}))
    found = []
    for rank in range(2):
        counts, tokens = {}, {}
        for step in (100, 101):
            ids = ids_of(6, seed=rank * 200 + step)
            found.append(ids)
            for layer in range(L):
                counts[f"{step}_{layer + 3}"] = counted(ids)[layer]
                tokens[f"{step}_{layer + 3}"] = ids[:, layer]
        safetensors(folder / f"rank{rank}.safetensors", counts)
        if raw:
            safetensors(folder / f"rank{rank}_raw.safetensors", tokens)
    return found


def test_trtllm_counts(tmp_path: Path) -> None:
    found = trtllm(tmp_path, raw=False)
    wanted = np.stack([counted(found[0]) + counted(found[2]), counted(found[1]) + counted(found[3])])
    trace = counts_of(bring("trtllm", tmp_path))
    assert np.array_equal(trace.counts, wanted)
    assert trace.top_k == K


def test_trtllm_tokens(tmp_path: Path) -> None:
    found = trtllm(tmp_path, raw=True)
    imported = bring("trtllm", tmp_path)
    assert np.array_equal(tokens_of(imported).experts, np.concatenate(found))
    assert any("each rank's iteration stands for a sequence" in note for note in imported.notes)


def test_trtllm_defects(tmp_path: Path) -> None:
    trtllm(tmp_path, raw=False)
    rank = tmp_path / "rank0.safetensors"
    whole = rank.read_bytes()
    assert "meta_info.json: missing" in refused("trtllm", rank)
    rank.write_bytes(whole[:-4])
    assert "truncated" in refused("trtllm", tmp_path)
    safetensors(rank, {"100_3": np.ones(E - 1, dtype=int)})
    assert "100_3: 15 counts, but 16 experts" in refused("trtllm", tmp_path)
    safetensors(rank, {"100": np.ones(E, dtype=int)})
    assert "100: must be <iteration>_<layer>" in refused("trtllm", tmp_path)
    safetensors(rank, {"100_3": np.ones(E, dtype=int), "101_4": np.ones(E, dtype=int)})
    assert "100_4: missing" in refused("trtllm", tmp_path)
    assert "num_experts: 16, but 32 stated" in refused("trtllm", tmp_path, replace(KNOWN, routed_experts=32))


# --- token by token ---


def test_hf_logits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(10, E)).astype(np.float32) for _ in range(L)]
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    path = save_torch(tmp_path / "l.pt", {"router_logits": tuple(logits), "attention_mask": mask})
    trace = tokens_of(bring("hf-logits", path))
    kept = [0, 1, 2, 5, 6, 7, 8, 9]
    wanted = np.stack([np.argsort(-layer[kept], axis=1)[:, :K] for layer in logits], axis=1)
    assert np.array_equal(trace.experts, wanted)
    assert trace.seq_lens.tolist() == [3, 5]
    share = np.exp(logits[1][kept]) / np.exp(logits[1][kept]).sum(axis=1, keepdims=True)
    assert trace.gate_weights is not None
    assert trace.gate_weights[:, 1] == pytest.approx(np.sort(share, axis=1)[:, ::-1][:, :K], rel=1e-5)
    logits[2][4, 3] = np.nan
    save_torch(path, logits)
    assert "layer 2, token 4, expert 3: not a finite number" in refused("hf-logits", path)
    save_torch(path, [logits[0], logits[1][:5]])
    assert "shapes differ" in refused("hf-logits", path)
    assert "top_k: not in the recording" in refused("hf-logits", path, replace(KNOWN, top_k=None))


def llama(path: Path, batches: Sequence[np.ndarray]) -> Path:
    rows = [(n + 1, e) for ids in batches for n, layer in enumerate(ids.swapaxes(0, 1)) for e in layer.ravel()]
    path.write_text("layer,expert\n" + "".join(f"{layer},{expert}\n" for layer, expert in rows))
    return path


def test_llama_csv(tmp_path: Path) -> None:
    batches = [ids_of(5, 0), ids_of(1, 1), ids_of(1, 2)]
    path = llama(tmp_path / "t.csv", batches)
    assert np.array_equal(tokens_of(bring("llama-csv", path)).experts, np.concatenate(batches))
    coarse = counts_of(bring("llama-csv", path, replace(KNOWN, top_k=None)))
    assert np.array_equal(coarse.counts[0], counted(np.concatenate(batches)))
    assert "are not top-3 of the same tokens" in refused("llama-csv", path, replace(KNOWN, top_k=3))
    assert "must be 0 to 9" in refused("llama-csv", path, replace(KNOWN, routed_experts=10))
    path.write_text(path.read_text()[:-2])
    assert "truncated" in refused("llama-csv", path)
    path.write_text("layer,expert\n1,-2\n")
    assert "line 2: -2: must be 0 or more" in refused("llama-csv", path)
    path.write_text("1,2\n")
    assert "line 1: '1,2': must be 'layer,expert'" in refused("llama-csv", path)


def esft(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    ids = ids_of(sum(LENS))
    gates = np.random.default_rng(5).integers(1, 9999, ids.shape) / 1e4
    starts = np.cumsum([0, *LENS])
    for layer in range(L):
        lines = []
        for start, stop in pairwise(starts):
            left = "\t".join(map(str, ids[start:stop, layer].ravel()))
            lines.append(left + "\t\t" + "\t".join(f"{gate:.4f}" for gate in gates[start:stop, layer].ravel()))
        (folder / f"expert_weights_{layer + 1}.txt").write_text("\n".join(lines) + "\n")
    return ids, gates


def test_esft(tmp_path: Path) -> None:
    ids, gates = esft(tmp_path)
    trace = tokens_of(bring("esft", tmp_path))
    assert np.array_equal(trace.experts, ids)
    assert trace.seq_lens.tolist() == LENS
    assert trace.gate_weights == pytest.approx(gates, abs=1e-6)
    second = tmp_path / "expert_weights_2.txt"
    whole = second.read_text()
    second.write_text(whole[: whole.rindex("\t")])
    assert "line 3: 36 ids, but 35 weights; truncated" in refused("esft", tmp_path)
    second.write_text(whole.splitlines()[0])
    assert "layer 2: other sequence lengths than layer 1" in refused("esft", tmp_path)
    second.unlink()
    assert "expert_weights_2.txt: missing" in refused("esft", tmp_path)


@pytest.mark.parametrize("lens", ["seq_lens", "gen_tokens", "seq_starts"])
def test_plain_npz(tmp_path: Path, lens: str) -> None:
    ids = ids_of(sum(LENS)).astype(np.uint8)
    values = np.cumsum([0, *LENS[:-1]]) if lens == "seq_starts" else np.array(LENS)
    arrays: dict[str, np.ndarray] = {"experts": ids, lens: values}
    np.savez(tmp_path / "t.npz", **arrays)
    np.savez(tmp_path / "t.gate_weights.npz", gate_weight_e4=np.full(ids.shape, 2500, dtype=np.uint16))
    trace = tokens_of(bring("npz", tmp_path / "t.npz"))
    assert np.array_equal(trace.experts, ids)
    assert trace.seq_lens.tolist() == LENS
    assert trace.gate_weights is not None
    assert (trace.gate_weights == 0.25).all()


def test_plain_counts(tmp_path: Path) -> None:
    path, counts = tmp_path / "c.npz", load(3)
    np.savez(path, a_x_counts=counts[0], a_y_counts=counts[1], b_x_counts=counts[2], a_x_cross=counts[0])
    assert "the file holds a, b; state one with --part" in refused("npz", path)
    assert np.array_equal(counts_of(bring("npz", path, replace(KNOWN, part="a"))).counts, counts[:2])
    assert "part: 'c': not in the file" in refused("npz", path, replace(KNOWN, part="c"))


@pytest.mark.parametrize("kind", KINDS)
def test_nonsense_is_one_line_for_every_kind(tmp_path: Path, kind: str) -> None:
    for name in ("x.pt", "x.json", "x.txt", "x.npz", "meta_info.json", "expert_weights_1.txt"):
        path = tmp_path / name
        for content in (b"", b"\x80\x02}q\x00.", b"PK\x03\x04 nonsense", b"{}", b"[[[", b"1,2\n3"):
            path.write_bytes(content)
            assert refused(kind, path)
        path.unlink()
    assert "no such file" in refused(kind, tmp_path / "nothing")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    assert "kind 'x': unknown; use one of sglang" in refused("x", tmp_path)


# --- expert ids in JSON; recognising the kind ---


def request(ids: np.ndarray, first: int = 9) -> dict[str, Any]:
    """A recorded request: token -> layer -> experts and their weights."""
    tokens = [
        {
            f"layer_{layer}": {"selected_experts": own.tolist(), "selected_probs": [0.25] * K}
            for layer, own in enumerate(row)
        }
        for row in ids
    ]
    return {"dataset": "x", "router_data": [{f"token_{first + step}": row} for step, row in enumerate(tokens)]}


def test_token_json_of_requests(tmp_path: Path) -> None:
    path, ids = tmp_path / "r.json", ids_of(12)
    path.write_text(json.dumps([request(ids[:7]), request(ids[7:])]))
    trace = tokens_of(bring("token-json", path))
    assert np.array_equal(trace.experts, ids)
    assert trace.seq_lens.tolist() == [7, 5]
    assert trace.gate_weights is not None
    assert (trace.gate_weights == 0.25).all()
    lacking, short, wrong = request(ids[:2]), request(ids[:2]), request(ids[:2])
    del lacking["router_data"][1]["token_10"]["layer_1"]
    del short["router_data"][1]["token_10"]["layer_2"]["selected_probs"][0]
    wrong["router_data"][0] = {"step_3": {}}
    for document, message in (
        (lacking, "router_data[1].token_10: layer 1: missing"),
        (short, "router_data: selected_probs: layers or ids per token differ"),
        (wrong, "router_data[0]: 'step_3': must be token_NUMBER"),
        ([{"x": 1}], "[0].router_data: missing or empty"),
        (request(ids[:2] + E), "must be 0 to 15"),
    ):
        path.write_text(json.dumps(document))
        assert message in refused("token-json", path)


def test_token_json_by_layer(tmp_path: Path) -> None:
    path, ids = tmp_path / "experts.json", ids_of(9)
    path.write_text(json.dumps({str(layer): own.tolist() for layer, own in enumerate(ids.swapaxes(0, 1))}))
    brought = bring("token-json", path)
    assert np.array_equal(tokens_of(brought).experts, ids)
    assert "each file is taken as one" in brought.notes[0]
    path.write_text(json.dumps({"0": ids[:, 0].tolist(), "1": ids[1:, 1].tolist()}))
    assert "layers differ in [tokens, top_k]" in refused("token-json", path)
    path.write_text(json.dumps({"0": ids[:, 0].tolist(), "2": ids[:, 1].tolist()}))
    assert "layer 1: missing" in refused("token-json", path)


def test_the_kind_is_recognised(tmp_path: Path) -> None:
    ids, counts = ids_of(sum(LENS)), load(2)
    (folder := tmp_path / "esft").mkdir()
    esft(folder)
    np.savez(tmp_path / "t.npz", experts=ids, seq_lens=np.array(LENS))
    np.save(tmp_path / "r.npy", ids)
    np.save(tmp_path / "w.npy", counts)
    (tmp_path / "m.json").write_text(json.dumps({"1": {"0": 4, "15": 2}}))
    (tmp_path / "j.json").write_text(json.dumps(request(ids)))
    (tmp_path / "c.csv").write_text("layer,expert\n" + "".join(f"0,{expert}\n" for expert in range(K)))
    (tmp_path / "odd.json").write_text('{"a": 1}')
    (tmp_path / "odd.dat").write_text("x")
    for path, kind in (
        (folder, "esft"),
        (tmp_path / "t.npz", "npz"),
        (tmp_path / "r.npy", "routed-experts"),
        (tmp_path / "w.npy", "eplb-weight"),
        (tmp_path / "m.json", "mindspeed"),
        (tmp_path / "j.json", "token-json"),
        (tmp_path / "c.csv", "llama-csv"),
    ):
        assert kind_of([path], KNOWN) == kind
    with pytest.raises(WorkloadError, match=r"(?s)no importer can read it.*as token-json: "):
        kind_of([tmp_path / "odd.json"], KNOWN)
    (tmp_path / "old.pt").write_bytes(b"\x80\x02}q\x00.")  # what all say alike is said once
    with pytest.raises(WorkloadError, match=r"old\.pt: a bare pickle") as caught:
        kind_of([tmp_path / "old.pt"], KNOWN)
    assert len(caught.value.problems) == 1
    with pytest.raises(WorkloadError, match="no importer takes files named so"):
        kind_of([tmp_path / "odd.dat"], KNOWN)


def test_packed_text(tmp_path: Path) -> None:
    ids, _ = esft(tmp_path)
    for path in tmp_path.iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert np.array_equal(tokens_of(bring("esft", tmp_path)).experts, ids)
    bomb = tmp_path / "expert_weights_1.txt.gz"
    bomb.write_bytes(gzip.compress(bytes(50_000_000)))
    assert "unpacks to more than" in refused("esft", bomb)
    bomb.write_bytes(bomb.read_bytes()[:-9])
    assert refused("esft", bomb)
    bomb.write_bytes(b"no gzip")
    assert "unreadable" in refused("esft", bomb)
