"""What DeepEP's tests print: best tuned dispatch and combine in normal mode, times per rank in low-latency mode."""

import re
from collections.abc import Iterator, Mapping

from simulator.fitting.measurements.text import Given, Output, Row, row

_CONFIG = re.compile(r"\[config\]\s+num_tokens=(\d+),\s*hidden=(\d+)(.*)$")
_TOP_K = re.compile(r"num_topk=(\d+)")
_GROUPS = re.compile(r"num_topk_groups=(\d+)")
_BEST = re.compile(r"\[tuning\]\s+Best (dispatch|combine)(?:\s*\((\w+)\))?:\s*(.*)$")
_CORES = re.compile(r"\bSMs (\d+)")
_RATE = re.compile(r"([\d.]+) GB/s \((RDMA|NVL)\)")
# Total, or transmission and notification apart, as versions print it.
_APART = (
    re.compile(r"transmit: (?P<send>[\d.]+) us, notify: (?P<notify>[\d.]+) us"),
    re.compile(r"(?P<notify>[\d.]+) \+ (?P<send>[\d.]+) us"),
    re.compile(r"(?:avg_)?t: (?P<send>[\d.]+) us"),
)
_RANK = re.compile(
    r"\[rank (\d+)\] Dispatch bandwidth: ([\d.]+) GB/s, avg_t=([\d.]+) us \| "
    r"Combine bandwidth: ([\d.]+) GB/s, avg_t=([\d.]+) us"
)
_BOTH = re.compile(r"\[rank \d+\] Dispatch \+ combine bandwidth")
# Defaults of DeepEP's test_low_latency.py, which prints none of them.
LOW_LATENCY_SHAPE = {"tokens": 128, "hidden": 7168, "top_k": 8}
_Times = dict[int, tuple[int, float, float, float, float]]


def is_deepep(output: Output) -> bool:
    """Say whether this is the output of one of DeepEP's tests."""
    return any(_BEST.search(line) or _RANK.search(line) or _BOTH.search(line) for line in output.lines)


def read_deepep(output: Output, given: Given) -> Iterator[Row]:
    """Yield a row per tuned operation (normal), and per operation and run, mean over ranks (low-latency)."""
    config: dict[str, str | float] = {}
    times: _Times = {}
    both = 0
    for at, line in enumerate(output.lines, 1):
        if found := _CONFIG.search(line):
            config = _shape(output, at, found)
        elif best := _BEST.search(line):
            yield from _best(output, at, best, config, given)
        elif one := _RANK.search(line):
            rank, values = int(one[1]), tuple(float(value) for value in one.groups()[1:])
            if rank in times:
                yield from _low_latency(output, times, given)
                times = {}
            times[rank] = (at, values[0], values[1], values[2], values[3])
        elif "Dispatch bandwidth" in line:
            output.wrong(at, f"{line[:80]}: cut off; expected 'Dispatch bandwidth: ... | Combine bandwidth: ...'")
        elif _BOTH.search(line):
            both = both or at
    yield from _low_latency(output, times, given)
    if both and not times:
        output.wrong(both, "dispatch and combine together only; the lines with 'Dispatch bandwidth' are missing")


def _shape(output: Output, at: int, found: re.Match[str]) -> dict[str, str | float]:
    top_k, groups = _TOP_K.search(found[3]), _GROUPS.search(found[3])
    if not top_k:
        output.wrong(at, "[config] without num_topk; give the whole output")
        return {}
    shape: dict[str, str | float] = {"tokens_per_rank": int(found[1]), "hidden": int(found[2]), "top_k": int(top_k[1])}
    return shape | ({"topk_groups": int(groups[1])} if groups else {})


def _best(
    output: Output, at: int, best: re.Match[str], config: Mapping[str, str | float], given: Given
) -> Iterator[Row]:
    op, dtype, rest = best[1], (best[2] or "BF16").lower(), best[3]
    rates = {name: float(rate) for rate, name in _RATE.findall(rest)}
    times = next((found for pattern in _APART if (found := pattern.search(rest))), None)
    problem = ""
    if not config:
        problem = "no '[config] num_tokens=..., hidden=...' above it; give the whole output"
    elif not given.ranks:
        problem = "how many ranks? DeepEP's normal tests do not print them: give --ranks and --ranks-per-node"
    elif not rates or (min(rates.values()) <= 0 and not times):
        problem = f"{rest[:80]}: no bandwidth as 'GB/s (NVL)' or 'GB/s (RDMA)'; give the output as printed"
    elif times and float(times["send"]) <= 0:
        problem = "time 0 us: must be above 0; rerun the test"
    if problem:
        output.wrong(at, problem)
        return
    cores = _CORES.search(rest)
    values: dict[str, str | float] = {"comm_cores": int(cores[1])} if cores else {}
    if times:
        values |= {"time_us": float(times["send"]), "notify_us": float(times.groupdict().get("notify") or 0.0)}
    else:  # copies are counted per node where the NICs carry them, per rank inside a node
        values |= {"algbw_GBps": rates.get("RDMA", rates.get("NVL", 0.0))}
    yield row(
        id=output.place(at),
        op=op,
        mode="normal",
        ranks=given.ranks,
        ranks_per_node=given.ranks_per_node,
        payload_dtype=dtype,
        **config,
        **values,
    )


def _low_latency(output: Output, times: _Times, given: Given) -> Iterator[Row]:
    if not times:
        return
    at = max(line for line, *_ in times.values())
    complete = set(times) == set(range(len(times)))
    ranks = given.ranks or (len(times) if complete else 0)
    if not ranks or ranks <= max(times):
        output.wrong(at, f"ranks {min(times)} to {max(times)}: part of a larger group; give --ranks with all of them")
        return
    if any(min(values[1:]) <= 0 for values in times.values()):
        output.wrong(at, "a time or bandwidth of 0: must be above 0; rerun the test")
        return
    shape = {name: getattr(given, name) or default for name, default in LOW_LATENCY_SHAPE.items()}
    if shape == LOW_LATENCY_SHAPE:
        output.notes.append(
            f"{output.place(at)}: taken as {shape['tokens']} tokens per rank, hidden {shape['hidden']}, "
            f"top-{shape['top_k']}, the defaults of DeepEP's test; --tokens, --hidden, --top-k say otherwise"
        )
    columns = list(zip(*times.values(), strict=True))
    for op, dtype, column in (("dispatch", "fp8", 1), ("combine", "bf16", 3)):
        rate, time_us = (sum(columns[place]) / len(times) for place in (column, column + 1))
        yield row(
            id=f"{output.place(at)} {op}",
            op=op,
            mode="low_latency",
            ranks=ranks,
            ranks_per_node=given.ranks_per_node,
            tokens_per_rank=shape["tokens"],
            hidden=shape["hidden"],
            top_k=shape["top_k"],
            payload_dtype=dtype,
            time_us=time_us,
            algbw_GBps=rate,
            evidence="D",
        )
