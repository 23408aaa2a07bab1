"""How well each measurement is predicted by constants that its own series took no part in.

`python -m simulator.fitting.fabrics.left_out MEASURED_DIR REFERENCE_DIR` leaves out one series after the other (a
source's rows of one operation on one number of ranks), fits the rest anew, and writes the errors of the rows left out.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from simulator.fitting.fabrics.constants import Constants, Known, lookup
from simulator.fitting.fabrics.fit import Fit, Sample, fit
from simulator.fitting.fabrics.rows import Row, read_rows
from simulator.fitting.fabrics.series import Series
from simulator.fitting.fabrics.shipped import SERIES, fit_all, samples

# Change of a constant that must show in some time, or the measurements do not tell it.
NUDGE = 0.98
NUDGE_S = 1e-8
COLUMNS = ("id", "fabric", "part", "series", "fitted_error", "left_out_error")


def series_of(row: Row) -> str:
    """Return what belongs together: a source's rows of one operation on one number of ranks of one chip."""
    return ", ".join((row["op"], f"{row['ranks']} ranks", row["chip"], row["source"])).strip(", ")


def left_out(
    series: Series, rows: Mapping[str, Row], points: Sequence[Sample], whole: Fit, known: Known
) -> Iterator[dict[str, object]]:
    """Yield one record per measurement of a series of which another part remains to fit on.

    Parameters
    ----------
    rows
        Measurements by id.
    points
        All operations of the series.
    whole
        The fit on all of them, where the others start.
    known
        Constants of other fabrics.
    """
    names = [series_of(rows[point.id]) for point in points]
    for name in dict.fromkeys(names):
        rest = [point for point, each in zip(points, names, strict=True) if each != name]
        if len(rest) < len(series.free) or not _told(series, points, whole, known) <= _told(series, rest, whole, known):
            continue
        found = fit(series, rest, known, start=whole.constants)
        calibration = lookup(known | {(series.fabric, series.part): found.constants})
        for point, each in zip(points, names, strict=True):
            if each == name:
                error = point.predict_s(calibration) / point.measured_s - 1
                about = {"id": point.id, "fabric": series.fabric, "part": series.part, "series": name}
                yield {**about, "fitted_error": whole.errors[point.id], "left_out_error": error}


def _told(series: Series, points: Sequence[Sample], whole: Fit, known: Known) -> set[str]:
    """Return the free constants that any of the predicted times depends on, near the fit."""

    def times(constants: Constants) -> list[float]:
        calibration = lookup(known | {(series.fabric, series.part): constants})
        return [point.predict_s(calibration) for point in points]

    usual = times(whole.constants)
    nudged = {name: whole.constants[name] * NUDGE + NUDGE_S * name.endswith("_s") for name in series.free}
    return {name for name, value in nudged.items() if times(whole.constants | {name: value}) != usual}


def all_left_out(
    table: Sequence[Row], chosen: Callable[[Series], bool] = lambda _: True
) -> Iterator[dict[str, object]]:
    """Yield the records of every series of the shipped calibrations, or of those chosen."""
    rows = {row["id"]: row for row in table}
    fits = fit_all(table)
    known: Known = {(found.series.fabric, found.series.part): found.constants for found in fits}
    for found in fits:
        if chosen(found.series):
            yield from left_out(found.series, rows, samples(found.series, table), found, known)


def text(records: Sequence[Mapping[str, object]]) -> str:
    """Return the records as CSV, errors to four digits."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        errors = {name: f"{record[name]:.4f}" for name in ("fitted_error", "left_out_error")}
        writer.writerow({**record, **errors})
    return file.getvalue()


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> None:
    """Write the errors where they ship, or to a third argument."""
    records = list(all_left_out(read_rows(Path(arguments[0]), Path(arguments[1]))))
    place = Path(arguments[2]) if len(arguments) > 2 else Path(__file__).parents[2] / "validation" / "left_out.csv"
    place.write_text(text(records), encoding="utf-8")
    for series in SERIES:
        own = [record for record in records if (record["fabric"], record["part"]) == (series.fabric, series.part)]
        if own:
            fitted, out = (
                sum(abs(float(str(record[name]))) for record in own) / len(own)
                for name in ("fitted_error", "left_out_error")
            )
            say(f"{series.fabric} {series.part}: {len(own)} rows, fitted {fitted:.1%}, left out {out:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
