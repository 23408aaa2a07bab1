"""What can be wrong with a machine description."""


class TopologyError(ValueError):
    """A cluster, chip or fabric that can't be used.

    Parameters
    ----------
    problems
        One line per problem, each naming the place, the value and the remedy.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
