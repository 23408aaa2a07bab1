"""Rebuild the fabric calibrations from published communication measurements.

`python -m simulator.fitting.fabrics MEASURED_DIR REFERENCE_DIR` fits each series below by least squares on the
logarithm of time, with the cost functions that the simulator uses, writes one TOML file per fabric and prints the
errors. Only single operations are fitted, never a training step or a serving rate; no constant depends on a size.
"""

import csv
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from simulator.calibration.fabrics import FabricCalibration
from simulator.cost.collectives import Kind, collective, transfer
from simulator.cost.expert_parallel import dispatch_cost, expert_paths, token_bytes
from simulator.fitting.fabric_series import ASSUMED, SERIES, Part, Series
from topologies.build import network
from topologies.catalogue import accelerator, cluster, fabric
from topologies.network import Network

Row = Mapping[str, str]
Constants = dict[str, float]
Known = dict[tuple[str, Part], Constants]

# Start, lower and upper bound of each constant in the fit; times in microseconds to even out the scales.
RANGE = {
    "fraction": (0.7, 0.05, 1.0),
    "overlap_exponent": (2.0, 1.0, 10.0),
    "step_s": (4.0, 0.0, 200.0),
    "launch_s": (5.0, 0.0, 200.0),
    "small.fraction": (0.2, 0.01, 1.0),
    "small.step_s": (1.0, 0.0, 200.0),
    "in_switch.fraction": (0.7, 0.05, 1.0),
    "in_switch.step_s": (10.0, 0.0, 200.0),
    "fixed_s": (20.0, 0.0, 500.0),
    "dispatch_fixed_s": (20.0, 0.0, 500.0),
    "combine_fixed_s": (20.0, 0.0, 500.0),
    "doubling_s": (1.0, 0.0, 100.0),
}
# Stands in for constants that no term of the operation at hand reads.
UNUSED: Constants = {"fraction": 1.0, "step_s": 0.0, "launch_s": 0.0}
UNUSED_EP: Constants = {
    "fraction": 1.0,
    "dispatch_fixed_s": 0.0,
    "combine_fixed_s": 0.0,
    "doubling_s": 0.0,
    "core_share": 0.0,
}
PARTS: tuple[Part, ...] = ("collective", "normal", "low_latency")
# Tables without a message size give the large-message limit; one GiB stands for it.
LARGE_BYTES = 2.0**30


@dataclass(frozen=True)
class Sample:
    """One measured operation: which ranks of which network, what they move, and the time it took [s]."""

    id: str
    network: Network
    group: NDArray[np.int32]
    op: str
    part: Part
    copies_to_rank: float
    copies_to_node: float
    size_bytes: float
    measured_s: float


@dataclass(frozen=True)
class Fit:
    """Constants of one series, and predicted over measured time minus one by row."""

    series: Series
    constants: Constants
    errors: Mapping[str, float]

    @property
    def mean_abs_error(self) -> float:
        """Mean of the rows' absolute errors."""
        return float(np.mean(np.abs(list(self.errors.values()))))


def samples(series: Series, rows: Iterable[Row]) -> list[Sample]:
    """Return the measured operations of a series, in the order of `rows`."""
    build = _collective_sample if series.part == "collective" else _exchange_sample
    return [
        build(series, name, row)
        for row in rows
        for name, patterns in series.rows.items()
        if any(fnmatch(row["id"], pattern) for pattern in patterns)
    ]


def _place(series: Series, name: str, ranks: int, per_node: int) -> tuple[Network, NDArray[np.int32]]:
    """Return a network of just enough nodes, and the group of `per_node` ranks on each of them."""
    spec = cluster(name)
    if series.scale_up:
        spec = spec.model_copy(update={"scale_up": spec.scale_up.model_copy(update={"fabric": series.scale_up})})
    chip = accelerator(spec.chip)
    node_ranks = spec.chips_per_node * chip.ranks_per_chip
    used = min(per_node or node_ranks, ranks, node_ranks)
    nodes = -(-ranks // used)
    names = [spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])]
    built = network(spec, chip, {name: fabric(name) for name in names}, nodes * spec.chips_per_node)
    members = np.arange(nodes)[:, None] * node_ranks + np.arange(used)
    return built, members.reshape(1, -1)[:, :ranks].astype(np.int32)


def _collective_sample(series: Series, name: str, row: Row) -> Sample:
    ranks, op = int(row["ranks"]), row["op"]
    net, group = _place(series, name, ranks, int(row["ranks_per_node"] or 0))
    size = float(row["size_bytes"] or LARGE_BYTES)
    turns = {"all_reduce": 2.0}.get(op, 1.0) * (ranks - 1) / ranks
    rate = 1e9 * float(row["algbw_GBps"] or float(row["busbw_GBps"] or 0) / turns)
    measured_s = float(row["time_us"]) * 1e-6 if row["time_us"] else size / rate
    return Sample(row["id"], net, group, op, "collective", 0.0, 0.0, size, measured_s)


