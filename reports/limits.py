"""Largest loads under a service level: a table, and throughput against time per token."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.text import cell, pairs, table
from simulator import units

Row = Mapping[str, Any]


def limit_table(rows: Sequence[Row]) -> RenderableType:
    """Return the largest loads of one deployment, a line per TPOT asked for, and the prefill pool below."""
    first = rows[0]
    both = "prefill" in first
    heads = ["TPOT asked", "TPOT", "sequences per rank", "requests/s", "tokens/s per chip", "bound by"]
    heads += ["prefill per decode", "per chip of both"] * both
    made = table(f"{first['scenario']}: {units.count(first['chips'])} chips", *heads, left=())
    for row in rows:
        cells = [
            units.seconds(row["tpot_level_s"]),
            units.seconds(row["tpot_s"]),
            units.count(row["batch_per_rank"]),
            units.number(row["requests_per_s"]),
            units.tokens(row["tokens_per_s_per_chip"]),
            row["bound_by"],
        ]
        if both:
            cells += [units.number(row["prefill_per_decode"]), units.tokens(row["tokens_per_s_per_chip_of_both"])]
        made.add_row(*(cell(text) for text in cells))
    if not both:
        return made
    lines = [
        ("prefill pool", f"{first['prefill']}: {units.count(first['prefill_chips'])} chips"),
        ("arrivals it keeps up with", f"{units.number(first['prefill_requests_per_s'])} requests/s"),
        ("TTFT then", f"{units.seconds(first['ttft_s'])}, bound by {first['prefill_bound_by']}"),
        ("transfer of keys and values", units.seconds(first["kv_transfer_s"])),
    ]
    return Group(made, Text(), pairs(lines))
