"""`epsim calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import draw, print_json, table_output, write_csv

if TYPE_CHECKING:
    from simulator.fitting.own.determined import Constant
    from simulator.fitting.own.outcome import Outcome

ROWS_SHOWN = 60
OPS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send_recv")


@click.command(
    epilog="""
\b
Examples:
  epsim calibrate nvlink4 all_reduce.log all_gather.log -o my-nvlink.toml
  epsim calibrate hccs-a2 all_reduce_test.log --ranks 8 --ranks-per-node 8
  epsim calibrate ib-400g deepep.log --cluster h800-cluster --ranks 32 --part normal
  epsim calibrate h800 kernels.csv -o my-h800.toml
  epsim run dsv3-decode-h800 --calibration my-h800.toml
"""
)
@click.argument("subject")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Default out/calibration-SUBJECT.toml.")
@click.option("--cluster", metavar="NAME", help="Catalogued cluster that was measured (fabrics).")
@click.option(
    "--part",
    type=click.Choice(["collective", "copies", "normal", "low-latency"]),
    help="Mode of dispatch and combine where the files do not say; collective and copies leave them out.",
)
@click.option("--op", type=click.Choice(OPS), help="Operation, where the output does not say.")
@click.option("--ranks", type=click.IntRange(min=2), help="Ranks, where the output does not say.")
@click.option("--ranks-per-node", type=click.IntRange(min=1), help="Ranks on each node; default: full nodes.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens per rank (DeepEP low-latency: 128).")
@click.option("--hidden", type=click.IntRange(min=1), help="Hidden size (DeepEP low-latency: 7168).")
@click.option("--top-k", type=click.IntRange(min=1), help="Experts per token (DeepEP low-latency: 8).")
@table_output
def calibrate(
    subject: str, files: tuple[str, ...], output: str | None, as_json: bool, csv_path: str | None, **said: Any
) -> None:
    """Fit the constants of SUBJECT, a fabric or a chip, to your own measurements in FILES.

    Fabrics: the output of nccl-tests, rccl-tests, hccl_test and DeepEP's tests as printed, or a CSV table with columns
    op, ranks, ranks_per_node, size_bytes and time_us, algbw_GBps or busbw_GBps (dispatch and combine: mode,
    tokens_per_rank, hidden, top_k and payload_dtype in place of size_bytes). Chips: a CSV table with columns op, dtype,
    time_us and m, n, k, groups (GEMMs), model, sequences, context_tokens (attention) or bytes (elementwise).

    Constants that the rows do not determine stay as shipped. Scenarios read the file by `calibration = ["FILE"]`.
    """
    import pandas as pd

    from reports.plots import validation_scatter
    from simulator.fitting.own.outcome import file_text
    from simulator.output import write_file

    outcome = _outcome(subject, files, said)
    name = outcome.own.fabric or outcome.own.chip
    target = Path(output or f"out/calibration-{name}.toml")
    rows = _residuals(outcome)
    write_file(target, file_text(outcome).encode())
    if csv_path:
        write_csv(rows, csv_path)
    points = [
        {
            "id": f"{row['what']} ({row['row'].rpartition(':')[2].split()[0]})",
            "area": row["what"].split()[0],
            "unit": "us",
            "evidence": "own",
        }
        | {"predicted": row["predicted_us"], "measured": row["measured_us"]}
        for row in rows
    ]
    picture = draw(
        validation_scatter,
        pd.DataFrame(points),
        path=target.with_suffix(".png"),
        title=f"Fitted against measured: {name}",
    )
    if as_json:
        print_json(_as_json(outcome, rows, target))
    else:
        _print(outcome, rows, target, picture)


def _outcome(subject: str, files: tuple[str, ...], said: dict[str, Any]) -> "Outcome":
    from simulator.errors import UserError, did_you_mean
    from simulator.fitting.measurements.read import read_measurements
    from simulator.fitting.measurements.text import Given
    from simulator.fitting.own.chip import calibrate_chip
    from simulator.fitting.own.fabric import calibrate_fabric
    from topologies.catalogue import accelerator, accelerators, fabric, fabrics
    from topologies.errors import TopologyError

    said = {name: value for name, value in said.items() if value is not None}
    cluster, part = said.pop("cluster", ""), said.pop("part", "").replace("-", "_")
    try:
        fabric(subject)
    except TopologyError:
        try:
            accelerator(subject)
        except TopologyError:
            known = [*(item.id for item in fabrics()), *(item.id for item in accelerators())]
            raise UserError(
                f"{subject[:60]}: no fabric or chip{did_you_mean(subject[:60], known)}; 'epsim catalog fabrics' and "
                "'epsim catalog chips' list what is known"
            ) from None
        given = [
            f"--{name.replace('_', '-')}"
            for name, value in (said | {"cluster": cluster, "part": part}).items()
            if value
        ]
        if given:
            raise UserError(f"{', '.join(given)}: of communication; {subject} is a chip, leave it out") from None
        return calibrate_chip(subject, files)
    return calibrate_fabric(subject, read_measurements(files, Given(**said)), cluster, part)


def _residuals(outcome: "Outcome") -> list[dict[str, Any]]:
    return [
        {
            "row": row.row,
            "what": row.what,
            "measured_us": float(f"{row.measured_s * 1e6:.6g}"),
            "predicted_us": float(f"{row.predicted_s * 1e6:.6g}"),
            "error": round(row.predicted_s / row.measured_s - 1, 4),
        }
        for row in outcome.own.residuals
    ]


def _as_json(outcome: "Outcome", rows: list[dict[str, Any]], target: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "subject": outcome.own.fabric or outcome.own.chip,
        "cluster": outcome.own.cluster,
        "file": str(target),
        "constants": [asdict(constant) for constant in outcome.constants],
        "mean_abs_error": round(outcome.mean_abs_error, 4),
        "residuals": rows,
        "warnings": list(outcome.warnings),
        "notes": list(outcome.notes),
    }


def _print(outcome: "Outcome", rows: list[dict[str, Any]], target: Path, picture: Path) -> None:
    from reports.tables import console, facts_table
    from reports.text import bullets
    from simulator import units

    terminal = console()
    name = outcome.own.fabric or outcome.own.chip
    where = f" on {outcome.own.cluster}" if outcome.own.cluster else ""
    terminal.print(facts_table([_constant(constant) for constant in outcome.constants], f"Constants of {name}{where}"))
    shown = sorted(rows, key=lambda row: -abs(row["error"]))[:ROWS_SHOWN] if len(rows) > ROWS_SHOWN else rows
    lines = [
        {
            "row": row["row"],
            "operation": row["what"],
            "measured": units.seconds(row["measured_us"] * 1e-6),
            "fitted": units.seconds(row["predicted_us"] * 1e-6),
            "error": units.percent(row["error"], signed=True),
        }
        for row in shown
    ]
    some = f", the {ROWS_SHOWN} largest of {len(rows)}" if len(rows) > ROWS_SHOWN else ""
    terminal.print(facts_table(lines, f"Residuals{some}"))
    terminal.print(f"{len(rows)} rows, mean absolute error {units.percent(outcome.mean_abs_error)}", highlight=False)
    for title, texts, style in (("Warnings", outcome.warnings, "yellow"), ("Notes", outcome.notes, "")):
        if texts:
            terminal.print(bullets(title, texts, style))
    terminal.print(f"written: {target}; drawn: {picture}", soft_wrap=True, highlight=False)


def _constant(constant: "Constant") -> dict[str, str]:
    from simulator import units

    shown = units.seconds if constant.name.endswith("_s") else units.number
    return {
        "of": constant.what,
        "constant": constant.name.removesuffix("_s"),
        "shipped": shown(constant.before),
        "fitted": "-" if constant.kept else shown(constant.after),
        "+-": "-" if constant.error is None else shown(constant.error),
        "remark": constant.kept or (f"at its {constant.bound} bound" if constant.bound else ""),
    }
