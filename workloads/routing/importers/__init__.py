"""Recorded routing of other tools, brought into the native form; one module per tool."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

from workloads.errors import WorkloadError
from workloads.routing.importers.common import Imported, Options, naming

__all__ = ["KINDS", "Imported", "Options", "import_trace"]

# kind -> (module, what it reads)
KINDS = {
    "sglang": ("sglang", "SGLang expert distribution recorder: .pt of stat, stat_approx, per_pass or per_token"),
    "routed-experts": (
        "routed_experts",
        "SGLang or vLLM routed_experts: .npy, .npz, .pt, or responses as .json, .jsonl",
    ),
    "vllm-eplb": ("vllm", "vLLM EPLB load: .pt, .npz or .safetensors with expert_load_window and the physical map"),
    "eplb-weight": ("eplb", "tokens per layer and expert, as DeepSeek EPLB takes them: .npy, .npz, .pt or .json"),
    "mindspeed": ("mindspeed", "MindSpeed-RL token_collects_all.json"),
    "omni": ("omni", "Omni-infer activation_counts_recordstep_*.txt of all ranks"),
    "trtllm": ("trtllm", "TensorRT-LLM expert statistics: the folder with meta_info.json, or its files"),
    "hf-logits": ("hf_logits", "Hugging Face router_logits: .pt, .npz or .safetensors, one array per layer"),
    "llama-csv": ("llama_csv", "llama.cpp layer,expert rows: .csv"),
    "esft": ("esft", "ESFT expert_weights_*.txt of all layers"),
    "token-json": ("token_json", "gpt-oss router_data, or HD-MoE layer -> token -> ids: .json"),
    "npz": ("plain_npz", "npz with experts and seq_lens, gen_tokens or seq_starts; or with *_counts"),
}


# suffixes that each kind's files have
_TENSORS = (".pt", ".pth", ".bin", ".npz", ".safetensors")
_SUFFIXES = {
    "sglang": (".pt", ".pth", ".bin"),
    "routed-experts": (*_TENSORS, ".npy", ".json", ".jsonl"),
    "vllm-eplb": _TENSORS,
    "eplb-weight": (*_TENSORS, ".npy", ".json"),
    "mindspeed": (".json",),
    "omni": (".txt",),
    "trtllm": (".json", ".safetensors"),
    "hf-logits": _TENSORS,
    "llama-csv": (".csv",),
    "esft": (".txt", ".gz"),
    "token-json": (".json",),
    "npz": (".npz",),
}


def import_trace(kind: str, paths: Sequence[Path], options: Options) -> Imported:
    """Read recorded routing of another tool.

    Parameters
    ----------
    kind
        One of `KINDS`.
    paths
        Files of one recording; a folder stands for the files in it.
    options
        What the files do not say themselves.

    Raises
    ------
    WorkloadError
        One line per defect, naming the file and the place in it.
    """
    if kind not in KINDS:
        raise WorkloadError(f"kind '{kind}': unknown; use one of {', '.join(KINDS)}")
    files = _all_files(paths)
    read: Callable[[Sequence[Path], Options], Imported] = import_module(
        f"workloads.routing.importers.{KINDS[kind][0]}"
    ).read
    with naming(files[0]) if len(files) == 1 else nullcontext():
        return read(files, options)


def kind_of(paths: Sequence[Path], options: Options) -> str:
    """Return the only one of `KINDS` that can read the files.

    Raises
    ------
    WorkloadError
        If none can, with what each that takes such files says of them, or if several can.
    """
    files = _all_files(paths)
    suffixes = {file.suffix for file in files}
    refused: dict[str, str] = {}
    found = []
    for kind in (kind for kind, known in _SUFFIXES.items() if not suffixes.isdisjoint(known)):
        try:
            import_trace(kind, files, options)
            found.append(kind)
        except WorkloadError as error:
            refused[kind] = f"{error.problems[0].removeprefix(f'{files[0]}: '):.200}"
    if len(found) == 1:
        return found[0]
    where = f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}"
    if found:
        raise WorkloadError(f"{where}: can be read as {' or '.join(found)}; state which as KIND")
    if not refused:
        raise WorkloadError(f"{where}: no importer takes files named so; state the KIND, one of {', '.join(KINDS)}")
    if len(said := set(refused.values())) == 1:
        raise WorkloadError(f"{where}: {said.pop()}")
    lines = (f"as {kind}: {reason}" for kind, reason in refused.items())
    raise WorkloadError(f"{where}: no importer can read it; state the KIND if one of these is yours", *lines)


def _all_files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise WorkloadError("no file given; name the files of one recording")
    return files


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        if not found:
            raise WorkloadError(f"{path}: no file in it")
        return found
    if not path.exists():
        raise WorkloadError(f"{path}: no such file; give a file of the recording")
    return [path]
