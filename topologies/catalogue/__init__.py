"""The machines that ship with the project: one TOML file per chip, fabric and cluster.

Units are SI and stand in the key. Memory stacks have binary sizes, so the label that vendors print as GB is carried
over as label x 2^30 bytes, which is what device tools report (64 GB = 65,536 MiB). Bandwidth is decimal (1 GB/s = 1e9
bytes/s) and one direction; NIC rates, printed in bits, are converted. `notes` say what is inferred or assumed.
"""

import difflib
import tomllib
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from topologies.errors import TopologyError
from topologies.specs import Accelerator, ClusterSpec, Fabric

Part = TypeVar("Part", bound=Accelerator | Fabric | ClusterSpec)

_ROOT = Path(__file__).parent


def accelerator(name: str) -> Accelerator:
    """Return a chip by id or alias; case, spaces and punctuation don't count.

    Raises
    ------
    TopologyError
        If no chip has the name; the nearest name is given.
    """
    return _find(Accelerator, "chips", name)


def fabric(name: str) -> Fabric:
    """Return a fabric by id or alias, as leniently as `accelerator`.

    Raises
    ------
    TopologyError
        If no fabric has the name; the nearest name is given.
    """
    return _find(Fabric, "fabrics", name)


def cluster(name: str) -> ClusterSpec:
    """Return a cluster by id or alias, as leniently as `accelerator`.

    Raises
    ------
    TopologyError
        If no cluster has the name; the nearest name is given.
    """
    return _find(ClusterSpec, "clusters", name)


def accelerators() -> tuple[Accelerator, ...]:
    """Return all chips, sorted by id."""
    return _all(Accelerator, "chips")


def fabrics() -> tuple[Fabric, ...]:
    """Return all fabrics, sorted by id."""
    return _all(Fabric, "fabrics")


def clusters() -> tuple[ClusterSpec, ...]:
    """Return all clusters, sorted by id."""
    return _all(ClusterSpec, "clusters")


def _find(record: type[Part], folder: str, name: str) -> Part:
    """Look among the file names first, so that the usual case parses one file; aliases cost parsing them all."""
    key = _plain(name)
    path = _files(folder).get(key) or _aliases(record, folder).get(key)
    if path is None:
        raise TopologyError(_unknown(record, folder, name))
    return _read(record, path)


def _all(record: type[Part], folder: str) -> tuple[Part, ...]:
    parts = (_read(record, path) for path in _files(folder).values())
    return tuple(sorted(parts, key=lambda part: part.id))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@cache
def _files(folder: str) -> MappingProxyType[str, Path]:
    return MappingProxyType({_plain(path.stem): path for path in (_ROOT / folder).glob("*.toml")})


def _aliases(record: type[Part], folder: str) -> dict[str, Path]:
    parts = ((path, _read(record, path)) for path in _files(folder).values())
    return {_plain(name): path for path, part in parts for name in (part.name, *part.aliases)}


def _read(record: type[Part], path: Path) -> Part:
    return cast(Part, record.model_validate(_table(path)))


@cache
def _table(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _unknown(record: type[Part], folder: str, name: str) -> str:
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    names = [word for part in _all(record, folder) for word in (*part.aliases, part.name, part.id)]
    spelling = {_plain(word): word for word in names}
    near = difflib.get_close_matches(_plain(name[:60]), list(spelling), n=1, cutoff=0.6)
    hint = f" (did you mean '{spelling[near[0]]}'?)" if near else ""
    return f"{folder[:-1]}: {shown!r}: not in the catalogue{hint}; 'epsim catalog {folder}' lists what is"
