"""Faults as operators write them: which part, and how much of it is left.

========================================  ==============================================================
``node 5``                                the server is gone, its ranks with it
``nic 17``, ``leaf 3``, ``spine 0``       the NIC or switch is gone (a node's own switch: ``node switch 5``)
``leaf 3 - spine 0``, ``rank 3 - rank 5``  the link is gone
``2 of 8 uplinks of leaf 3``              cables towards the next tier are gone
``1 of 16 switches of spine 0``           switches are gone of those that a vertex stands for
``plane 2``                               one of several networks that meet in the nodes only is gone
``... at 50 %``                           after a part or link: this much of its capacity is left
========================================  ==============================================================
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from topologies.errors import TopologyError

Kind = Literal["node", "plane", "part", "link", "uplinks"]
PLACE = "cluster.faults"
MOST = 10_000  # faults; more is a file that went wrong

_NAME = r"[a-z][a-z -]*? \d{1,9}"
_PERCENT = r"(?: at (?P<percent>\d+(?:\.\d+)?) ?%)?"
_PART = re.compile(rf"(?P<name>{_NAME}){_PERCENT}")
_LINK = re.compile(rf"(?P<name>{_NAME}) ?(?:-|<->|to) ?(?P<end>{_NAME}){_PERCENT}")
_SOME = re.compile(rf"(?P<lost>\d{{1,9}}) of (?P<all>\d{{1,9}}) (?P<what>uplinks|switches) of (?P<name>{_NAME})")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the text as given, what it hits, and the share of its capacity that is left (0: failed)."""

    text: str
    kind: Kind
    names: tuple[str, ...]
    left: float

    @property
    def number(self) -> int:
        """Number of the node or plane."""
        return int(self.names[0].rsplit(" ", 1)[1])


def read_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults that some texts describe.

    Raises
    ------
    TopologyError
        One line per text that describes none.
    """
    if len(texts) > MOST:
        raise TopologyError(f"{PLACE}: {len(texts)} faults; give at most {MOST}")
    found: list[Fault] = []
    problems: list[str] = []
    for text in texts:
        fault = _read(text, " ".join(text.lower().split()))
        if isinstance(fault, Fault):
            found.append(fault)
        else:
            problems.append(f"{PLACE}: {text[:60]!r}: {fault}")
    if problems:
        raise TopologyError(*problems)
    return tuple(found)


def lost_nodes(faults: Sequence[Fault]) -> frozenset[int]:
    """Return the nodes that are gone."""
    return frozenset(fault.number for fault in faults if fault.kind == "node")


def _read(text: str, plain: str) -> Fault | str:
    if some := _SOME.fullmatch(plain):
        lost, total = int(some["lost"]), int(some["all"])
        if not 0 < lost <= total:
            return f"{lost} of {total} can't be lost; give a number from 1 to {total}"
        return Fault(text, "uplinks" if some["what"] == "uplinks" else "part", (some["name"],), 1 - lost / total)
    found = _PART.fullmatch(plain) or _LINK.fullmatch(plain)
    if not found:
        return "not understood; for example 'node 5', 'nic 17', 'leaf 3 - spine 0 at 50 %', '1 of 8 uplinks of leaf 3'"
    left = float(found["percent"] or 0) / 100
    if left > 1:
        return f"{found['percent']} % is more than all; give the share that is left"
    if "end" in found.groupdict():
        return Fault(text, "link", (found["name"], found["end"]), left)
    return _whole(text, found["name"], left)


def _whole(text: str, name: str, left: float) -> Fault | str:
    what, number = name.rsplit(" ", 1)
    if what == "rank":
        return "a rank fails with its node; name the node, or a link such as 'rank 3 - node 0'"
    if what not in {"node", "plane"}:
        return Fault(text, "part", (name,), left)
    if left:
        part = f"its switch, 'node switch {number}'" if what == "node" else "its parts"
        return f"a {what} is there or gone; for a part of its capacity name {part}"
    return Fault(text, "node" if what == "node" else "plane", (name,), 0.0)
