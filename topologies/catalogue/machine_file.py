"""A machine of one's own: a catalogued cluster with values of its own, in a TOML file.

``like`` names the cluster to start from; keys of its record replace those of the catalogue, and the tables
``override.chip``, ``override.scale_up_fabric`` and ``override.scale_out_fabric`` replace figures of the parts. What the
parts achieve of their rates is taken from the calibration of the parts they are like.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from topologies.catalogue import accelerator, cluster, fabric
from topologies.errors import TopologyError
from topologies.graph_file import digest, is_graph_table, read_graph
from topologies.islands import Between, Island
from topologies.specs import Accelerator, ClusterSpec, Fabric, GraphFile, Record, ScaleUp

Part = TypeVar("Part", bound=Record)

MAX_FILE_BYTES = 100_000
OVERRIDES = ("chip", "scale_up_fabric", "scale_out_fabric")


class Parts(NamedTuple):
    """A cluster with its chip and its fabrics by id."""

    spec: ClusterSpec
    chip: Accelerator
    fabrics: dict[str, Fabric]


class Archipelago(NamedTuple):
    """Islands of a machine file by name, and the network that joins them."""

    id: str
    name: str
    islands: dict[str, Parts]
    between: Between
    fabric: Fabric


def archipelago(path: str) -> Archipelago | None:
    """Return the islands that a machine file describes, or None if it or the catalogue's entry is one cluster.

    Raises
    ------
    TopologyError
        If the file can't be used; one line per problem.
    """
    table = _read(Path(path)) if path.lower().endswith(".toml") else {}
    return _islands(Path(path), table) if "islands" in table else None


def _islands(path: Path, table: dict[str, Any]) -> Archipelago:
    rows, name = table.pop("islands"), table.pop("name", path.stem)
    between = _checked(Between, table.pop("between", {}), f"{path}: between.")
    if table or not isinstance(rows, list) or len(rows) < 2:
        said = f"{sorted(table)[0]}: unknown key" if table else "islands: give two or more [[islands]]"
        raise TopologyError(f"{path}: {said}; beside islands there are name and between")
    islands = [_checked(Island, row, f"{path}: islands[{index}].") for index, row in enumerate(rows)]
    if len({island.name for island in islands}) < len(islands):
        raise TopologyError(f"{path}: islands: a name appears twice; give each its own")
    return Archipelago(
        path.stem, str(name), {i.name: _island(path, str(name), i) for i in islands}, between, fabric(between.fabric)
    )


def _island(path: Path, whole: str, island: Island) -> Parts:
    spec, chip, fabrics = _find(island.cluster)
    reach = spec.max_chips or spec.chips
    if island.chips > reach:
        raise TopologyError(f"{path}: islands.{island.name}.chips: {island.chips}: {spec.name} reaches {reach}")
    own = {"chips": island.chips, "max_chips": island.chips, "name": f"{whole}: {island.name} ({spec.name})"}
    return Parts(spec.model_copy(update=own | {"id": f"{path.stem}-{island.name}"}), chip, fabrics)


def machine_parts(name_or_path: str, plane: str | None = None, island: str | None = None) -> Parts:
    """Return the parts of a catalogued cluster, or of one described in a file.

    Parameters
    ----------
    plane
        Network that alone joins nodes, whatever their scale-up domain reaches: ``scale-out`` or a side plane.
    island
        The island to take, of a machine file that has several: ranks of one run are of one kind.

    Raises
    ------
    TopologyError
        If the name is unknown, or the file can't be used; one line per problem.
    """
    found = archipelago(name_or_path)
    if found is None and island is not None:
        raise TopologyError(f"cluster.island: {island[:60]!r}: {name_or_path} has no islands; leave it out")
    if found and island not in found.islands:
        names = "', '".join(found.islands)
        what = "missing" if island is None else f"{island[:60]!r}: no such island"
        raise TopologyError(f"cluster.island: {what}; a run takes chips of one kind: set it to one of '{names}'")
    parts = found.islands[str(island)] if found else _find(name_or_path)
    return parts if plane is None else _only_plane(parts, plane)


def _find(name_or_path: str) -> Parts:
    path = Path(name_or_path)
    if path.suffix.lower() in {".graphml", ".json"}:
        return _from_graph(path)
    if path.suffix.lower() != ".toml":
        return _from_catalogue(name_or_path)
    table = _read(path)
    return _from_graph(path) if is_graph_table(table) else _from_machine(path, table)


def _from_graph(path: Path) -> Parts:
    """Return the parts of a machine whose network is drawn in a file."""
    sha256 = digest(path)
    graph = read_graph(path, sha256)
    about = graph.graph
    try:
        chip, fabrics = accelerator(about["chip"]), [fabric(name) for name in about["fabrics"]]
    except TopologyError as error:
        raise TopologyError(*(f"{path.name}: {line}" for line in error.problems)) from None
    nodes = [d["node"] for _, d in graph.nodes(data=True) if d["kind"] == "rank"]
    dies = chip.ranks_per_chip
    if not nodes or len(nodes) % dies:
        raise TopologyError(f"{path.name}: {len(nodes)} ranks: not a whole number of {chip.id} with {dies} ranks each")
    chips, fullest = len(nodes) // dies, max(Counter(nodes).values())
    spec = ClusterSpec(
        id=path.stem,
        name=about["name"] or path.stem,
        chip=chip.id,
        chips=chips,
        chips_per_node=-(-fullest // dies),
        max_chips=chips,
        scale_up=ScaleUp(fabric=fabrics[0].id, domain_chips=chips),
        graph=GraphFile(path=str(path), sha256=sha256, fabrics=tuple(part.id for part in fabrics)),
        source=about["source"] or f"{path.name}, SHA-256 {sha256[:16]}",
    )
    return Parts(spec, chip, {part.id: part for part in fabrics})


def _only_plane(parts: Parts, name: str) -> Parts:
    spec = parts.spec
    known = {side.name: side.network for side in spec.side_planes}
    if spec.scale_out:
        known["scale-out"] = spec.scale_out
    if name not in known or not isinstance(spec.scale_up, ScaleUp):
        there = f"{spec.name} has {', '.join(sorted(known))}" if known else f"{spec.name} has none between nodes"
        raise TopologyError(f"cluster.plane: {name[:60]!r}: no such network; {there}")
    inner = spec.scale_up.model_copy(update={"domain_chips": spec.chips_per_node})
    chosen = spec.model_copy(update={"scale_up": inner, "scale_out": known[name]})
    outer = known[name].fabric
    return Parts(chosen, parts.chip, {outer: fabric(outer)} | parts.fabrics)


def _from_catalogue(name: str) -> Parts:
    spec = cluster(name)
    return Parts(spec, accelerator(spec.chip), {name: fabric(name) for name in _fabric_names(spec).values()})


def _fabric_names(spec: ClusterSpec) -> dict[str, str]:
    outer = {"scale_out_fabric": spec.scale_out.fabric} if spec.scale_out else {}
    return {"scale_up_fabric": spec.scale_up.fabric} | outer


def _from_machine(path: Path, table: dict[str, Any]) -> Parts:
    """Return the parts of a machine that a TOML file describes, in full or by what differs from a catalogued one."""
    like, overrides = table.pop("like", None), table.pop("override", {})
    if not isinstance(overrides, dict) or not set(overrides) <= set(OVERRIDES):
        raise TopologyError(f"{path}: override: holds tables {', '.join(OVERRIDES)} only; correct their names")
    if isinstance(like, str):
        spec = _with(cluster(like), {"id": path.stem, "max_chips": None} | table, f"{path}: ")
    elif like is None and "scale_up" in table:
        spec = _checked(ClusterSpec, {"id": path.stem, "name": path.stem, "source": path.name} | table, f"{path}: ")
    else:
        remedy = "name the catalogued cluster to start from, for example 'h800-cluster', or describe all with scale_up"
        raise TopologyError(f"{path}: like: missing; {remedy}")
    chip = _with(accelerator(spec.chip), overrides.get("chip", {}), f"{path}: override.chip.")
    roles = _fabric_names(spec)
    fabrics = {
        name: _with(fabric(name), overrides.get(role, {}), f"{path}: override.{role}.") for role, name in roles.items()
    }
    if unused := sorted(set(overrides) - {"chip", *roles}):
        raise TopologyError(f"{path}: override.{unused[0]}: this cluster has no such network; remove the table")
    return Parts(spec, chip, fabrics)


def _read(path: Path) -> dict[str, Any]:
    if "\0" in str(path):
        raise TopologyError(f"{str(path)[:60]!r}: not a path; correct it")
    try:
        if path.is_dir():
            raise TopologyError(f"{path}: a directory; give a machine file (TOML)")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TopologyError(f"{path}: over {MAX_FILE_BYTES} bytes; is this a machine file?")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TopologyError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TopologyError(f"{path}: not valid TOML: {str(error).splitlines()[0][:160]}") from None


def _with(part: Part, changes: Mapping[str, Any], where: str) -> Part:
    """Return the record with some values replaced, tables inside it merged."""
    if not isinstance(changes, Mapping):
        raise TopologyError(f"{where.rstrip('.')}: {changes!r}: must be a table of values")
    if "id" in changes and not isinstance(part, ClusterSpec):
        raise TopologyError(f"{where}id: a changed part keeps its id, which its calibration goes by; remove it")
    merged = part.model_dump(exclude_none=True)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return _checked(type(part), merged, where)


def _merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return a table with some values replaced; a table of another shape has other keys, and replaces all."""
    alike = after.get("shape", before.get("shape")) == before.get("shape")
    return before | after if alike else after


def _checked(record: type[Part], values: Mapping[str, Any], where: str) -> Part:
    try:
        return record.model_validate(values)
    except ValidationError as error:
        raise TopologyError(*(_line(item, where) for item in error.errors(include_url=False))) from None


def _line(item: Any, where: str) -> str:
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{where}{key}: missing; 'epsim catalog clusters NAME' shows the keys"
    message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Input ")
    return f"{where}{key} = {str(item['input'])[:60]}: {message}; 'epsim catalog clusters NAME' shows the keys"
