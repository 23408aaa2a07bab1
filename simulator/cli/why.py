"""`epsim why`."""

from pathlib import Path

import click

from simulator.cli.options import draw, folder, print_json, settings, slug


@click.command(
    epilog="""
\b
Examples:
  epsim why dsv3-train-h800
  epsim why dsv3-decode-cloudmatrix384 --set workload.batch_per_rank=32
  epsim why my.toml --no-changes --json
"""
)
@click.argument("scenario")
@settings
@click.option("--changes/--no-changes", "what_if", default=True, help="Run again without one cause at a time.")
@click.option("--all", "every_change", is_flag=True, help="List every change that gains anything, not the best three.")
@click.option("--allow-oom", is_flag=True, help="Answer even if the plan does not fit device memory.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Folder for the picture; default out/why-NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, the whole critical path included.")
def why(
    scenario: str,
    overrides: tuple[str, ...],
    what_if: bool,
    every_change: bool,
    allow_oom: bool,
    out: str | None,
    as_json: bool,
) -> None:
    """Say why SCENARIO takes as long as it does, and what would help.

    The tree sums to the step: compute by operator class, exposed communication by kind and link, imbalance, bubble,
    optimizer, overhead; each line with its share, its distance from the speed of light, what limits it, and where its
    constants come from. Below it the critical path, and the best single changes by running again without one cause.
    """
    from rich.console import Console

    from reports.text import console
    from reports.why import why_report
    from reports.why_picture import why_bars
    from simulator.attribution import explain
    from simulator.scenario_file import load_scenario

    asked = load_scenario(scenario, overrides)
    with Console(stderr=True).status("simulating, and once more without each cause"):
        found = explain(asked, allow_oom, what_if)
    target = draw(why_bars, found, path=folder(out, Path("out") / f"why-{slug(asked.name)}") / "why.png")
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    terminal = console()
    terminal.print(why_report(found, every_change))
    terminal.print(f"written: {target}", soft_wrap=True, highlight=False)
