"""Tokens per layer and expert, as DeepSeek's load balancer takes them.

Source: `weight` of deepseek-ai/EPLB:eplb.py; `logical_count` of SGLang's --init-expert-location.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workloads.errors import WorkloadError
from workloads.routing.importers.common import (
    Imported,
    Integers,
    Options,
    count_trace,
    integer_array,
    named_arrays,
    naming,
    read_json,
)

_NAMES = ("weight", "logical_count", "counts", "")


def read(paths: Sequence[Path], options: Options) -> Imported:
    """Read weights [layers, experts] or [steps, layers, experts]; several files are consecutive steps."""
    steps: list[Integers] = []
    for path in paths:
        with naming(path):
            steps.append(_weight(path))
    if len({array.shape[1:] for array in steps}) > 1:
        raise WorkloadError("weight: [layers, experts] differ between the files")
    return count_trace(np.concatenate(steps), options)


def _weight(path: Path) -> Integers:
    if path.suffix == ".json":
        document = read_json(path)
        found = document if isinstance(document, dict) else {"": document}
    else:
        found = dict(named_arrays(path))
    named = [name for name in _NAMES if name in found]
    if not named:
        raise WorkloadError(f"weight: missing; the file has {', '.join(map(str, found)) or 'nothing'}")
    try:
        value = np.asarray(found[named[0]])
    except ValueError as error:
        raise WorkloadError(f"{named[0] or 'weight'}: rows of different length") from error
    if value.dtype.kind == "f" and np.isfinite(value).all() and (value == np.rint(value)).all():
        value = value.astype(np.int64)  # a balancer also takes counts as floats
    return integer_array(value if value.ndim == 3 else value[None], named[0] or "weight", 3)
