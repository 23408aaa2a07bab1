"""Files of measurements, whatever tool printed them, as rows of one form."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from simulator.calibration.chosen import MeasuredFile
from simulator.errors import UserError
from simulator.fitting.measurements.deepep import is_deepep, read_deepep
from simulator.fitting.measurements.hccl import is_hccl, read_hccl
from simulator.fitting.measurements.nccl import is_nccl, read_nccl
from simulator.fitting.measurements.table import is_table, read_table
from simulator.fitting.measurements.text import MAX_PROBLEMS, Given, Output, Row, read_output

Reader = Callable[[Output, Given], Iterator[Row]]
TOOLS: tuple[tuple[str, Callable[[Output], bool], Reader], ...] = (
    ("nccl-tests", is_nccl, read_nccl),
    ("hccl_test", is_hccl, read_hccl),
    ("DeepEP tests", is_deepep, read_deepep),
    ("table", is_table, read_table),
)
# Words that only the output of these tools holds, which measure something else or in another form.
FOREIGN = {
    "BW average[": "perftest (ib_write_bw, ib_read_bw, ib_send_bw)",
    "t_avg[usec]": "perftest (ib_write_lat and relatives)",
    "# OSU MPI": "the OSU micro-benchmarks",
    "# OSU ": "the OSU micro-benchmarks",
    "Intel(R) MPI Benchmarks": "the Intel MPI benchmarks",
    "MSCCL++": "mscclpp-test",
    "count(elems)": "nccom-test",
    "[ ID] Interval": "iperf",
    "memcpy CE CPU": "nvbandwidth",
}


@dataclass(frozen=True)
class Measurements:
    """Rows of all files, the files, and remarks on what was left out or assumed."""

    rows: tuple[Row, ...]
    files: tuple[MeasuredFile, ...]
    notes: tuple[str, ...]


def read_measurements(paths: Sequence[str], given: Given) -> Measurements:
    """Return the rows of files of measurements.

    Parameters
    ----------
    paths
        Output of nccl-tests, rccl-tests, hccl_test or DeepEP's tests, or CSV tables.
    given
        What the output does not say.

    Raises
    ------
    UserError
        One line per problem, with file and line number.
    """
    rows: list[Row] = []
    files: list[MeasuredFile] = []
    notes: list[str] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            output = read_output(path)
            tool, found = _read(output, given)
        except UserError as error:
            problems += error.problems
            continue
        problems += output.problems
        notes += output.notes
        rows += found
        if found:
            files.append(MeasuredFile(name=output.title, tool=tool, sha256=output.sha256, rows=len(found)))
        elif not output.problems:
            problems.append(f"{path}: {tool}: no row of measurements; give the whole output")
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        problems = [*problems[:MAX_PROBLEMS], f"and {more} more problems of this kind"]
    if problems:
        raise UserError(*problems)
    return Measurements(tuple(rows), tuple(files), tuple(notes))


def _read(output: Output, given: Given) -> tuple[str, list[Row]]:
    for tool, matches, reader in TOOLS:
        if matches(output):
            return tool, list(reader(output, given))
    known = "the output of nccl-tests, rccl-tests, hccl_test or DeepEP's tests, or a CSV table with a column op"
    for at, line in enumerate(output.lines, 1):
        for word, tool in FOREIGN.items():
            if word in line:
                raise UserError(f"{output.name}:{at}: looks like {tool}, which this can't use; give {known}")
    raise UserError(f"{output.name}:1: not recognised; give {known}")
