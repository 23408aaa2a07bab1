"""The entry of a schedule."""

from typing import NamedTuple


class Chunk(NamedTuple):
    """One micro-batch on one part of the model: what runs, of which direction and micro-batch.

    `kind` is forward `F`, backward `B` (input and weight gradients), or its halves `I` (input gradient) and `W`
    (weight gradient). `FB` is a forward and a backward of different micro-batches whose communication hides behind each
    other's compute; the `paired_` fields are its backward's. Micro-batches are counted within their direction, and
    `turn` counts the model parts of the rank.
    """

    kind: str
    direction: int
    micro_batch: int
    paired_direction: int = -1
    paired_micro_batch: int = -1
    turn: int = 0
    paired_turn: int = 0


Orders = list[list[Chunk]]
