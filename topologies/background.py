"""Traffic of others, as the share of a part's or link's capacity that it takes: a fault that leaves the rest."""

import re
from collections.abc import Sequence

from topologies.errors import TopologyError
from topologies.faults.text import PLACE as FAULTS

PLACE = "network.background"
_AT = re.compile(r"(?P<what>.+\S) +at +(?P<percent>\d+(?:\.\d+)?) ?%", re.IGNORECASE)


def as_faults(texts: Sequence[str]) -> tuple[str, ...]:
    """Return faults that leave what background traffic does.

    Parameters
    ----------
    texts
        For example ``leaf 0 - spine 0 at 30 %`` or ``nic 17 at 50 %``: who takes how much.

    Raises
    ------
    TopologyError
        One line per text without a share below 100 %.
    """
    found, problems = [], []
    for text in texts:
        match = _AT.fullmatch(text.strip())
        if match is None:
            problems.append(f"{PLACE}: {text[:60]!r}: give a part or link and its share, such as 'nic 17 at 30 %'")
        elif float(match["percent"]) >= 100:
            problems.append(f"{PLACE}: {text[:60]!r}: leaves nothing; use less than 100 %, or cluster.faults")
        else:
            left = f"{100 - float(match['percent']):.6f}".rstrip("0").rstrip(".")
            found.append(f"{match['what']} at {left} %")
    if problems:
        raise TopologyError(*problems)
    return tuple(found)


def in_users_words(error: TopologyError, texts: Sequence[str]) -> TopologyError:
    """Return an error about background traffic with the place and the text that the user wrote."""
    lines = list(error.problems)
    for written, fault in zip(texts, as_faults(texts), strict=True):
        lines = [line.replace(f"{FAULTS}: {fault!r}", f"{PLACE}: {written!r}") for line in lines]
    return TopologyError(*lines)
