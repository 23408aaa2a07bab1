"""What a user can get wrong, and how it is said: one line per problem, with place, value and remedy."""

import difflib
from collections.abc import Iterable

from topologies.errors import TopologyError
from workloads.errors import WorkloadError


class UserError(ValueError):
    """Input that epsim refuses.

    Parameters
    ----------
    problems
        One line per problem, each naming the place, the value and the remedy.
    hint
        What would work instead, where that was found out; empty where not.
    """

    def __init__(self, *problems: str, hint: str = "") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.hint = hint


USER_ERRORS = (UserError, TopologyError, WorkloadError)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
