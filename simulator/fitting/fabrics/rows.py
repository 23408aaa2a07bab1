"""Published measurements that fits are made from."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

Row = Mapping[str, str]


def read_rows(measured_dir: Path, reference_dir: Path) -> list[Row]:
    """Return the usable rows of `collectives.csv`, and those of `achieved_efficiency.csv` for Ascend's UB plane.

    Rows that lack nothing but a message size count as usable.
    """
    with (measured_dir / "collectives.csv").open(newline="", encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    usable = [row for row in every if row["usable"] == "yes" or row["why_not"] == "missing: size_bytes"]
    with (reference_dir / "achieved_efficiency.csv").open(newline="", encoding="utf-8") as file:
        reference = [row for row in csv.DictReader(file) if row["source"].startswith("arXiv:2506.12708")]
    empty = dict.fromkeys(every[0], "")
    return [*usable, *(found for row in reference if (found := _cann_row(row, empty) or _ub_row(row, empty)))]


def _ub_row(row: Row, empty: dict[str, str]) -> Row | None:
    """Return a copy between dies, of unstated but large size."""
    match = re.match(r"UB NPU-NPU (read|write), (intra|inter)-node", row["operator"])
    if not match:
        return None
    ids = {"id": f"reference-ub-{match[1]}-{match[2]}", "op": f"p2p_{match[1]}", "ranks": "2", "transport": "ub"}
    return {**empty, **ids, "ranks_per_node": "2" if match[2] == "intra" else "1", "algbw_GBps": row["achieved"]}


def _cann_row(row: Row, empty: dict[str, str]) -> Row | None:
    """EP8 stands in `collectives.csv` too and is left out here."""
    match = re.match(r"EP=(\d+), batch (\d+)/rank, latency (\d+) us", row["shape_or_setting"])
    if not match or match[1] == "8" or not row["operator"].endswith("(CANN EP)"):
        return None
    op = row["operator"].split()[1]
    ids = {"id": f"reference-cann-ep-{op}-ep{match[1]}", "op": op, "ranks": match[1], "tokens_per_rank": match[2]}
    shape = {"hidden": "7168", "top_k": "8", "payload_dtype": "int8" if op == "dispatch" else "bf16"}
    return {**empty, **ids, **shape, "time_us": match[3]}
