"""The command `epsim`. Only click is imported here; each command loads what it needs when it runs."""

import sys

import click

from simulator.cli.lazy import LazyGroup

# name -> (module and attribute, one-line help), so that `epsim --help` need not import any of them.
COMMANDS = {
    "run": ("simulator.cli.run:run", "Simulate one scenario: throughput, latency, memory, cost, and why."),
    "why": ("simulator.cli.why:why", "Say why a run takes as long as it does, and what would help."),
    "sweep": ("simulator.cli.sweep:sweep", "Vary scenario values and draw the scaling curve."),
    "serve-limit": (
        "simulator.cli.serve_limit:serve_limit",
        "Find the largest batch and arrival rate that keep a service level.",
    ),
    "scale": ("simulator.cli.scale:scale", "Strong or weak scaling of training, and what stops it."),
    "goodput": ("simulator.cli.goodput:goodput", "Days and cost of a training run that failures interrupt."),
    "serve": ("simulator.cli.serve:serve", "Serve requests: TTFT, TPOT, goodput, cost per token."),
    "serve-sweep": ("simulator.cli.serve_sweep:serve_sweep", "Serve requests at several rates: Pareto of TPOT."),
    "compare": ("simulator.cli.compare:compare", "Put scenarios side by side, per chip, per watt and per dollar."),
    "validate": ("simulator.cli.validate:validate", "Replay published measurements: predicted, measured, error."),
    "calibrate": ("simulator.cli.calibrate:calibrate", "Fit a fabric or chip to your own measurements."),
    "catalog": ("simulator.cli.catalog:catalog", "List and explain chips, fabrics, clusters and models."),
    "trace": ("simulator.cli.trace:trace", "Record expert routing, bring it in from other tools, and look at it."),
    "plan": ("simulator.cli.plan:plan", "Bring in parallel plans of other tools."),
    "place": ("simulator.cli.place:place", "Place experts on ranks, and judge placements on tokens held out."),
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


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from simulator.manifest import package_version

        click.echo(f"epsim {package_version('epsim')}")
        ctx.exit()


@click.group(cls=LazyGroup, table=COMMANDS, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
        hint = getattr(error, "hint", "")
        if hint:
            click.echo(f"hint: {hint}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
