"""The table of hccl_test (CANN): `data_size(Bytes): | aveg_time(us): | alg_bandwidth(GB/s): | check_result:`."""

import re
from collections.abc import Iterator

from simulator.fitting.measurements.text import Given, Output, Row, number, row

OPS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "broadcast": "broadcast",
    "alltoall": "all_to_all",
    "alltoallv": "all_to_all",
}
_BINARY = re.compile(r"\b([a-z_]+)_test\b")
_RANKS = re.compile(r"\bmpirun\b.*?\s-(?:n|np)\s+(\d+)")
_PER_NODE = re.compile(r"_test\b.*?\s-p\s+(\d+)")
_COLUMNS = 4
# Bandwidths have five decimals; the size is rounded up to whole elements on every rank.
_ROUNDING = 0.02


def is_hccl(output: Output) -> bool:
    """Say whether this is the output of hccl_test."""
    return any("data_size" in line and "check_result" in line for line in output.lines)


def read_hccl(output: Output, given: Given) -> Iterator[Row]:
    """Yield a row per size. What is wrong is recorded in `output`."""
    name, ranks, per_node, head = output.name.rpartition("/")[2], 0, 0, False
    op = next((binary for binary in sorted(OPS, key=len, reverse=True) if binary in name), "")
    for at, line in enumerate(output.lines, 1):
        if binary := _BINARY.search(line):
            known = binary[1] in OPS or "mpirun" in line or "bin/" in line
            op = binary[1] if known else op
        if command := _RANKS.search(line):
            ranks = int(command[1])
        if local := _PER_NODE.search(line):
            per_node = int(local[1])
        cells = [cell.strip() for cell in line.split("|")]
        if cells[0].startswith("data_size"):
            head = True
            _units(output, at, cells)
        elif len(cells) > 1 and cells[0].isdigit() and _right(output, at, cells, op or given.op, head):
            checked = _setting(output, at, op, ranks, per_node, given)
            if checked:
                size, time_us = float(cells[0]), float(cells[1])
                yield row(id=output.place(at), **checked, size_bytes=size, time_us=time_us)


def _units(output: Output, at: int, cells: list[str]) -> None:
    units = ("(Bytes)", "(us)", "(GB/s)")
    if len(cells) != _COLUMNS or any(unit not in cell for unit, cell in zip(units, cells, strict=False)):
        output.wrong(at, f"header {' | '.join(cells)[:80]}: expected sizes in Bytes, times in us, bandwidths in GB/s")


def _right(output: Output, at: int, cells: list[str], op: str, head: bool) -> bool:
    """Say whether the row can be used; record why not."""
    values = [number(cell) for cell in cells[:3]]
    if not head:
        output.wrong(at, "a row without the header above it ('data_size(Bytes): | ...'); give the whole output")
    elif len(cells) != _COLUMNS or None in values:
        output.wrong(at, f"{' | '.join(cells)[:80]}: expected data_size | aveg_time | alg_bandwidth | check_result")
    elif cells[3].startswith("failed"):
        output.wrong(at, "check_result = failed: the results were wrong, so its time says nothing; mend the run first")
    else:
        size, time_us, rate = (float(value or 0.0) for value in values)
        if size == 0:
            output.notes.append(f"{output.place(at)}: 0 bytes, left out")
            return False
        if time_us <= 0:
            output.wrong(at, f"time {time_us:g} us: must be above 0; rerun this size")
            return False
        expected = size / time_us * 1e-3
        # Of an all-to-all the tool counts other bytes than it prints.
        if OPS.get(op, op) == "all_to_all" or abs(rate - expected) <= _ROUNDING * expected + 1e-5:
            return True
        output.wrong(at, f"alg_bandwidth {rate:g} GB/s is not size over time, {expected:.5f} GB/s; which unit?")
    return False


def _setting(
    output: Output, at: int, binary: str, ranks: int, per_node: int, given: Given
) -> dict[str, str | float] | None:
    op = OPS.get(binary, "")
    if binary and not op:
        output.wrong(at, f"{binary}_test: not modelled; known: {', '.join(f'{name}_test' for name in OPS)}")
        return None
    if not op and not given.op:
        output.wrong(at, "which operation? hccl_test does not print it: give --op, or name the file after it")
        return None
    clash = output.contradicted(at, "--op", given.op, op)
    clash |= output.contradicted(at, "--ranks", given.ranks, ranks)
    clash |= output.contradicted(at, "--ranks-per-node", given.ranks_per_node, per_node)
    if clash:
        return None
    if not ranks and not given.ranks:
        output.wrong(at, "how many ranks? hccl_test does not print them: give --ranks and --ranks-per-node")
        return None
    return {
        "op": op or given.op,
        "ranks": ranks or given.ranks,
        "ranks_per_node": per_node or given.ranks_per_node,
    }
