"""Why a run takes as long as it does: a tree of times that sums to the step, its critical path, what would help."""

from simulator.result import Record


class Line(Record):
    """One line of the tree.

    Parameters
    ----------
    what
        What the time is spent on.
    part
        Name of the part of the time (`simulator.result.PARTS`) that it belongs to, for colours; a parent's largest.
    time_s
        Time of the mean rank [s]; the lines below sum to it.
    share
        Of the step.
    light
        Speed of light over this: the time that the binding datasheet rate allows over the predicted time; None for
        waits, which have no such bound.
    limited_by
        What binds: arithmetic, memory, or the busiest link and its network.
    constants
        Where the constants come from: measured, fitted, datasheet or assumed.
    """

    what: str
    part: str
    time_s: float
    share: float
    light: float | None = None
    limited_by: str = ""
    constants: str = ""
    lines: tuple["Line", ...] = ()

    def leaves(self) -> tuple["Line", ...]:
        """Return the lines that have none below them, in order."""
        return tuple(leaf for line in self.lines for leaf in line.leaves()) if self.lines else (self,)


class PathStep(Record):
    """One operation of the critical path: the stream that runs it, its start and end [s]."""

    what: str
    stream: int
    start_s: float
    end_s: float


class CriticalPath(Record):
    """The chain of operations, each starting when the one before ends, that sets the length of a run.

    `parts_s` says what its time is spent on and sums to the end of the last operation [s].
    """

    parts_s: dict[str, float]
    steps: tuple[PathStep, ...]


class Change(Record):
    """The run again with one cause removed: its step, and the tokens per second gained."""

    what: str
    step_s: float
    gain_tokens_per_s: float
    gain: float


class Why(Record):
    """What a run's time is made of, and which single changes would shorten it most (best first)."""

    scenario: str
    step_s: float
    tokens_per_s: float
    tree: Line
    path: CriticalPath
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
