"""What is generated in README.md, command reference and validation table: ``python -m simulator.cli.reference``."""

import sys
from pathlib import Path

import click

from simulator.cli.main import epsim

REFERENCE_MARK = "command reference"
VALIDATION_MARK = "validation"


def reference() -> str:
    """Return every command's help as Markdown."""
    parent = click.Context(epsim, info_name="epsim", **epsim.context_settings)
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


def validation() -> str:
    """Return what the shipped measurements say, as Markdown: every row that a prediction was made for."""
    from simulator.validation.replay import replay_each
    from simulator.validation.tables import AREAS, shipped_rows

    lines = ["| measurement | predicted | measured | unit | error | evidence |", "|---|---|---|---|---|---|"]
    for area in AREAS:
        for row in replay_each(shipped_rows(area), area):
            if row["status"] in {"predicted", "fitted-on"}:
                fitted = " (fitted on)" if row["status"] == "fitted-on" else ""
                numbers = f"{_number(row['predicted'])} | {_number(row['measured'])} | {row['unit']}"
                lines.append(f"| {row['id']}{fitted} | {numbers} | {row['error']:+.0%} | [{row['evidence']}] |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def rewritten(readme: str, name: str, text: str) -> str:
    """Return a README with the text between the markers of `name` replaced.

    Raises
    ------
    ValueError
        If a marker is missing.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = readme.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"README.md needs the markers {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    page = path.read_text(encoding="utf-8")
    for name, made in ((REFERENCE_MARK, reference()), (VALIDATION_MARK, validation())):
        page = rewritten(page, name, made)
    path.write_text(page, encoding="utf-8")
