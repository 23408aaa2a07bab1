"""The commands explain themselves: help, examples that parse, and a first answer in no time."""

import resource
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from simulator.cli.main import COMMANDS, epsim

Command = Callable[..., Any]
HELP_CPU_S = 0.25
HEAVY = ("numpy", "pandas", "pydantic", "networkx", "scipy", "matplotlib", "rich", "simpy", "joblib", "pyarrow")

TOP = click.Context(epsim, info_name="epsim", **epsim.context_settings)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its full name."""
    for name in epsim.list_commands(TOP):
        command = epsim.get_command(TOP, name)
        assert command is not None
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=TOP)
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield f"{name} {inner}", found
        else:
            yield name, command


ALL = dict(commands())


def examples(command: click.Command) -> list[str]:
    text = f"{command.help}\n{command.epilog}"
    return [line.strip() for line in text.splitlines() if line.strip().startswith("epsim ")]


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_and_an_example(name: str) -> None:
    command = ALL[name]
    assert command.help
    assert any(example.startswith(f"epsim {name}") for example in examples(command))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("name", ALL)
def test_examples_parse(name: str) -> None:
    for example in examples(ALL[name]):
        words = shlex.split(example.split(" > ")[0])[1:]
        called = next(known for known in ALL if words[: len(known.split())] == known.split())
        ALL[called].make_context(called, words[len(called.split()) :], parent=TOP)


def test_the_examples_of_the_top_parse() -> None:
    lines = [line.strip() for line in str(epsim.epilog).splitlines() if line.strip().startswith("epsim ")]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)[1:]
        ALL[words[0]].make_context(words[0], words[1:], parent=TOP)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_and_the_command_say_the_same(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert module.startswith("simulator.cli.")
    assert attribute == name.replace("-", "_")
    assert COMMANDS[name][1].endswith(".")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], [], *([*name.split(), "--help"] for name in ALL)], ids=" ".join
)
def test_help_is_printed_to_standard_output(epsim: Command, arguments: list[str]) -> None:
    outcome = epsim(*arguments)
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out.startswith("Usage: epsim")
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_the_first_help_lists_every_command(epsim: Command) -> None:
    said = epsim("--help").out
    assert all(f"\n  {name} " in said for name in COMMANDS)


def test_the_version_is_one_line(epsim: Command) -> None:
    outcome = epsim("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("epsim ")
    assert len(outcome.out.splitlines()) == 1


def test_help_costs_a_quarter_of_a_second_at_most(epsim_process: Command, tmp_path: Path) -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert epsim_process(["--help"], tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < HELP_CPU_S


def test_help_imports_nothing_heavy(epsim_process: Command, tmp_path: Path) -> None:
    report = f"import atexit, sys; atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules]))"
    done = epsim_process(["--help"], tmp_path, before=report)
    assert done.stdout.decode().splitlines()[-1] == "[]"


def test_a_reader_that_stops_early_hears_no_complaint(epsim_process: Command, tmp_path: Path) -> None:
    """`epsim schema | head -1` ends quietly."""
    close = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1)"
    assert epsim_process(["schema"], tmp_path, before=close).stderr == b""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_says_stopped(epsim_process: Command, tmp_path: Path) -> None:
    interrupt = "import signal, threading, os; threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()"
    many = ",".join(map(str, range(2000)))
    done = epsim_process(
        ["sweep", "dsv3-decode-h800", "--over", f"seed={many}", "--jobs", "1"], tmp_path, before=interrupt
    )
    assert done.returncode == 130
    assert done.stderr.decode().strip().endswith("stopped")
    assert not list(tmp_path.iterdir())
