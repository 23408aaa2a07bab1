"""`epsim run`."""

import json
from pathlib import Path

import click

from simulator.cli.options import draw, folder, print_json, settings, slug


@click.command(
    epilog="""
\b
Examples:
  epsim run dsv3-train-h800
  epsim run my.toml --set cluster.chips=512 --set plan.expert=32
  epsim run dsv3-decode-cloudmatrix384 --set fidelity=des --json
  epsim run dsv3-train-h800 --timeline out/step.json
  epsim run dsv3-decode-h800 --calibration my-fabric.toml --calibration my-chip.toml
"""
)
@click.argument("scenario")
@settings
@click.option(
    "--calibration",
    "calibration",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="Constants from your own measurements (`epsim calibrate`), in place of the shipped ones; repeatable.",
)
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the results; default out/NAME-DIGEST.")
@click.option("--allow-oom", is_flag=True, help="Answer even if the plan does not fit device memory.")
@click.option(
    "--timeline",
    "timeline_file",
    type=click.Path(),
    metavar="FILE",
    help="Also write every operation as a trace for https://ui.perfetto.dev (Chrome JSON).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--sources", is_flag=True, help="Also list where every figure that was used comes from.")
def run(
    scenario: str,
    overrides: tuple[str, ...],
    calibration: tuple[str, ...],
    out: str | None,
    allow_oom: bool,
    timeline_file: str | None,
    as_json: bool,
    sources: bool,
) -> None:
    """Simulate SCENARIO (a TOML file or a shipped name): throughput, latency, memory, cost, and why.

    The result, a manifest of everything it rests on, and a picture of where the time goes are written to a folder.
    """
    from reports.plots import breakdown_bars
    from reports.tables import console, result_table, source_table
    from simulator.manifest import manifest_bytes, result_bytes
    from simulator.output import write_file, write_folder
    from simulator.scenario_file import load_scenario
    from simulator.study.nearest import simulate_or_suggest
    from simulator.timeline import timeline

    own = (f"calibration={json.dumps(calibration)}",) if calibration else ()
    asked = load_scenario(scenario, (*overrides, *own))
    simulation = simulate_or_suggest(asked, allow_oom)
    result = simulation.result
    if timeline_file:
        write_file(Path(timeline_file), timeline(simulation))
    target = folder(out, Path("out") / f"{slug(asked.name)}-{result.digest}")
    write_folder(target, {"result.json": result_bytes(result), "manifest.json": manifest_bytes(asked, result)})
    draw(breakdown_bars, [result], path=target / "breakdown.png")
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    terminal = console()
    terminal.print(result_table(result))
    if sources:
        terminal.print(source_table(result.sources))
    terminal.print(f"written to {target}: result.json, manifest.json, breakdown.png", soft_wrap=True, highlight=False)
