"""`epsim plan import`."""

import json
from pathlib import Path
from typing import Any

import click

from simulator.cli.options import print_json


class _TextFirst(click.Command):
    """A command whose argument may be text that starts with a dash, if it holds a blank."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put such text behind `--`, where it is no option."""
        text = [word for word in args if word.startswith("-") and " " in word.strip()]
        if text and "--" not in args:
            args = [*(word for word in args if word not in text), "--", *text]
        return super().parse_args(ctx, args)


@click.command(
    "import",
    cls=_TextFirst,
    epilog="""
\b
Examples:
  epsim plan import "-tp 2 -pp 4 -ep 8 -gb 256 --seq-length 4096 --bf16" --model mixtral-8x7b
  epsim plan import pretrain_deepseek3.sh --cluster ascend-910b-1024 -o my.toml
""",
)
@click.argument("arguments", metavar="ARGUMENTS|SCRIPT")
@click.option("--model", metavar="NAME", help="The model, in place of one looked up by its dimensions.")
@click.option("--cluster", "machine", metavar="NAME", help="The machine; `epsim catalog clusters` lists them.")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write the scenario to a file (TOML).")
@click.option("--json", "as_json", is_flag=True, help="Print scenario and arguments as JSON.")
def import_(arguments: str, model: str | None, machine: str | None, output: str | None, as_json: bool) -> None:
    """Turn a training plan in Megatron-LM, Megatron-Bridge or MindSpeed argument style into a scenario.

    ARGUMENTS are text in quotes, or the launch script that holds them, which is read and never run. Every argument is
    accounted for: used, without effect on time, not modelled, or unknown.
    """
    from reports.facts import facts_table
    from reports.text import console
    from simulator.arguments import convert, read_arguments
    from simulator.arguments.toml import scenario_toml
    from simulator.output import write_file
    from simulator.scenario_file import validate

    found = convert(read_arguments(arguments), model, machine)
    tables = found.tables
    if found.config is not None:
        tables = tables | {"model": {"name": _write_config(found.config, output)} | tables.get("model", {})}
    if machine:
        validate(tables, "imported plan")
    text = scenario_toml(tables)
    if output:
        write_file(Path(output), text.encode())
    if as_json:
        print_json({"scenario": tables, "arguments": [each.model_dump() for each in found.statuses]})
        return
    if not output:
        click.echo(text, nl=False)
        return
    order = ("used", "not modelled", "unknown", "no effect")
    rows: list[dict[str, Any]] = sorted(
        (each.model_dump() for each in found.statuses), key=lambda row: order.index(row["status"])
    )
    terminal = console()
    terminal.print(facts_table(rows, "What became of each argument"))
    terminal.print(f"written: {output}", soft_wrap=True, highlight=False)


def _write_config(config: dict[str, Any], output: str | None) -> str:
    """Write a model's configuration beside the scenario and return its path.

    Raises
    ------
    UserError
        If there is no scenario file to put it beside.
    """
    from simulator.errors import UserError
    from simulator.output import write_file

    if not output:
        raise UserError(
            "model: none of the catalogue has these dimensions; give -o FILE, so that a config.json can be written "
            "beside it, or --model NAME"
        )
    path = Path(output).with_suffix(".config.json")
    write_file(path, (json.dumps(config, indent=2) + "\n").encode())
    return str(path) if path.is_absolute() else f"./{path}"
