"""The calibrations that ship: every series of published measurements fitted, every other fabric as a relative."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import Any

from simulator.calibration.fabrics import FabricCalibration
from simulator.fitting.fabrics.assumed import ASSUMED
from simulator.fitting.fabrics.collective_samples import collective_sample
from simulator.fitting.fabrics.collective_series import COLLECTIVES, COPIES
from simulator.fitting.fabrics.constants import Known, record
from simulator.fitting.fabrics.exchange_samples import exchange_sample
from simulator.fitting.fabrics.exchange_series import EXCHANGES
from simulator.fitting.fabrics.fit import Fit, Sample, fit
from simulator.fitting.fabrics.rows import Row
from simulator.fitting.fabrics.series import Series

SERIES = (*COLLECTIVES, *COPIES, *EXCHANGES)


def samples(series: Series, rows: Iterable[Row]) -> list[Sample]:
    """Return the measured operations of a series, in the order of `rows`."""
    build = collective_sample if series.part in {"collective", "copies"} else exchange_sample
    return [
        build(series, name, row)
        for row in rows
        for name, patterns in series.rows.items()
        if any(fnmatch(row["id"], pattern) for pattern in patterns)
    ]


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
        parts[found.series.fabric, found.series.part] = {**found.constants, **about, **error}
    for guess in ASSUMED:
        name, part = guess.like.split("/")
        lender = {key: value for key, value in parts[name, part].items() if key not in {"rows", "mean_abs_error"}}
        source = f"as {guess.like.replace('/', ', ')}: {guess.because}"
        parts[guess.fabric, guess.part] = {**lender, **guess.save, "kind": "assumed", "source": source}
    names = sorted({name for name, _ in parts})
    return {name: record(name, {part: found for (of, part), found in parts.items() if of == name}) for name in names}
