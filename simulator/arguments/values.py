"""The values of arguments, each problem noted instead of raised, so that all are told at once."""

from collections.abc import Iterable

from simulator.arguments.known import ALIASES, FLAGS, NO_EFFECT, NO_EFFECT_PREFIXES, NOT_MODELLED, NUMBERS, UNDERSTOOD
from simulator.arguments.words import Argument
from simulator.errors import did_you_mean
from simulator.result import Record

LARGEST = 2**40


class Status(Record):
    """What became of one argument: `used`, `no effect` on time, `not modelled`, or `unknown`, and why."""

    argument: str
    value: str
    status: str
    note: str = ""


class Values:
    """Arguments by their name in Megatron-LM; of one given twice the last counts, as there."""

    def __init__(self, arguments: Iterable[Argument]) -> None:
        self.given = {ALIASES.get(each.name, each.name): each for each in arguments}
        self.problems: list[str] = []
        self.notes: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Return whether a flag is set (and not to `false`)."""
        return name in self.given and self.given[name].text.lower() not in {"false", "0", "none"}

    def word(self, name: str, default: str = "") -> str:
        """Return the first value of an argument."""
        found = self.given.get(name)
        return found.values[0] if found and found.values else default

    def number(self, name: str) -> int | None:
        """Return a whole number from 1, or None where the argument is not given or says `None` or 0."""
        if name not in self.given:
            return None
        text = self.word(name)
        if text.lower() in {"none", "null", "0"}:
            return None
        if not text.isdecimal() or len(text) > 15 or not 1 <= int(text) <= LARGEST:
            why = "a variable that the script does not set" if "$" in text else "not a whole number from 1"
            self.refuse(name, f"{why}; write the number")
            return None
        return int(text)

    def refuse(self, name: str, why: str) -> None:
        """Note an argument that can't be used."""
        shown = self.given[name].text if name in self.given else ""
        self.problems.append(f"--{name} {shown[:60]}".rstrip() + f": {why}")

    def note(self, name: str, text: str) -> None:
        """Say what an argument was taken for."""
        self.notes[name] = text

    def statuses(self) -> tuple[Status, ...]:
        """Return what became of every argument, and note names that are nearly those of understood ones as problems."""
        return tuple(self._status(name, each) for name, each in self.given.items())

    def _status(self, name: str, argument: Argument) -> Status:
        value = argument.text if name not in NUMBERS | FLAGS else " ".join(argument.values[:1])
        if name in UNDERSTOOD:
            return Status(argument=argument.name, value=value, status="used", note=self.notes.get(name, ""))
        if name in NOT_MODELLED:
            return Status(argument=argument.name, value=value, status="not modelled", note=NOT_MODELLED[name])
        if name in NO_EFFECT or name.startswith(NO_EFFECT_PREFIXES):
            return Status(argument=argument.name, value=value, status="no effect")
        near = did_you_mean(name, UNDERSTOOD)
        return Status(argument=argument.name, value=value, status="unknown", note=near.strip(" ()"))
