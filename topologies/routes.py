"""Routes on a plane of any shape: explicit links, shortest paths, and the bytes that traffic puts on each link.

A plane that is neither a full mesh nor a forest (torus, dragonfly, mesh of several dimensions, parallel switches,
whatever damage left over) keeps its directed links. Traffic takes shortest paths by hops. *ECMP* splits it equally at
each vertex over all links that bring it nearer; *static* takes one of them, always the same: the one to the vertex
whose number is nearest, which on a torus or mesh numbered along its first dimension first is dimension order.

No path is ever stored. Traffic to a few hundred destinations at a time is pushed down the layers of equal distance,
all destinations at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Policy = Literal["ecmp", "static"]
CHUNK = 2**23  # links x destinations held at once


@dataclass(frozen=True, slots=True)
class Routes:
    """Directed links of one plane, sorted by where they start and then by preference.

    Parameters
    ----------
    names
        Vertices; the ranks of the cluster come first, in the order of their numbers.
    source, target
        ``[links]`` vertex numbers.
    bytes_per_s, latency_s
        ``[links]`` capacity [bytes/s] and time of a small message [s].
    policy
        ``ecmp`` or ``static``, see the module's docstring.
    """

    names: tuple[str, ...]
    source: Ints
    target: Ints
    bytes_per_s: Floats
    latency_s: Floats
    policy: Policy = "ecmp"

    def name(self, link: int) -> str:
        """Return the ends of a link."""
        return f"{self.names[self.source[link]]} -> {self.names[self.target[link]]}"


@dataclass(frozen=True, slots=True)
class _Steps:
    """Hops that bring traffic nearer to one of some destinations, far hops first: columns `[steps]`.

    `start` and `end` are keys: place of the destination x vertices + vertex.
    """

    link: Ints
    place: Ints
    start: Ints
    end: Ints
    share: Floats
    layer_ends: Ints

    def layers(self) -> Iterator[slice]:
        begin = 0
        for end in self.layer_ends.tolist():
            yield slice(begin, end)
            begin = end


def build_routes(
    names: tuple[str, ...], source: Ints, target: Ints, bytes_per_s: Floats, latency_s: Floats, policy: Policy
) -> Routes:
    """Return routes over links given in any order, see `Routes`."""
    order = np.lexsort((target, np.abs(target - source), source))
    return Routes(names, source[order], target[order], bytes_per_s[order], latency_s[order], policy)


def distances(routes: Routes, targets: NDArray[Any]) -> NDArray[np.int32]:
    """Return the hops from every vertex to each target, ``[vertices, targets]``; -1 where there is no way.

    Parameters
    ----------
    targets
        ``[targets]`` vertex numbers.
    """
    hops = np.full((len(routes.names), len(targets)), -1, dtype=np.int32)
    hops[targets, np.arange(len(targets))] = 0
    starts = np.flatnonzero(np.diff(routes.source, prepend=-1))
    froms = routes.source[starts]
    for depth in range(len(routes.names)):
        near = (hops == depth)[routes.target]
        fresh = np.logical_or.reduceat(near, starts, axis=0) & (hops[froms] < 0)
        if not fresh.any():
            break
        rows, columns = np.nonzero(fresh)
        hops[froms[rows], columns] = depth + 1
    return hops


def link_bytes(
    routes: Routes,
    source: NDArray[Any],
    target: NDArray[Any],
    size_bytes: Floats,
    column: NDArray[Any] | None = None,
    columns: int = 1,
) -> Floats:
    """Return the bytes that flows put on every link, ``[links, columns]``.

    Parameters
    ----------
    source, target, size_bytes
        ``[flows]`` ranks that can reach each other, and bytes.
    column
        ``[flows]`` column that a flow is counted under; None for one column.
    """
    total = np.zeros(routes.source.size * columns)
    keys = target.astype(np.int64) * columns + (0 if column is None else column)
    for flows, place, ends in _chunks(routes, keys):
        steps = _steps(routes, ends // columns)
        at = place * len(routes.names) + source[flows]
        waiting: Floats = np.bincount(at, size_bytes[flows], ends.size * len(routes.names)).astype(np.float64)
        moved = _push(steps, waiting)
        total += np.bincount(steps.link * columns + (ends % columns)[steps.place], moved, total.size)
    return total.reshape(-1, columns)


def crossing(routes: Routes, source: NDArray[Any], target: NDArray[Any], link: int) -> Floats:
    """Return the share of each flow that takes one link, ``[flows]``."""
    return _gathered(routes, source, target, np.arange(routes.source.size) == link, worst=False)


def path_latency_s(routes: Routes, source: NDArray[Any], target: NDArray[Any]) -> Floats:
    """Return the time of a small message of each flow on the slowest of its routes, ``[flows]`` [s]."""
    return _gathered(routes, source, target, routes.latency_s, worst=True)


def path_links(routes: Routes, source: NDArray[Any], target: NDArray[Any]) -> tuple[Ints, Ints, Floats]:
    """Return flow, link and the share of the flow that takes the link, a row for each link that a flow takes.

    Parameters
    ----------
    source, target
        ``[flows]`` ranks.
    """
    pairs, flow_of = np.unique(source.astype(np.int64) * len(routes.names) + target, return_inverse=True)
    rows = [np.zeros((2, 0), dtype=np.int64)]
    shares = [np.zeros(0)]
    ends = pairs % len(routes.names)
    for some in np.array_split(np.arange(pairs.size), max(1, -(-pairs.size * routes.source.size // CHUNK))):
        steps = _steps(routes, ends[some])
        waiting = np.zeros(some.size * len(routes.names))
        waiting[np.arange(some.size) * len(routes.names) + pairs[some] // len(routes.names)] = 1.0
        moved = _push(steps, waiting)
        used = np.flatnonzero(moved)
        rows.append(np.stack([some[steps.place[used]], steps.link[used]]))
        shares.append(moved[used])
    pair, link = np.concatenate(rows, axis=1)
    share = np.concatenate(shares)
    order = np.argsort(pair, kind="stable")
    count = np.bincount(pair, minlength=pairs.size)
    first = np.cumsum(count) - count
    own = count[flow_of]
    flow = np.repeat(np.arange(source.size), own)
    within = np.arange(flow.size) - np.repeat(np.cumsum(own) - own, own)
    taken = order[first[flow_of][flow] + within]
    return flow, link[taken], share[taken]


def _chunks(routes: Routes, keys: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield flow numbers, the place of each flow's key among the chunk's, and the chunk's keys."""
    ends, place = np.unique(keys, return_inverse=True)
    width = max(1, CHUNK // routes.source.size)
    if ends.size <= width:
        yield np.arange(keys.size), place, ends
        return
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(0, ends.size + width, width))
    for index, (low, high) in enumerate(pairwise(bounds.tolist())):
        flows = order[low:high]
        first = index * width
        yield flows, place[flows] - first, ends[first : first + width]


