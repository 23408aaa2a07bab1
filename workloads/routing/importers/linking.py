"""Sequences put together from the passes of a server that says where each token stands, but not whose it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
_MOST_RUNNING = 1 << 24  # requests in one pass


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one forward pass.

    Parameters
    ----------
    ids
        ``[tokens, layers, top_k]``.
    positions
        ``[tokens]`` place of each token in its sequence.
    lens
        ``[sequences]`` tokens of each sequence in this pass, in order.
    is_decode
        One token for each running request, so a request without one has ended.
    is_prefill
        Prompts only, of which the last may be cut: what goes on is what came last.
    """

    ids: Integers
    positions: Integers
    lens: Integers
    is_decode: bool
    is_prefill: bool


def link(pieces: Iterable[Piece]) -> tuple[Integers, Integers]:
    """Return ids ``[tokens, layers, top_k]`` sorted by sequence, and the tokens of each sequence.

    A run of tokens that starts at position p > 0 continues the sequence that stands at p; of several, the first goes to
    the first, or in a prefill to the latest. Servers keep running requests in order, so only requests that stand at the
    same position when one of them ends can be mistaken for each other.
    """
    ids, owners = [], []
    awaiting = np.empty(0, dtype=np.int64)  # next position of each open sequence
    sequence = np.empty(0, dtype=np.int64)  # its number
    known = 0
    for piece in pieces:
        starts = piece.positions[np.cumsum(piece.lens) - piece.lens].astype(np.int64)
        if piece.is_prefill:
            runs, matched = _pairs(starts, awaiting[::-1])
            matched = awaiting.size - 1 - matched
        else:
            runs, matched = _pairs(starts, awaiting)
        owner = np.full(starts.size, -1, dtype=np.int64)
        owner[runs] = sequence[matched]
        new = owner < 0
        owner[new] = known + np.arange(new.sum())
        known += int(new.sum())
        stays = np.full(awaiting.size, not piece.is_decode)
        stays[matched] = False
        awaiting = np.concatenate([awaiting[stays], starts + piece.lens])
        sequence = np.concatenate([sequence[stays], owner])
        ids.append(piece.ids)
        owners.append(np.repeat(owner, piece.lens))
    owner_of_token = np.concatenate(owners)
    order = np.argsort(owner_of_token, kind="stable")
    return np.concatenate(ids)[order], np.bincount(owner_of_token)


def _pairs(starts: Integers, awaiting: Integers) -> tuple[Integers, Integers]:
    """Pair equal positions, the n-th with the n-th; a start of 0 is a new sequence."""
    _, ours, theirs = np.intersect1d(_keys(starts), _keys(awaiting), assume_unique=True, return_indices=True)
    later = starts[ours] > 0
    return ours[later], theirs[later]


def _keys(values: Integers) -> Integers:
    """Return a number for each value and how often it came before."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    keys = np.empty(values.size, dtype=np.int64)
    keys[order] = ordered * _MOST_RUNNING + np.arange(values.size) - first
    return keys
