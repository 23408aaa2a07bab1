"""Pieces of a plane that are not joined to each other, one of each kind: racks of a thousand are mostly alike."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from topologies.routes import Routes

Ints = NDArray[np.int64]


def pieces(routes: Routes) -> Ints:
    """Return the lowest vertex number of the piece that each vertex belongs to, ``[vertices]``."""
    label, before = np.arange(len(routes.names)), None
    while before is None or (label != before).any():
        before = label.copy()
        np.minimum.at(label, routes.source, label[routes.target])
    return label


def one_of_each(routes: Routes, ranks: int, label: Ints) -> tuple[Routes, int]:
    """Return the routes of one piece of each kind, its ranks first, and how many ranks these pieces have.

    Pieces are of one kind if they have equal links, in the same order of preference, once their vertices are numbered
    from 0.

    Parameters
    ----------
    ranks
        Vertices that are ranks.
    label
        As `pieces` returns it.
    """
    within = _place_in_group(label)
    own = label[routes.source]
    order = np.argsort(own, kind="stable")
    size, ranked = np.bincount(label), np.bincount(label[:ranks], minlength=label.size)
    table = np.empty((order.size, 4))
    for column, each in enumerate((within[routes.source], within[routes.target], routes.bytes_per_s, routes.latency_s)):
        table[:, column] = each[order]
    kinds: dict[tuple[int, int, bytes], int] = {}
    counts = np.bincount(own, minlength=label.size)
    first = np.flatnonzero(counts)
    for piece, rows in zip(first.tolist(), np.split(table, np.cumsum(counts[first])[:-1]), strict=True):
        kinds.setdefault((int(size[piece]), int(ranked[piece]), rows.tobytes()), piece)
    chosen = np.zeros(label.size, dtype=bool)
    chosen[list(kinds.values())] = True
    kept = np.flatnonzero(chosen[label])
    renamed = np.full(label.size, -1)
    renamed[kept] = np.arange(kept.size)
    links = renamed[routes.source] >= 0
    taken = replace(
        routes,
        names=tuple(routes.names[i] for i in kept.tolist()),
        source=renamed[routes.source[links]],
        target=renamed[routes.target[links]],
        bytes_per_s=routes.bytes_per_s[links],
        latency_s=routes.latency_s[links],
    )
    return taken, int((kept < ranks).sum())


def _place_in_group(label: Ints) -> Ints:
    """Return each vertex's place among those of its label, ``[vertices]``."""
    order = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[order], prepend=-1))
    place = np.empty_like(label)
    place[order] = np.arange(label.size) - np.repeat(starts, np.diff(starts, append=label.size))
    return place
