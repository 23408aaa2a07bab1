"""Constants of one fabric from the user's own measurements of collectives, dispatch and combine."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.chosen import MeasuredFile, OwnCalibration, Residual
from simulator.calibration.fabrics import PARTS, FabricCalibration, fabric_calibration
from simulator.cost.collectives import Kind
from simulator.errors import USER_ERRORS, UserError
from simulator.fitting.fabrics.collective_samples import collective_sample
from simulator.fitting.fabrics.constants import RANGE, scale
from simulator.fitting.fabrics.exchange_samples import exchange_sample
from simulator.fitting.fabrics.fit import Sample
from simulator.fitting.fabrics.places import place
from simulator.fitting.fabrics.series import Part, Series
from simulator.fitting.measurements.read import Measurements
from simulator.fitting.measurements.text import MAX_PROBLEMS, Row
from simulator.fitting.own.determined import Constant, Free, fit_determined
from simulator.fitting.own.outcome import Outcome, mean_abs_error, nothing_told, provenance, remarks
from topologies.catalogue import accelerator, cluster, clusters, fabric
from topologies.network import Network

Array = NDArray[np.float64]
_MODES: Mapping[str, Part] = {"normal": "normal", "low_latency": "low_latency", "fused": "low_latency"}
# Smallest size to measure changes of a constant by, over its usual size; it may ship as zero.
SMALL = 0.1
# Constants that shape the others' effect; they give way where rows tell only both together.
LIGHT = {"overlap_exponent"}


@dataclass(frozen=True)
class _Point:
    """A measured operation, ready to be priced."""

    row: Row
    part: Part
    what: str
    sample: Sample


def calibrate_fabric(name: str, found: Measurements, cluster_name: str = "", part: str = "") -> Outcome:
    """Fit the constants of a fabric that the measurements determine; the others stay as shipped.

    Parameters
    ----------
    name
        Catalogue id or alias of the fabric.
    found
        Rows of all files.
    cluster_name
        Catalogue id of the cluster that was measured; empty where the fabric tells.
    part
        ``normal`` or ``low_latency`` for dispatch and combine in rows that do not say; ``collective`` and ``copies``
        leave them out.

    Raises
    ------
    UserError, TopologyError
        If fabric or cluster are unknown, or rows were not measured on them; one line per problem.
    """
    wanted = fabric(name).id
    where = _cluster(wanted, cluster_name)
    points = _points(wanted, where, found.rows, part)
    shipped = fabric_calibration(wanted)
    constants: list[Constant] = []
    fitted: dict[str, Any] = {}
    residuals: list[Residual] = []
    for each in PARTS:
        own = [point for point in points if point.part == each]
        if own:
            record, changes, rows = _fit(shipped, each, own, found.files, where)
            constants += changes
            residuals += rows
            if any(not constant.kept for constant in changes):
                fitted[each] = record
    if not fitted:
        raise UserError(nothing_told(wanted, residuals))
    files, rest = tuple(found.files), tuple(residuals)
    calibration = OwnCalibration(fabric=wanted, cluster=where, files=files, residuals=rest, **fitted)
    return Outcome(calibration, tuple(constants), remarks(constants, rest), found.notes)


def _cluster(name: str, asked: str) -> str:
    """Return the cluster that was measured: the one asked for, or the only kind that has the fabric."""
    if asked:
        spec = cluster(asked)
        has = {spec.scale_up.fabric, *([spec.scale_out.fabric] if spec.scale_out else [])}
        if name not in has:
            raise UserError(f"--cluster {asked}: has no {name}; it has {', '.join(sorted(has))}")
        return spec.id
    inner = [spec for spec in clusters() if spec.scale_up.fabric == name]
    outer = [spec for spec in clusters() if spec.scale_out and spec.scale_out.fabric == name]
    if inner:
        return inner[0].id
    if not outer:
        raise UserError(f"fabric {name}: no cluster of the catalogue has it; name one that is like yours: --cluster")
    if len({(spec.chip, spec.scale_up.fabric, spec.chips_per_node) for spec in outer}) > 1:
        known = ", ".join(spec.id for spec in outer)
        raise UserError(
            f"fabric {name}: joins nodes of several kinds; say which was measured: --cluster one of {known}"
        )
    return outer[0].id


def _points(name: str, where: str, rows: Sequence[Row], part: str) -> list[_Point]:
    points: list[_Point] = []
    problems: dict[str, str] = {}
    for row in rows:
        try:
            if (of := _part(row, part)) is not None:
                points.append(_point(name, where, row, of))
        except USER_ERRORS as error:  # one line per kind of problem, with the first row that has it
            for problem in error.problems:
                problems.setdefault(problem, f"{row['id']}: {problem}")
    if problems:
        raise UserError(*list(problems.values())[:MAX_PROBLEMS])
    if not points:
        raise UserError(f"--part {part}: no row of it; the files hold {', '.join(sorted({row['op'] for row in rows}))}")
    return points


def _part(row: Row, part: str) -> Part | None:
    """Return the part whose constants price the row; None where `part` leaves it out."""
    if row["op"] not in {"dispatch", "combine"}:
        of = "copies" if row["op"].startswith("p2p") else "collective"
        return of if part in {"", of} else None
    if part in {"collective", "copies"}:
        return None
    mode = _MODES.get(row["mode"])
    if mode is None and not part:
        raise UserError(f"mode = '{row['mode']}': normal or low_latency? Fill the column, or give --part")
    if mode is None:
        return part
    return mode if part in {"", mode} else None


def _point(name: str, where: str, row: Row, part: Part) -> _Point:
    series = Series(name, part, {}, (), "")
    if part not in {"collective", "copies"}:
        series = replace(series, copies=getattr(fabric_calibration(name), part).copies)
    ranks, per_node = int(row["ranks"]), int(row["ranks_per_node"] or 0)
    spec = cluster(where)
    full = spec.chips_per_node * accelerator(spec.chip).ranks_per_chip
    if per_node > full:
        raise UserError(f"{per_node} ranks per node: {where} has {full}; name the cluster that was measured: --cluster")
    if ranks % min(per_node or full, ranks):
        raise UserError(f"{ranks} ranks do not fill nodes of {per_node or full}; give --ranks-per-node, or --cluster")
    net, group = place(series, where, ranks, per_node)
    if (outermost := _outermost(net, group)) != name:
        raise UserError(
            f"{ranks} ranks, {min(per_node or full, ranks)} per node, of {where} meet over {outermost}, which hides "
            f"{name}; calibrate {outermost}, or give other rows"
        )
    op = _op(row["op"], ranks)
    if part in {"collective", "copies"}:
        return _Point(
            row, part, f"{row['op']} {ranks} ranks {_size(row)}", collective_sample(series, where, {**row, "op": op})
        )
    what = f"{row['op']} EP{ranks} {row['tokens_per_rank']} tokens {row['payload_dtype']}"
    return _Point(row, part, what, exchange_sample(series, where, row))


def _outermost(net: Network, group: NDArray[np.int32]) -> str:
    tier = int(net.meeting_tier(group[:, :1], group[:, 1:]).max())
    return net.planes[net.tiers[tier].plane].fabric


def _op(op: str, ranks: int) -> str:
    """Return the name that the cost functions know an operation by."""
    if op in {"dispatch", "combine", "p2p_write", "p2p_read", *get_args(Kind)}:
        return op
    if op == "send_recv" and ranks == 2:  # both directions at once, each on links of its own
        return op
    raise UserError(
        f"{op} on {ranks} ranks: not modelled; use rows of {', '.join(get_args(Kind))}, or send_recv of 2 ranks"
    )


def _size(row: Row) -> str:
    size = float(row["size_bytes"])
    power = min(int(np.log2(max(size, 1)) // 10), 3)
    return f"{size / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def _fit(
    shipped: FabricCalibration, part: Part, points: Sequence[_Point], files: Sequence[MeasuredFile], where: str
) -> tuple[Any, tuple[Constant, ...], list[Residual]]:
    """Return the part's record, its constants before and after, and the residuals."""
    before = getattr(shipped, part)
    start = dict(_flat(before.model_dump(exclude_none=True)))
    names = sorted(start.keys() & RANGE.keys(), key=lambda name: (name in LIGHT, list(RANGE).index(name)))
    free = {name: _free(name, start[name]) for name in names}

    def calibration(values: Mapping[str, float]) -> Callable[[str], FabricCalibration]:
        mine = shipped.model_copy(update={part: _changed(before, values)})
        return lambda name: mine if name == shipped.fabric else fabric_calibration(name)

    def log_errors(values: Mapping[str, float]) -> Array:
        constants = calibration(values)
        return np.array([np.log(point.sample.predict_s(constants) / point.sample.measured_s) for point in points])

    constants = fit_determined(part.replace("_", "-"), free, log_errors)
    final = {constant.name: constant.after for constant in constants}
    times = np.exp(log_errors(final))
    residuals = [
        Residual(
            row=point.row["id"],
            what=point.what,
            measured_s=float(f"{point.sample.measured_s:.6g}"),
            predicted_s=float(f"{point.sample.measured_s * ratio:.6g}"),
        )
        for point, ratio in zip(points, times, strict=True)
    ]
    read = {point.row["id"].rpartition(":")[0] for point in points}
    about = {
        "kind": "fitted",
        "source": provenance([file for file in files if file.name in read], f", on {where}"),
        "rows": tuple(point.row["id"] for point in points),
        "mean_abs_error": round(mean_abs_error(residuals), 4),
    }
    return _changed(before, final).model_copy(update=about), constants, residuals


def _free(name: str, before: float) -> Free:
    usual, low, high = (value * scale(name) for value in RANGE[name])
    return Free(min(max(before, low), high), low, high, max(before, SMALL * usual))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            yield f"{prefix}{key}", value


def _changed(record: Any, values: Mapping[str, float]) -> Any:
    """Return the record with some constants replaced, dotted names inside its tables."""
    inner: dict[str, dict[str, float]] = defaultdict(dict)
    own: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, key = name.partition(".")
        if dot:
            inner[outer][key] = value
        else:
            own[name] = value
    nested = {outer: getattr(record, outer).model_copy(update=table) for outer, table in inner.items()}
    return record.model_copy(update=own | nested)
