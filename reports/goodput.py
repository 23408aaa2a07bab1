"""How long a run takes under failures, as text of at most 100 columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from reports.text import Bar, bullets, cell, pairs, table
from simulator import units

HOUR_S = 3600.0
PERCENTILES = ("p10", "median", "p90")
# What is shown of a row: column without percentile -> label and how a value is written.
FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "goodput": ("goodput", units.percent),
    "days": ("days", units.number),
    "interruptions": ("interruptions", units.number),
    "chip_hours": ("chip-hours, spares too", units.tokens),
    "energy_kwh": ("energy [MWh]", lambda value: units.number(value / 1000)),
    "usd": ("cost", units.usd),
}
PARTS = {
    "useful": "useful work",
    "slowed": "slowed by stragglers or missing nodes",
    "lost": "work lost since the last checkpoint",
    "checkpoint": "stopped for checkpoints",
    "detection": "hanging, not yet noticed",
    "restart": "restarting",
    "waiting": "waiting for a node",
}


def goodput_report(row: Mapping[str, Any], notes: Sequence[str]) -> RenderableType:
    """Return one run's outlook.

    Parameters
    ----------
    row
        A row of `simulator.study.goodput.Outlook`.
    notes
        Assumptions.
    """
    title = f"{row['scenario']}: {units.tokens(row['tokens'])} tokens on {units.count(row['chips'])} x {row['chip']}"
    detail = f"{row['histories']} histories, seed {row['seed']}, {units.count(row['spare_chips'])} spare chips"
    return Group(
        cell(title, "bold"),
        cell(detail, "dim"),
        Text(),
        pairs(_facts(row)),
        Text(),
        _figures(row),
        _shares(row),
        bullets("Assumptions", notes),
    )


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    mtbf_hours = row["mtbf_hours"]
    return [
        ("undisturbed", f"{units.tokens_per_s(row['tokens_per_s'])}, {row['undisturbed_days']:.1f} days"),
        ("mean time between failures", "none fail" if mtbf_hours is None else units.seconds(mtbf_hours * HOUR_S)),
        ("checkpoint every", units.seconds(row["checkpoint_interval_s"])),
        ("each stops work for", units.seconds(row["checkpoint_stall_s"])),
        ("detection, restart", f"{units.seconds(row['detection_s'])}, {units.seconds(row['restart_s'])}"),
        ("goodput, closed formula", units.percent(row["goodput_analytic"])),
    ]


def _figures(row: Mapping[str, Any]) -> RenderableType:
    made = table("Outlook", "", *PERCENTILES, left=(0,))
    for name, (label, text) in FIGURES.items():
        if f"{name}_median" in row:
            made.add_row(cell(label), *(cell(text(row[f"{name}_{at}"])) for at in PERCENTILES))
    return made


def _shares(row: Mapping[str, Any]) -> RenderableType:
    shown = {label: float(row[f"{name}_share"]) for name, label in PARTS.items()}
    made = table("Where the time goes", "part", "share", "of what is lost", left=(0, 2))
    lost = max([1e-12, *(share for label, share in shown.items() if label != PARTS["useful"])])
    for (label, share), text in zip(shown.items(), units.shares(list(shown.values())), strict=True):
        if share > 0:
            bar = Bar(share / lost, "blue") if label != PARTS["useful"] else cell("")
            made.add_row(cell(label), cell(text), bar)
    return made


def goodput_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return outlooks of several sizes side by side; a row with `reason` could not be run."""
    heads = ("chips", "MTBF", "interval", "goodput p10", "median", "p90", "formula", "days", "tokens/s", "cost")
    made = table("Goodput over size", *heads)
    refused = []
    for row in rows:
        if row.get("reason"):
            refused.append(f"{units.count(row['chips'])} chips: {row['reason']}")
            continue
        mtbf_hours = row["mtbf_hours"]
        texts = (
            units.count(row["chips"]),
            units.seconds(None if mtbf_hours is None else mtbf_hours * HOUR_S),
            units.seconds(row["checkpoint_interval_s"]),
            *(units.percent(row[f"goodput_{at}"]) for at in PERCENTILES),
            units.percent(row["goodput_analytic"]),
            units.number(row["days_median"]),
            units.tokens(row["tokens"] / (row["days_median"] * 24 * HOUR_S)),
            units.usd(row.get("usd_median")),
        )
        made.add_row(*map(cell, texts))
    return Group(made, bullets("Can't be run", refused, "red")) if refused else made


def interval_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return goodput at several checkpoint intervals."""
    made = table("Goodput over checkpoint interval", "chips", "interval", "p10", "median", "p90", "formula")
    for row in rows:
        goodputs = (units.percent(row[f"goodput_{at}"]) for at in (*PERCENTILES, "analytic"))
        made.add_row(
            cell(units.count(row["chips"])), cell(units.seconds(row["checkpoint_interval_s"])), *map(cell, goodputs)
        )
    return made
