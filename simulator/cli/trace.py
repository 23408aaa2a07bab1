"""`epsim trace`: recorded expert routing."""

import click

from simulator.cli.lazy import LazyGroup

# name -> (module and attribute, one-line help); one module per command
COMMANDS = {
    "show": ("simulator.cli.trace_show:show", "Print a trace's shape, skew, predictability and drift, and draw it."),
    "import": ("simulator.cli.trace_import:import_", "Bring in routing that another tool recorded."),
    "record": ("simulator.cli.trace_record:record", "Run a Hugging Face model and record its routing."),
    "traffic": ("simulator.cli.trace_traffic:traffic", "Count what ranks and nodes send each other for a batch."),
    "export": ("simulator.cli.trace_export:export", "Write recorded routing for another tool."),
    "fit": ("simulator.cli.trace_fit:fit", "Fit routing statistics to recorded routing."),
    "sample": ("simulator.cli.trace_sample:sample", "Draw routing of any size from routing statistics."),
}


@click.group(cls=LazyGroup, table=COMMANDS, epilog="\b\nExample:\n  epsim trace show recorded.npz")
def trace() -> None:
    """Record expert routing, bring it in from other tools, and look at it."""