def _steps(routes: Routes, targets: Ints) -> _Steps:
    """Return the hops of all shortest paths to the targets, or of one path each."""
    hops = distances(routes, targets)
    vertices = len(routes.names)
    far = hops[routes.source]
    place, link = np.nonzero(((far > 0) & (hops[routes.target] == far - 1)).T)
    start = place * vertices + routes.source[link]
    first = np.flatnonzero(np.diff(start, prepend=-1))
    if routes.policy == "static":
        place, link, start = place[first], link[first], start[first]
        share = np.ones(first.size)
    else:
        count = np.diff(first, append=start.size)
        share = np.repeat(1.0 / count, count)
    depth = hops[routes.source[link], place]
    order = np.argsort(-depth, kind="stable")
    layer_ends = np.cumsum(np.bincount(depth.max(initial=0) - depth))
    end = place * vertices + routes.target[link]
    return _Steps(link[order], place[order], start[order], end[order], share[order], layer_ends)


def _push(steps: _Steps, waiting: Floats) -> Floats:
    """Move what waits at each key to the destinations; return what each step carried, ``[steps]``."""
    moved = np.empty(steps.link.size)
    for layer in steps.layers():
        moved[layer] = waiting[steps.start[layer]] * steps.share[layer]
        np.add.at(waiting, steps.end[layer], moved[layer])
    return moved


def _gathered(routes: Routes, source: NDArray[Any], target: NDArray[Any], on_link: NDArray[Any], worst: bool) -> Floats:
    """Sum a figure of the links along each flow's routes: of the worst route, or the mean over where traffic goes."""
    result = np.zeros(source.size)
    for flows, place, ends in _chunks(routes, target.astype(np.int64)):
        steps = _steps(routes, ends)
        value = np.zeros(ends.size * len(routes.names))
        for layer in reversed(list(steps.layers())):
            onward = on_link[steps.link[layer]] + value[steps.end[layer]]
            if worst:
                np.maximum.at(value, steps.start[layer], onward)
            else:
                np.add.at(value, steps.start[layer], onward * steps.share[layer])
        result[flows] = value[place * len(routes.names) + source[flows]]
    return result
