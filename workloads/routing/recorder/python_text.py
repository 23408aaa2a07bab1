"""Text that every Python brings along, by topic: what the small model learns, under Python's licence (PSF-2.0)."""

import sysconfig
from importlib import import_module
from pathlib import Path

LICENCE = "PSF-2.0"
_DOCS = "documentation"
# topic -> files and folders of the standard library; those that a distribution left out are passed over
_PLACES = {
    "network": ("asyncio", "email", "http", "urllib", "ftplib.py", "imaplib.py", "smtplib.py", "socket.py", "ssl.py"),
    "numbers": ("_pydecimal.py", "fractions.py", "heapq.py", "numbers.py", "random.py", "statistics.py", "datetime.py"),
    "compiler": ("ast.py", "dis.py", "inspect.py", "opcode.py", "symtable.py", "tokenize.py", "typing.py", "pickle.py"),
    "interface": ("tkinter", "turtle.py", "curses", "cmd.py", "optparse.py", "argparse.py"),
    "tables": ("encodings",),
}
TOPICS = (_DOCS, *_PLACES)
TOPIC_CHARACTERS = 500_000


def texts() -> dict[str, list[str]]:
    """Return documents by topic, in a fixed order, at most `TOPIC_CHARACTERS` of each.

    The topic of prose is Python's reference manual as `pydoc` has it; the others are sources.
    """
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    documents = {_DOCS: [topics[name] for name in sorted(topics)]}
    library = Path(sysconfig.get_paths()["stdlib"])
    for topic, places in _PLACES.items():
        documents[topic] = [path.read_text(encoding="utf-8") for place in places for path in _sources(library / place)]
    return {topic: _cut(found) for topic, found in documents.items()}


def _sources(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*.py") if "test" not in path.parts)
    return [place] if place.exists() else []


def _cut(documents: list[str]) -> list[str]:
    """Return the first documents, all cut alike to the same length if they are too much together."""
    total = sum(map(len, documents))
    if total <= TOPIC_CHARACTERS:
        return documents
    return [text[: len(text) * TOPIC_CHARACTERS // total] for text in documents]
