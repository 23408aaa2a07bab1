"""`epsim scenarios` and `epsim schema`."""

import click

from simulator.cli.options import print_json


@click.command(epilog="\b\nExamples:\n  epsim scenarios\n  epsim scenarios dsv3-train-h800 > my.toml")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def scenarios(name: str | None, as_json: bool) -> None:
    """List the shipped scenarios, or print the file of one (NAME) to start your own from."""
    from reports.tables import console, facts_table
    from simulator.errors import UserError, did_you_mean
    from simulator.scenario_file import load_scenario, shipped_scenarios

    shipped = shipped_scenarios()
    if name is not None:
        if name not in shipped:
            raise UserError(
                f"{name}: no such shipped scenario{did_you_mean(name, shipped)}; known: {', '.join(shipped)}"
            )
        click.echo(shipped[name].read_text(encoding="utf-8"), nl=False)
        return
    loaded = {stem: load_scenario(stem) for stem in shipped}
    rows = [
        {"scenario": stem, "phase": asked.workload.phase, "cluster": asked.cluster.name, "what": asked.name}
        for stem, asked in loaded.items()
    ]
    if as_json:
        print_json(rows)
    else:
        console().print(facts_table(rows, "Shipped scenarios"))


@click.command(epilog="\b\nExample:\n  epsim schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON Schema of scenario files: editors with TOML support complete and check keys from it."""
    from simulator.scenario import Scenario

    table = Scenario.model_json_schema()
    table["properties"]["extends"] = {
        "type": "string",
        "description": "another scenario file, or a shipped one, whose values hold where this one is silent",
    }
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **table})
