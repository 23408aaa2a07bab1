"""Arguments from a line of text or a launch script. Scripts are read, never run.

Of a shell script these are understood: comments, continued lines, assignments (also arrays and `+=`), `$NAME`,
`${NAME}`, `${NAME:-default}`, and whole-number arithmetic `$((...))`. Whatever else is in a value stays as it is
written.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import UserError

MAX_FILE_BYTES = 1_000_000
MAX_TEXT = 200_000
MAX_ROUNDS = 8  # of values that name other values
ASSIGNMENT = re.compile(r"^\s*(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)(\+?)=(.*)$", re.DOTALL)
REFERENCE = re.compile(r"\$\{(\w+)(?:\[[@*]\])?(?::?-([^{}]*))?\}|\$(\w+)")
ARITHMETIC = re.compile(r"\$\(\(([^()]*)\)\)")
QUOTED_ARRAY = re.compile(r'"(\$\{\w+\[[@*]\]\})"')
ENDS = frozenset(["|", "&", "&&", "||", ";", ">", ">>", "2>&1", "\\"])
SHORT = re.compile(r"^-[a-z]{2,3}$")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument as it was written: its name without dashes (`-` between words), and its values."""

    name: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as they were written."""
        return " ".join(self.values)


def read_arguments(text_or_file: str) -> list[Argument]:
    """Return the arguments in a text (`--name value --flag`), or in a launch script if it names a file.

    Raises
    ------
    UserError
        If the file can't be read, the text is not closed in its quotes, or holds no argument.
    """
    text = text_or_file
    looks_like_file = "--" not in text and not re.search(r"(^|\s)-\w", text)
    if looks_like_file:
        text = _read(Path(text_or_file))
    if len(text) > MAX_TEXT:
        raise UserError(f"plan import: {len(text)} characters; scripts end at {MAX_TEXT}, is this the right file?")
    found = _arguments(_words(text))
    if not found:
        raise UserError(
            "plan import: no argument of the form --name; for example '--tensor-model-parallel-size 2 --bf16'"
        )
    return found


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file, and not arguments; give a launch script, or '--name value ...'")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: more than {MAX_FILE_BYTES} bytes; is this a launch script?")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; give a launch script") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{str(path)[:80]}: can't be read; check the path and its permissions") from None


def _words(text: str) -> list[str]:
    """Return the words of all lines that start no assignment, with variables put in."""
    known: dict[str, str] = {}
    words: list[str] = []
    for statement in _statements(text):
        match = ASSIGNMENT.match(statement)
        if match and not match[1].startswith("-"):
            name, more, value = match[1], match[2], _bare(match[3])
            known[name] = f"{known.get(name, '')} {value}" if more else _filled(value, known, {name})
        else:
            words += _split(_filled(statement, known, set()))
    if not any(word.startswith("-") for word in words):  # a file of settings that another script reads
        words = [word for value in known.values() for word in _split(_filled(value, known, set()))]
    return words


def _statements(text: str) -> list[str]:
    """Return logical lines: continued lines joined, brackets of arrays and open quotes closed, comments gone."""
    joined = re.sub(r"\\[ \t]*\r?\n", " ", QUOTED_ARRAY.sub(r"\1", text))
    statements: list[str] = []
    held = ""
    for line in joined.splitlines():
        held = f"{held} {_uncommented(line)}" if held else _uncommented(line)
        is_array = re.match(r"^\s*(?:\w+\s+)?\w+\+?=\(", held)
        if (is_array and not held.rstrip().endswith(")")) or held.count('"') % 2:
            continue
        statements.append(held)
        held = ""
    return [statement for statement in [*statements, held] if statement.strip()]


def _uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line)


def _bare(value: str) -> str:
    value = value.strip()
    for opening, closing in (("(", ")"), ('"', '"'), ("'", "'")):
        if value.startswith(opening) and value.endswith(closing) and len(value) > 1:
            return value[1:-1].strip()
    return value


def _filled(text: str, known: Mapping[str, str], own: set[str]) -> str:
    """Return the text with the variables that are known put in, and arithmetic worked out."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1] or match[3], match[2]
        if name in known and name not in own:
            return known[name]
        return default if default is not None else match[0]

    for _ in range(MAX_ROUNDS):
        filled = ARITHMETIC.sub(lambda match: _whole(match[1], known), REFERENCE.sub(value, text))
        if filled == text or len(filled) > MAX_TEXT:
            break
        text = filled
    return text


def _whole(text: str, known: Mapping[str, str]) -> str:
    """Return the value of whole numbers joined by `* / + -`, left to right within each rank; else as written."""
    parts = re.findall(r"\w+|[*/+-]", text)
    parts = [known.get(part, part) for part in parts]
    if not parts or "".join(parts) != re.sub(r"[\s$]", "", "".join(parts)) or len(parts) % 2 == 0:
        return f"$(({text}))"
    if not all(part.isdecimal() and len(part) < 10 for part in parts[::2]) or len(parts) > 20:
        return f"$(({text}))"
    terms, total, sign = [int(parts[0])], 0, [1]
    for operator, number in zip(parts[1::2], map(int, parts[2::2]), strict=True):
        if operator == "*":
            terms[-1] *= number
        elif operator == "/" and number:
            terms[-1] //= number
        elif operator in "+-":
            terms.append(number)
            sign.append(1 if operator == "+" else -1)
        else:
            return f"$(({text}))"
    total = sum(each * way for each, way in zip(terms, sign, strict=True))
    return str(total)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return text.replace('"', " ").replace("'", " ").split()


def _arguments(words: list[str]) -> list[Argument]:
    found: list[Argument] = []
    takes_values = False  # not before the first name, nor after the command has ended
    for word in words:
        is_name = word.startswith("--") and len(word) > 2 and word[2].isalpha()
        if is_name or SHORT.match(word):
            name, equals, value = word.lstrip("-").partition("=")
            found.append(Argument(name.replace("_", "-"), (value,) if equals else ()))
            takes_values = True
        elif word in ENDS:
            takes_values = False
        elif takes_values:
            found[-1] = Argument(found[-1].name, (*found[-1].values, word))
    return found
