"""The tables of nccl-tests and rccl-tests: `*_perf`, any version, several runs in one file."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulator.fitting.measurements.text import Given, Output, Row, number, row

OPS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
    "alltoall": "all_to_all",
    "sendrecv": "send_recv",
}
_BINARY = re.compile(r"\b([a-z_]+)_perf")
_DEVICE = re.compile(r"^#\s+Rank\s+(\d+)\s.*?\bPid\s+\d+\s+on\s+(\S+)\s+device\s+\d+")
_HEADER = re.compile(r"^#\s+size\s+count\s+type\s")
_ROW = re.compile(r"^\s*\d+\s+\d+\s+[a-z]\w*(\s|$)")
_UNITS = ("(B)", "(us)", "(GB/s)")
# Printed figures have two decimals.
_ROUNDING = 0.006


@dataclass
class _Run:
    """What the lines so far say of the run that is being read."""

    op: str = ""
    hosts: dict[int, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    open_since: int = 0


def is_nccl(output: Output) -> bool:
    """Say whether this is the output of nccl-tests or rccl-tests."""
    return any(_HEADER.match(line) or line.startswith("# nThread ") for line in output.lines)


def read_nccl(output: Output, given: Given) -> Iterator[Row]:
    """Yield a row per size: out-of-place times. What is wrong is recorded in `output`."""
    run = _Run(op=_named(output.name))
    for at, line in enumerate(output.lines, 1):
        text = line.strip()
        if binary := _BINARY.search(line):
            run.op = binary[1]
        if text.startswith("# nThread"):
            _cut_off(output, run)
            run = _Run(op=run.op)
        elif device := _DEVICE.match(text):
            _device(output, at, run, int(device[1]), device[2])
        elif _HEADER.match(text):
            run.columns, run.open_since = text.lstrip("# ").split(), at
        elif run.open_since == at - 1 and run.columns and text.startswith("#") and "(" in text:
            _units(output, at, text)
        elif text.startswith(("# Avg bus bandwidth", "# Out of bounds")):
            run.open_since = 0
        elif _ROW.match(line):
            yield from _row(output, at, text.split(), run, given)
    _cut_off(output, run)


def _named(name: str) -> str:
    return next((binary for binary in OPS if binary in name.rpartition("/")[2]), "")


def _device(output: Output, at: int, run: _Run, rank: int, host: str) -> None:
    if rank in run.hosts:
        output.wrong(at, f"rank {rank} is listed twice: each process ran alone; build nccl-tests with MPI=1 and rerun")
    run.hosts[rank] = host


def _units(output: Output, at: int, text: str) -> None:
    if not all(unit in text for unit in _UNITS):
        output.wrong(at, f"units {' '.join(text.lstrip('# ').split())[:60]}: expected (B), (us) and (GB/s)")


def _cut_off(output: Output, run: _Run) -> None:
    if run.open_since:
        output.wrong(
            run.open_since, "the table that begins here has no '# Avg bus bandwidth' at its end; give all of it"
        )


def _row(output: Output, at: int, cells: list[str], run: _Run, given: Given) -> Iterator[Row]:
    if not run.columns:
        output.wrong(at, "a row without the header above it ('# size count type ...'); give the whole output")
        return
    if len(cells) != len(run.columns):
        output.wrong(
            at, f"{len(cells)} columns, the header has {len(run.columns)}; the line is cut or mixed with another"
        )
        return
    first = {name: cells[place] for place, name in reversed(list(enumerate(run.columns)))}
    found = [number(first.get(name, "")) for name in ("size", "time", "algbw", "busbw")]
    if None in found:
        output.wrong(at, f"{' '.join(cells)[:80]}: size, time, algbw or busbw is not a number; rerun this size")
        return
    size, time_us, algbw, busbw = (float(value or 0.0) for value in found)
    wrong = first.get("#wrong") or first.get("error") or "0"
    if size == 0:
        output.notes.append(f"{output.place(at)}: 0 bytes, left out")
    elif time_us <= 0:
        output.wrong(at, f"time {time_us:g} us: must be above 0; rerun this size")
    elif "#wrong" in first and wrong not in {"0", "N/A"}:
        output.wrong(at, f"#wrong = {wrong}: the results were wrong, so its time says nothing; mend the run first")
    elif op := _op(output, at, run, given):
        yield from _measured(output, at, run, given, op, size, time_us, algbw, busbw)


def _op(output: Output, at: int, run: _Run, given: Given) -> str:
    op = OPS.get(run.op, "")
    if run.op and not op:
        output.wrong(at, f"{run.op}_perf: not modelled; known: {', '.join(f'{name}_perf' for name in OPS)}")
        return ""
    if not op and not given.op:
        output.wrong(at, "which operation? This version does not print it: give --op, or name the file after it")
        return ""
    return "" if output.contradicted(at, "--op", given.op, op) else op or given.op


def _measured(
    output: Output, at: int, run: _Run, given: Given, op: str, size: float, time_us: float, algbw: float, busbw: float
) -> Iterator[Row]:
    ranks, per_node = _layout(output, at, run, given)
    if not ranks:
        return
    if abs(size / time_us * 1e-3 - algbw) > _ROUNDING * max(1.0, algbw):
        output.wrong(at, f"algbw {algbw:g} GB/s is not size over time, {size / time_us * 1e-3:.2f} GB/s; which unit?")
        return
    share = {"all_reduce": 2 * (ranks - 1) / ranks, "broadcast": 1.0, "send_recv": 1.0}.get(op, (ranks - 1) / ranks)
    if abs(busbw - share * algbw) > _ROUNDING * max(1.0, busbw) + _ROUNDING:
        output.wrong(
            at,
            f"busbw / algbw is {busbw / algbw:.3g}, {op} on {ranks} ranks has {share:.3g}; another operation or size?",
        )
        return
    yield row(id=output.place(at), op=op, ranks=ranks, ranks_per_node=per_node, size_bytes=size, time_us=time_us)


def _layout(output: Output, at: int, run: _Run, given: Given) -> tuple[int, int]:
    """Return ranks, and ranks per node; 0 ranks where they can't be told."""
    counts = Counter(run.hosts.values())
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} on {host}" for host, count in list(counts.items())[:4])
        output.wrong(at, f"ranks per node differ ({shown}); give runs with as many ranks on each node")
        return 0, 0
    ranks, per_node = len(run.hosts), next(iter(counts.values()), 0)
    listed = not run.hosts or max(run.hosts) + 1 == ranks
    if not listed:  # logs of many ranks are often shortened
        ranks = max(run.hosts) + 1
        per_node = given.ranks_per_node
    clash = output.contradicted(at, "--ranks", given.ranks, ranks)
    clash |= output.contradicted(at, "--ranks-per-node", given.ranks_per_node, per_node)
    if clash:
        return 0, 0
    if not ranks and not given.ranks:
        output.wrong(at, "how many ranks? The output has no '# Rank' lines: give --ranks and --ranks-per-node")
    if ranks == 1:
        output.wrong(at, "one rank exchanges nothing; was nccl-tests built with MPI=1, and given all its ranks?")
        return 0, 0
    return ranks or given.ranks, per_node or given.ranks_per_node
