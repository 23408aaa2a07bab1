"""Which routing statistics a scenario uses: those it names, or those of the model's family."""

from functools import cache
from pathlib import Path

from simulator.errors import UserError, did_you_mean
from simulator.scenario import FAMILY, Routing
from workloads.routing.spec import DEFAULT, load_statistics


def of_family(routing: Routing, model: str) -> Routing:
    """Return the routing with statistics named: the model's own family's where they ship, else the default.

    Parameters
    ----------
    routing
        As the scenario has it.
    model
        Catalogue id of the model.
    """
    if routing.statistics != FAMILY:
        return routing
    return routing.model_copy(update={"statistics": _families().get(model, DEFAULT.stem)})


@cache
def _families() -> dict[str, str]:
    """Return the shipped statistics that catalogue models take by default."""
    return {model: path.stem for path in _shipped().values() for model in load_statistics(path).models}


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(DEFAULT.parent.glob("*.toml"))}


def statistics_file(name: str) -> Path:
    """Return the file of shipped statistics, or the path as given.

    Raises
    ------
    UserError
        If it is neither.
    """
    if name == FAMILY:  # of a model that is not known
        return DEFAULT
    shipped = _shipped()
    if name in shipped or Path(name).is_file():
        return shipped.get(name) or Path(name)
    raise UserError(
        f"routing.statistics = '{name}': no such file or shipped statistics{did_you_mean(name, shipped)}; "
        f"shipped: {', '.join(shipped)}"
    )
