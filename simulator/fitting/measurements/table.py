"""A plain CSV table of communication times, the unit in each column's name."""

import csv
from collections.abc import Iterator, Mapping

from simulator.errors import did_you_mean
from simulator.fitting.measurements.text import COLUMNS, Given, Output, Row, amount, row

OPS = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "all_to_all",
    "send_recv",
    "p2p_write",
    "p2p_read",
    "dispatch",
    "combine",
)
_TIMES = ("time_us", "algbw_GBps", "busbw_GBps")
_EXCHANGE = ("tokens_per_rank", "hidden", "top_k", "payload_dtype")
_WHOLE = ("ranks", "ranks_per_node", "tokens_per_rank", "hidden", "experts", "top_k", "topk_groups", "comm_cores")
_NUMBERS = (*_WHOLE, "size_bytes", "notify_us", *_TIMES)
# Larger figures are mistakes of the unit, and would only overflow further on.
MOST_WHOLE, MOST = 1e9, 1e15
_DTYPES = ("bf16", "fp16", "fp8", "int8", "fp4")


def is_table(output: Output) -> bool:
    """Say whether the first line looks like the header of a CSV table of operations."""
    first = next((line for line in output.lines if line.strip()), "")
    return "," in first and "op" in [cell.strip().strip('"') for cell in first.split(",")]


def read_table(output: Output, given: Given) -> Iterator[Row]:
    """Yield a row per line. What is wrong is recorded in `output`."""
    reader = csv.DictReader(output.lines, restkey="", strict=True)
    try:
        if not _header(output, [name.strip() for name in reader.fieldnames or ()]):
            return
        for cells in reader:
            yield from _checked(output, reader.line_num, cells, given)
    except csv.Error as error:
        output.wrong(reader.line_num, f"not CSV: {error}; quote text that holds commas or quotes")


def _header(output: Output, names: list[str]) -> bool:
    before = len(output.problems)
    if not set(_TIMES) & set(names):
        near = [f"'{name}'{did_you_mean(name, _TIMES)}" for name in names if did_you_mean(name, _TIMES)]
        hint = f"; found {', '.join(near)}" if near else ""
        output.wrong(1, f"no column of times: one of {', '.join(_TIMES)} is needed, unit in the name{hint}")
    absent = [name for name in (*_NUMBERS, "payload_dtype") if name not in names]
    for name in names:  # columns of the user's own are none of our business, misspelled ones are
        if name not in COLUMNS and (hint := did_you_mean(name, absent)):
            output.wrong(1, f"column '{name}': unknown{hint}; rename it")
    return len(output.problems) == before


def _checked(
    output: Output, at: int, cells: Mapping[str | None, str | list[str] | None], given: Given
) -> Iterator[Row]:
    if "" in cells or None in cells.values():
        output.wrong(at, "more or fewer cells than the header has; one value per column, empty where unknown")
        return
    values = {str(name).strip(): str(cell).strip() for name, cell in cells.items() if str(name).strip() in COLUMNS}
    values |= {name: str(said) for name, said in _said(given).items() if not values.get(name)}
    problems = list(_problems(values))
    for problem in problems:
        output.wrong(at, problem)
    if not problems:
        values |= {name: str(int(float(values[name]))) for name in _WHOLE if values.get(name)}
        yield row(**(values | {"id": output.place(at)}))


def _said(given: Given) -> dict[str, int | str]:
    said: dict[str, int | str] = {
        "op": given.op,
        "ranks": given.ranks,
        "ranks_per_node": given.ranks_per_node,
        "tokens_per_rank": given.tokens,
        "hidden": given.hidden,
        "top_k": given.top_k,
    }
    return {name: value for name, value in said.items() if value}


def _problems(values: Mapping[str, str]) -> Iterator[str]:
    op = values.get("op", "")
    if op not in OPS:
        yield f"op = '{op}': unknown{did_you_mean(op, OPS)}; known: {', '.join(OPS)}"
    exchange = op in {"dispatch", "combine"}
    needed = ["ranks", *(_EXCHANGE if exchange else ("size_bytes",))]
    for name in needed:
        if not values.get(name):
            yield f"{name}: empty; {op or 'every operation'} needs it"
    if not any(values.get(name) for name in _TIMES):
        yield f"no time: fill one of {', '.join(_TIMES)}"
    for name in _NUMBERS:
        if text := values.get(name, ""):
            whole = name in _WHOLE
            most = MOST_WHOLE if whole else MOST
            if problem := amount(name, text, whole, most, zero=name in {"notify_us", "ranks_per_node"}):
                yield problem
    if exchange and values.get("payload_dtype") and values["payload_dtype"] not in _DTYPES:
        yield f"payload_dtype = '{values['payload_dtype']}': unknown; use one of {', '.join(_DTYPES)}"
    if values.get("ranks") == "1":
        yield "ranks = '1': one rank exchanges nothing; use 2 or more"
