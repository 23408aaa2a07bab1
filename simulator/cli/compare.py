"""`epsim compare`."""

import click

from simulator.cli.options import draw, folder, print_json, settings, table_output, write_csv


@click.command(
    epilog="""
\b
Examples:
  epsim compare dsv3-decode-cloudmatrix384 dsv3-decode-h800
  epsim compare dsv3-train-h800 dsv3-train-cloudmatrix384 dsv3-train-910b --set fidelity=des
"""
)
@click.argument("scenarios", nargs=-1, required=True)
@settings
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the pictures; default out/compare.")
@click.option("--allow-oom", is_flag=True, help="Answer even if a plan does not fit device memory.")
@table_output
def compare(
    scenarios: tuple[str, ...],
    overrides: tuple[str, ...],
    out: str | None,
    allow_oom: bool,
    as_json: bool,
    csv_path: str | None,
) -> None:
    """Put two or more SCENARIOS side by side: ratios to the first, per chip, per watt and per dollar."""
    from reports.plots import breakdown_bars, comparison_bars
    from reports.tables import comparison_table, console
    from simulator.errors import UserError
    from simulator.run import run
    from simulator.scenario_file import load_scenario
    from simulator.study.sweep import flat

    if len(scenarios) < 2:
        raise UserError("compare: one scenario; name two or more, the first is the reference")
    results = [run(load_scenario(name, overrides), allow_oom) for name in scenarios]
    if csv_path:
        write_csv([flat(result) for result in results], csv_path)
    target = folder(out, "out/compare")
    draw(comparison_bars, results, path=target / "comparison.png")
    draw(breakdown_bars, results, path=target / "breakdown.png")
    if as_json:
        print_json([result.model_dump(mode="json") for result in results])
        return
    terminal = console()
    terminal.print(comparison_table(results))
    terminal.print(f"written to {target}: comparison.png, breakdown.png", soft_wrap=True, highlight=False)