def _exchange_sample(series: Series, name: str, row: Row) -> Sample:
    """Return one dispatch or combine; copies follow from the routing shape, and logical bandwidths count them all."""
    ranks, tokens, top_k = int(row["ranks"]), float(row["tokens_per_rank"]), int(row["top_k"])
    net, group = _place(series, name, ranks, int(row["ranks_per_node"] or 0))
    size = token_bytes(int(row["hidden"]), row["payload_dtype"])
    nodes = len(np.unique(net.node[group])) if len(net.planes) > 1 else 1
    reachable = min(int(row["topk_groups"] or nodes), nodes)
    to_node = _distinct(reachable, top_k)
    to_rank = float(top_k)
    if series.part == "normal" or series.once_per_rank:
        balanced = row["router"] == "balanced"
        to_rank = float(min(ranks, top_k)) if balanced else _distinct(ranks * reachable // nodes, top_k)
    elif row["evidence"] == "D" and row["algbw_GBps"]:
        # Tables from data files mask part of the copies at small batches: bandwidth x time says how many were sent.
        to_rank = float(row["algbw_GBps"]) * float(row["time_us"]) * 1e3 / (size * tokens)
    logical = tokens * size * (to_node if nodes > 1 and series.part == "normal" else to_rank)
    if row["time_us"]:
        measured_s = (float(row["time_us"]) + float(row["notify_us"] or 0.0)) * 1e-6
    else:
        measured_s = logical / (float(row["algbw_GBps"]) * 1e9)
    per_node = tokens * to_node * ranks / nodes
    return Sample(row["id"], net, group, row["op"], series.part, tokens * to_rank, per_node, size, measured_s)


def _distinct(places: int, top_k: int) -> float:
    """Return the expected number of different places that `top_k` uniform draws hit."""
    return float(places * (1.0 - (1.0 - 1.0 / places) ** top_k))


def predict_s(sample: Sample, known: Known) -> float:
    """Return the time that the simulator's cost functions give with these constants [s]."""

    def calibration(name: str) -> FabricCalibration:
        parts = {part: known.get((name, part), UNUSED if part == "collective" else UNUSED_EP) for part in PARTS}
        return _record(name, {part: {"kind": "assumed", "source": "", **parts[part]} for part in PARTS})

    if sample.op.startswith("p2p"):
        source, target = sample.group[0, :1], sample.group[0, 1:]
        return transfer(sample.network, source, target, np.array([sample.size_bytes]), calibration).time_s
    if sample.part == "collective":
        return collective(sample.network, sample.group, cast(Kind, sample.op), sample.size_bytes, calibration).time_s
    mode: Literal["normal", "low-latency"] = "normal" if sample.part == "normal" else "low-latency"
    paths = expert_paths(sample.network, sample.group, mode, calibration)
    to_rank, to_node = np.full(paths.ranks, sample.copies_to_rank), np.full(paths.nodes, sample.copies_to_node)
    op: Literal["dispatch", "combine"] = "dispatch" if sample.op == "dispatch" else "combine"
    return float(dispatch_cost(paths, op, to_rank, to_node, sample.size_bytes).time_s)


def fit(series: Series, points: Sequence[Sample], known: Known) -> Fit:
    """Least squares on the logarithm of predicted over measured time.

    Parameters
    ----------
    series
        Which constants are free, and the values of the others; a name of another fabric's part lends its constant.
    points
        Measured operations; their order does not matter.
    known
        Constants fitted before, of inner fabrics for example.
    """
    given = {
        name: value if isinstance(value, float) else _lent(known, value)[name] for name, value in series.fixed.items()
    }

    def constants(values: NDArray[np.float64]) -> Constants:
        scaled = zip(series.free, values, strict=True)
        return given | {name: float(value) * (1e-6 if name.endswith("_s") else 1.0) for name, value in scaled}

    def log_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
        tried = known | {(series.fabric, series.part): constants(values)}
        return np.array([np.log(predict_s(point, tried) / point.measured_s) for point in points])

    start, low, high = (np.array([RANGE[name][column] for name in series.free]) for column in range(3))
    found = least_squares(log_error, start, bounds=(low, high), x_scale=start).x
    rounded = np.array([float(f"{value:.3g}") if value > 1e-9 else 0.0 for value in found])
    errors = np.expm1(log_error(rounded))
    return Fit(series, constants(rounded), {point.id: float(e) for point, e in zip(points, errors, strict=True)})


def _lent(known: Known, lender: str) -> Constants:
    name, part = lender.split("/")
    found = known[name, cast(Part, part)]
    both = found.get("fixed_s")
    return found if both is None else {**found, "dispatch_fixed_s": both, "combine_fixed_s": both}


def fit_all(rows: Sequence[Row]) -> list[Fit]:
    """Fit every series in turn; later ones read what earlier ones found."""
    known: Known = {}
    fits = []
    for series in SERIES:
        found = fit(series, samples(series, rows), known)
        known[series.fabric, series.part] = found.constants
        fits.append(found)
    return fits


def calibrations(fits: Iterable[Fit]) -> dict[str, FabricCalibration]:
    """Return the record of every fabric: fitted parts, and those assumed like a relative's."""
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    for found in fits:
        ids = [pattern for patterns in found.series.rows.values() for pattern in patterns]
        about = {"kind": "fitted", "source": found.series.source, "rows": ids}
        error = {"mean_abs_error": round(found.mean_abs_error, 4)}
        copies = {"once_per_rank": True} if found.series.once_per_rank else {}
        parts[found.series.fabric, found.series.part] = {**found.constants, **about, **error, **copies}
    for guess in ASSUMED:
        name, part = guess.like.split("/")
        lender = {key: value for key, value in parts[name, part].items() if key not in {"rows", "mean_abs_error"}}
        source = f"as {guess.like.replace('/', ', ')}: {guess.because}"
        parts[guess.fabric, guess.part] = {**lender, **guess.save, "kind": "assumed", "source": source}
    names = sorted({name for name, _ in parts})
    return {name: _record(name, {part: parts[name, part] for part in PARTS}) for name in names}


def _record(name: str, parts: Mapping[Part, Mapping[str, Any]]) -> FabricCalibration:
    """Return the checked record of one fabric; dotted names are nested, `fixed_s` holds for dispatch and combine."""
    record: dict[str, Any] = {"fabric": name}
    for part, values in parts.items():
        table = record.setdefault(part, {})
        for key, value in values.items():
            if key == "fixed_s":
                table |= {"dispatch_fixed_s": value, "combine_fixed_s": value}
            elif "." in key:
                outer, inner = key.split(".")
                table.setdefault(outer, {})[inner] = value
            else:
                table[key] = value
    return FabricCalibration.model_validate(record)


def toml(record: FabricCalibration) -> str:
    """Return the record as the text of its calibration file."""
    lines = ["# Written by `python -m simulator.fitting.fabrics`; edit fabric_series.py, not this file."]
    tables: list[tuple[str, Any]] = [("", record.model_dump(exclude_defaults=True))]
    while tables:
        name, table = tables.pop(0)
        lines += ["", f"[{name}]"] if name else []
        prefix = f"{name}." if name else ""
        inner = [(f"{prefix}{key}", value) for key, value in table.items() if isinstance(value, dict)]
        lines += [
            f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict) and value != ()
        ]
        tables = inner + tables
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[\n" + "".join(f"  {json.dumps(item)},\n" for item in value) + "]"
    if isinstance(value, str) and len(value) > 90:
        lines = [line.replace("\\", "\\\\") + " \\\n" for line in textwrap.wrap(value, 110)]
        return '"""\\\n' + "".join(lines)[:-3] + '"""'
    return f"{value:.6g}" if isinstance(value, float) and value else json.dumps(value)


