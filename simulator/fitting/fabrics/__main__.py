"""Rebuild the fabric calibrations from published communication measurements.

`python -m simulator.fitting.fabrics MEASURED_DIR REFERENCE_DIR` fits each series by least squares on the logarithm of
time, with the cost functions that the simulator uses, writes one TOML file per fabric and prints the errors. Only
single operations are fitted, never a training step or a serving rate; no constant depends on a size.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.fitting.fabrics.calibration_file import toml
from simulator.fitting.fabrics.rows import read_rows
from simulator.fitting.fabrics.shipped import calibrations, fit_all

COMMENT = "Written by `python -m simulator.fitting.fabrics`; edit simulator/fitting/fabrics, not this file."


def main(arguments: Sequence[str], say: Callable[[str], object] = print) -> None:
    """Fit all series, print them, and write the calibration files, to a third folder or where they ship."""
    fits = fit_all(read_rows(Path(arguments[0]), Path(arguments[1])))
    for found in fits:
        shown = ", ".join(f"{name} {found.constants[name]:.4g}" for name in found.series.free)
        rows, worst = len(found.errors), max(found.errors.values(), key=abs)
        head = f"{found.series.fabric} {found.series.part.replace('_', '-')}"
        say(f"{head}: {shown}; {rows} rows, error {found.mean_abs_error:.1%}, worst {worst:+.0%}")
    folder = Path(arguments[2]) if len(arguments) > 2 else Path(__file__).parents[2] / "calibration" / "fabrics"
    folder.mkdir(exist_ok=True)
    for name, record in calibrations(fits).items():
        (folder / f"{name}.toml").write_text(toml(record, COMMENT), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
