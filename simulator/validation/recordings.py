"""Recorded traces that shipped statistics were fitted to, where the user has them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from simulator.errors import UserError
from workloads.containers.numpy_file import INTEGERS, TEXT, read_npz
from workloads.routing.trace import Trace

_VARIABLE = "EPSIM_TRACES"
_BESIDE = Path("..") / "shared" / "traces"
_GPT_OSS_TASKS = {"mmlu_test": "mmlu", "mmlu_pro_test": "mmlu-pro"}


def traces_folder(given: str | None) -> Path | None:
    """Return the folder of recorded traces: as given, of the environment, or beside the working folder; else None.

    Raises
    ------
    UserError
        If a folder that is named does not exist.
    """
    named = given or os.environ.get(_VARIABLE)
    if named and not (Path(named) / "routing").is_dir():
        raise UserError(f"{named}: no folder 'routing' of recorded traces in it; give another, or leave it out")
    if named:
        return Path(named)
    return _BESIDE if (_BESIDE / "routing").is_dir() else None


def read_recording(name: str, traces: Path) -> dict[str, Trace]:
    """Return the traces by task that the statistics of this name were fitted to.

    Raises
    ------
    WorkloadError
        If a file is missing or damaged.
    """
    return RECORDINGS[name](traces / "routing")


def _esft(folder: Path) -> dict[str, Trace]:
    found = {}
    for task in ("intent", "law", "summary", "translation"):
        path = folder / "deepseek-v2-lite-esft" / f"{task}.npz"
        arrays = read_npz(path, {"experts": INTEGERS, "seq_lens": INTEGERS})
        found[task] = Trace(arrays["experts"], arrays["seq_lens"], 64, "DeepSeek-V2-Lite", "prefill")
    return found


def _gpt_oss(folder: Path) -> dict[str, Trace]:
    path = folder / "gpt-oss-20b-decode" / "decode.npz"
    arrays = read_npz(path, {"experts": INTEGERS, "gen_tokens": INTEGERS, "dataset": TEXT})
    lens = arrays["gen_tokens"]
    sets = np.array([_GPT_OSS_TASKS.get(name, name.split("_")[0]) for name in arrays["dataset"]])
    row = np.repeat(sets, lens)
    return {
        task: Trace(arrays["experts"][row == task], lens[sets == task], 32, "gpt-oss-20b", "decode")
        for task in ("mmlu", "mmlu-pro", "gpqa")
    }


def _mixtral(folder: Path) -> dict[str, Trace]:
    found = {}
    for path in sorted((folder / "mixtral-8x7b-hdmoe").glob("*.npz")):
        arrays = read_npz(path, {"experts": INTEGERS, "seq_starts": INTEGERS})
        lens = np.diff(np.append(arrays["seq_starts"], len(arrays["experts"]))).astype(np.int32)
        found[path.stem] = Trace(arrays["experts"], lens, 8, "Mixtral-8x7B")
    if not found:
        raise UserError(f"{folder / 'mixtral-8x7b-hdmoe'}: no recorded traces")
    return found


RECORDINGS: dict[str, Callable[[Path], dict[str, Trace]]] = {
    "deepseek-v2-lite-esft": _esft,
    "gpt-oss-20b-decode": _gpt_oss,
    "mixtral-8x7b": _mixtral,
}
