"""Language models: their dimensions, by catalogue name or from a Hugging Face `config.json`."""

import difflib
import os
import tomllib
from functools import cache
from pathlib import Path
from types import MappingProxyType

from workloads.errors import WorkloadError
from workloads.models.counts import Parameters, parameters
from workloads.models.hf import read_config
from workloads.models.specs import ModelSpec

__all__ = ["ModelSpec", "Parameters", "load_model", "models", "parameters"]

_DATA = Path(__file__).parent / "data"


def load_model(name_or_path: str | Path) -> ModelSpec:
    """Return a model of the catalogue, or one described by a Hugging Face configuration.

    Parameters
    ----------
    name_or_path
        An id or alias (case, spaces and punctuation don't count), or the path of a `config.json` or of the directory
        that holds one. A name of the catalogue wins over a path of the same spelling; start with `./` to mean a path.

    Raises
    ------
    WorkloadError
        If the name is unknown (the nearest is given), or the configuration can't be read or used.
    """
    name = os.fspath(name_or_path)
    written_as_path = isinstance(name_or_path, Path) or name.startswith((".", "/", "~")) or name.endswith(".json")
    if not written_as_path:
        file = _files().get(_plain(name)) or _aliases().get(_plain(name))
        if file:
            return _read(file)
    if written_as_path or _exists(name):
        return read_config(name)
    raise WorkloadError(_unknown(name))


def models() -> tuple[ModelSpec, ...]:
    """Return all models of the catalogue, sorted by id."""
    return tuple(sorted((_read(file) for file in _files().values()), key=lambda spec: spec.id))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@cache
def _files() -> MappingProxyType[str, Path]:
    return MappingProxyType({_plain(path.stem): path for path in _DATA.glob("*.toml")})


def _aliases() -> dict[str, Path]:
    """Map names and aliases to files; needs every file, so it is asked only when no file has the name."""
    return {_plain(alias): _DATA / f"{spec.id}.toml" for spec in models() for alias in (spec.name, *spec.aliases)}


@cache
def _read(path: Path) -> ModelSpec:
    with path.open("rb") as file:
        return ModelSpec.model_validate(tomllib.load(file))


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # a name too long for the file system, or holding a null character
        return False


def _unknown(name: str) -> str:
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    names = [word for spec in models() for word in (*spec.aliases, spec.name, spec.id)]
    spelling = {_plain(word): word for word in names}
    near = difflib.get_close_matches(_plain(name[:60]), list(spelling), n=1, cutoff=0.6)
    hint = f" (did you mean '{spelling[near[0]]}'?)" if near else ""
    return f"model: {shown!r}: not in the catalogue, nor a path{hint}; 'epsim catalog models' lists what is"
