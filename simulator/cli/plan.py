"""`epsim plan`: parallel plans."""

import click

from simulator.cli.lazy import LazyGroup

# name -> (module and attribute, one-line help); one module per command
COMMANDS = {
    "import": ("simulator.cli.plan_import:import_", "Turn Megatron-LM or MindSpeed arguments into a scenario."),
}


@click.group(cls=LazyGroup, table=COMMANDS, epilog="\b\nExample:\n  epsim plan import pretrain.sh -o my.toml")
def plan() -> None:
    """Bring in parallel plans of other tools."""