def read_rows(measured_dir: Path, reference_dir: Path) -> list[Row]:
    """Return the usable rows of `collectives.csv`, and CANN EP's of `achieved_efficiency.csv` in the same columns.

    Rows that lack nothing but a message size count as usable; see `LARGE_BYTES`.
    """
    with (measured_dir / "collectives.csv").open(newline="", encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    usable = [row for row in every if row["usable"] == "yes" or row["why_not"] == "missing: size_bytes"]
    with (reference_dir / "achieved_efficiency.csv").open(newline="", encoding="utf-8") as file:
        reference = [row for row in csv.DictReader(file) if row["operator"].endswith("(CANN EP)")]
    return [*usable, *(found for row in reference if (found := _cann_row(row, dict.fromkeys(every[0], ""))))]


def _cann_row(row: Row, empty: dict[str, str]) -> Row | None:
    """EP8 stands in `collectives.csv` too and is left out here."""
    match = re.match(r"EP=(\d+), batch (\d+)/rank, latency (\d+) us", row["shape_or_setting"])
    if not match or match[1] == "8":
        return None
    op = row["operator"].split()[1]
    ids = {"id": f"reference-cann-ep-{op}-ep{match[1]}", "op": op, "ranks": match[1], "tokens_per_rank": match[2]}
    shape = {"hidden": "7168", "top_k": "8", "payload_dtype": "int8" if op == "dispatch" else "bf16"}
    return {**empty, **ids, **shape, "time_us": match[3]}


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> None:
    """Fit all series, print them, and write the calibration files, to a third folder or where they ship."""
    fits = fit_all(read_rows(Path(arguments[0]), Path(arguments[1])))
    for found in fits:
        shown = ", ".join(f"{name} {found.constants[name]:.4g}" for name in found.series.free)
        rows, worst = len(found.errors), max(found.errors.values(), key=abs)
        head = f"{found.series.fabric} {found.series.part.replace('_', '-')}"
        say(f"{head}: {shown}; {rows} rows, error {found.mean_abs_error:.1%}, worst {worst:+.0%}")
    folder = Path(arguments[2]) if len(arguments) > 2 else Path(__file__).parents[1] / "calibration" / "fabrics"
    folder.mkdir(exist_ok=True)
    for name, record in calibrations(fits).items():
        (folder / f"{name}.toml").write_text(toml(record), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
