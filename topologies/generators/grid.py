"""Pairs of neighbours on grids: full meshes and rings along every dimension.

Points are numbered along the first dimension first. Of a grid that is not full, the first `count` points are there,
and a pair is a pair if both its ends are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """`[pairs]` lower and higher point, dimension along which they differ, and links between them."""

    low: Ints
    high: Ints
    dimension: Ints
    links: Ints


def mesh_pairs(dims: Sequence[int], count: int) -> Pairs:
    """Return all pairs of points that differ in one coordinate."""
    found = []
    for dimension, (size, stride) in enumerate(zip(dims, _strides(dims), strict=True)):
        at = np.arange(count)
        room = size - 1 - at // stride % size  # points above in this dimension
        for step in range(1, size):
            low = at[(room >= step) & (at + step * stride < count)]
            found.append((low, low + step * stride, dimension, 1))
    return _pairs(found)


def torus_pairs(dims: Sequence[int], count: int) -> Pairs:
    """Return all pairs of neighbours; the ends of a dimension are neighbours too, and of two points, twice."""
    found = []
    for dimension, (size, stride) in enumerate(zip(dims, _strides(dims), strict=True)):
        at = np.arange(count)
        place = at // stride % size
        low = at[(place + 1 < size) & (at + stride < count)]
        found.append((low, low + stride, dimension, 2 if size == 2 else 1))
        ends = at[(place == 0) & (at + (size - 1) * stride < count)]
        if size > 2:
            found.append((ends, ends + (size - 1) * stride, dimension, 1))
    return _pairs(found)


def _strides(dims: Sequence[int]) -> list[int]:
    return [int(np.prod(dims[:index], dtype=np.int64)) for index in range(len(dims))]


def _pairs(found: Sequence[tuple[Ints, Ints, int, int]]) -> Pairs:
    columns = [(low, high, np.full(low.size, d), np.full(low.size, links)) for low, high, d, links in found]
    return Pairs(*(np.concatenate([np.empty(0, dtype=np.int64), *column]) for column in zip(*columns, strict=True)))
