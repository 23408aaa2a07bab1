"""The command `epsim`. Only click is imported here; each command loads what it needs when it runs."""

import importlib
import sys

import click

# name -> (module and attribute, one-line help), so that `epsim --help` need not import any of them.
COMMANDS = {
    "run": ("simulator.cli.run:run", "Simulate one scenario: throughput, latency, memory, cost, and why."),
    "sweep": ("simulator.cli.sweep:sweep", "Vary scenario values and draw the scaling curve."),
    "compare": ("simulator.cli.compare:compare", "Put scenarios side by side, per chip, per watt and per dollar."),
    "validate": ("simulator.cli.validate:validate", "Replay published measurements: predicted, measured, error."),
    "catalog": ("simulator.cli.catalog:catalog", "List and explain chips, fabrics, clusters and models."),
    "topology": ("simulator.cli.topology:topology", "Show the tiers of a cluster's network, and draw it."),
    "scenarios": ("simulator.cli.scenarios:scenarios", "List the shipped scenarios, or print one to start from."),
    "schema": ("simulator.cli.scenarios:schema", "Print the JSON Schema of scenario files, for editors."),
    "doctor": ("simulator.cli.doctor:doctor", "Check the installation."),
}

EPILOG = """
\b
Examples:
  epsim scenarios
  epsim run dsv3-decode-cloudmatrix384
  epsim run dsv3-train-h800 --set cluster.chips=1024 --set fidelity=des
  epsim sweep dsv3-scaling-h800 --over cluster.chips=256,512,...,2048
  epsim compare dsv3-decode-cloudmatrix384 dsv3-decode-h800
"""


class LazyGroup(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, suggesting the nearest name for an unknown one."""
        import difflib

        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(COMMANDS)}"
            ctx.fail(f"no command '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from simulator.manifest import package_version

        click.echo(f"epsim {package_version('epsim')}")
        ctx.exit()


@click.command(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def epsim() -> None:
    """Predict throughput, latency, memory and cost of mixture-of-experts models on Ascend and GPU clusters."""


def main() -> None:
    """Run the command line; a user's mistake ends with one line per problem and exit code 2."""
    from simulator.errors import USER_ERRORS

    try:
        epsim.main(prog_name="epsim", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "epsim"
        click.echo(f"error: {error.format_message().rstrip('.')}; see `{where} --help`", err=True)
        sys.exit(2)
    except click.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except USER_ERRORS as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
