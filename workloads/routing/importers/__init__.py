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
    "npz": ("plain_npz", "npz with experts and seq_lens, gen_tokens or seq_starts; or with *_counts"),
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
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise WorkloadError("no file given; name the files of one recording")
    read: Callable[[Sequence[Path], Options], Imported] = import_module(
        f"workloads.routing.importers.{KINDS[kind][0]}"
    ).read
    with naming(files[0]) if len(files) == 1 else nullcontext():
        return read(files, options)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        if not found:
            raise WorkloadError(f"{path}: no file in it")
        return found
    if not path.exists():
        raise WorkloadError(f"{path}: no such file; give a file of the recording")
    return [path]
