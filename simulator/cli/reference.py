"""The command reference in README.md, generated from the commands' own help: ``python -m simulator.cli.reference``."""

import sys
from pathlib import Path

import click

from simulator.cli.main import epsim

BEGIN, END = "<!-- command reference: begin -->", "<!-- command reference: end -->"


def reference() -> str:
    """Return every command's help as Markdown."""
    parent = click.Context(epsim, info_name="epsim")
    return "\n".join(_section(parent, name) for name in epsim.list_commands(parent))


def _section(parent: click.Context, name: str) -> str:
    command = epsim.get_command(parent, name)
    if command is None:
        raise LookupError(name)
    context = click.Context(command, info_name=name, parent=parent, terminal_width=96, max_content_width=96)
    texts = [command.get_help(context)]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            sub = command.get_command(context, inner)
            if sub is not None:
                own = click.Context(sub, info_name=inner, parent=context, terminal_width=96, max_content_width=96)
                texts.append(sub.get_help(own))
    return f"### epsim {name}\n\n```text\n" + "\n\n".join(texts) + "\n```\n"


def rewritten(readme: str) -> str:
    """Return a README with the text between the markers replaced by the current reference.

    Raises
    ------
    ValueError
        If a marker is missing.
    """
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"README.md needs the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
