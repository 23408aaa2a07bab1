"""Chips, models and number formats of a row, matched leniently against the catalogue."""

import re
from collections.abc import Collection, Iterator
from typing import Literal, cast

from simulator.validation.cells import Cells, RowError, data, shorten
from topologies.catalogue import accelerator, cluster
from topologies.errors import TopologyError
from topologies.specs import ClusterSpec
from workloads.errors import WorkloadError
from workloads.models import load_model, parameters
from workloads.models.specs import ModelSpec

# Where a name was cut, the size that it named must agree with the model's parameters.
SIZE_TOLERANCE = 0.15
SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([BT])\b", re.IGNORECASE)
BILLION = {"B": 1e9, "T": 1e12}
DIE = "-die"
# Words that say how a chip is sold, not which one it is.
PACKAGING = re.compile(r"\b(nvidia|huawei|amd|instinct|hgx|dgx|sxm\d?|oam|gpu|npu|nvl\d+|\d+\s*gi?b)\b", re.IGNORECASE)
Recompute = Literal["none", "light", "selective", "full"]


def find_cluster(cells: Cells, chips: int, network: str = "") -> ClusterSpec:
    """Return the first catalogued cluster with the row's chip that holds `chips` chips as sold.

    Raises
    ------
    RowError
        If there is none.
    """
    known = data("names")
    chip = _chip_id(cells.stated("chip"), known["clusters"])
    named = known["networks"].get(network)
    choices = [cluster(named)] if named else [cluster(name) for name in known["clusters"].get(chip, ())]
    if not choices:
        raise RowError(f"no catalogued cluster has chip '{shorten(chip)}'" if chip else "missing: chip")
    fitting = [spec for spec in choices if chips <= (spec.max_chips or spec.chips)]
    if not fitting:
        raise RowError(f"no catalogued cluster of {chip} holds {chips:,} chips")
    if chip in known["assumed"]:
        cells.note("chip", known["assumed"][chip])
    return fitting[0]


def _chip_id(name: str, known: Collection[str]) -> str:
    """Return the id that a chip goes by in the table of clusters: as written, or as the catalogue knows it."""
    if name.lower() in known or not name:
        return name.lower()
    for spelling in (name, PACKAGING.sub(" ", name).strip()):
        try:
            return accelerator(spelling).id
        except TopologyError:
            continue
    return name.lower()


def counted_per_package(cells: Cells, chip: str) -> int:
    """Return how many of the row's chips make one package of the catalogue: two where it counts dies."""
    return accelerator(chip).ranks_per_chip if cells.stated("chip").lower().replace(" ", "-").endswith(DIE) else 1


def packages(cells: Cells, count: int) -> int:
    """Return chips as sold for a count of the row's chip: two dies are one package.

    Raises
    ------
    RowError
        If half a package is left over.
    """
    return _packages(count, counted_per_package(cells, find_cluster(cells, 1).chip))


def packages_of_ranks(cells: Cells, ranks: int) -> int:
    """Return chips as sold for a count of ranks, which are dies on a dual-die package.

    Raises
    ------
    RowError
        If half a package is left over.
    """
    spec = find_cluster(cells, 1)
    return _packages(ranks, accelerator(spec.chip).ranks_per_chip)


def _packages(count: int, dies: int) -> int:
    if count % dies:
        raise RowError(f"{count} dies are not whole packages of {dies}")
    return count // dies


def find_model(cells: Cells, layers: int | None = None) -> ModelSpec:
    """Return the catalogue's model that the row means, without suffixes such as '671B' or '(4 layers)'.

    Raises
    ------
    RowError
        If the catalogue has none, or another one than the row's dimensions say.
    """
    text = cells.stated("model")
    if not text:
        raise RowError("missing: model")
    for cut, name in enumerate(_spellings(text)):
        try:
            model = load_model(name)
        except WorkloadError:
            continue
        if cut and not _has_size(text, model, layers):
            continue
        _check_dimensions(cells, model)
        return model
    raise RowError(f"model unknown: {shorten(text)}")


def _spellings(text: str) -> Iterator[str]:
    """Yield the name as it is, then without remarks in brackets, owner, and words from the end."""
    yield text
    bare = re.sub(r"\([^)]*\)", " ", text).strip()
    words = bare.replace("_", " ").split()
    while words:
        yield " ".join(words)
        if "/" in words[0]:
            yield " ".join([words[0].rpartition("/")[2], *words[1:]])
            yield " ".join([words[0].partition("/")[0], *words[1:]])
        words.pop()


def _has_size(text: str, model: ModelSpec, layers: int | None) -> bool:
    """Tell whether the sizes in a name, if any, are the whole model's or that of the layers run."""
    sizes = [float(number) * BILLION[unit.upper()] for number, unit in SIZE.findall(text)]
    counts = [parameters(model).total]
    if layers:
        cut = {"layers": layers, "dense_layers": min(model.dense_layers, layers)}
        counts.append(parameters(model.model_copy(update=cut)).total)
    return all(any(abs(size / count - 1) < SIZE_TOLERANCE for count in counts) for size in sizes)


def _check_dimensions(cells: Cells, model: ModelSpec) -> None:
    experts = model.experts
    known = {
        "hidden": model.hidden,
        "experts": experts.routed_experts if experts else 0,
        "top_k": experts.top_k if experts else 0,
    }
    for column, value in known.items():
        if cells.stated(column) and cells.number(column) != value:
            raise RowError(f"{column} = {cells.stated(column)}: {model.name} of the catalogue has {value}")


def formats(name: str) -> dict[str, str]:
    """Return the GEMM and dispatch formats of a precision.

    Raises
    ------
    RowError
        If it is unknown.
    """
    found = data("names")["formats"].get(name.lower())
    if found is None:
        raise RowError(f"precision '{shorten(name)}' unknown")
    return dict(found)


def recompute_level(text: str, layers: int) -> Recompute:
    """Return how much is recomputed, from the words of a row.

    Raises
    ------
    RowError
        If only some of the layers are recomputed, or the words are unknown.
    """
    block = re.search(r"block (\d+)", text)
    if block and int(block[1]) >= layers:
        return "full"
    for rule in data("names")["recompute"]:
        if re.search(rule["pattern"], text.lower()):
            if rule["level"]:
                return cast(Recompute, rule["level"])
            raise RowError(f"not supported yet: recompute '{shorten(text)}' (some layers only)")
    raise RowError(f"recompute '{shorten(text)}' unknown")
