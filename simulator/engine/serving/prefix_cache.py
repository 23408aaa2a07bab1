"""A cache of prompt prefixes: blocks by hash, the least recently used leave first."""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class PrefixCache:
    """Prefix blocks of prompts.

    Parameters
    ----------
    blocks
        Blocks that it holds, at most; 0 caches nothing.
    """

    def __init__(self, blocks: int) -> None:
        self.capacity = blocks
        self.held: OrderedDict[int, None] = OrderedDict()

    def hit(self, hashes: Ints) -> int:
        """Return how many of a prompt's first blocks are held."""
        found = 0
        for value in hashes.tolist():
            if value not in self.held:
                break
            found += 1
        return found

    def use(self, hashes: Ints) -> None:
        """Hold these blocks, each the more recent the earlier it stands in the prompt: a prefix outlives its ends."""
        for value in reversed(hashes.tolist()):
            self.held[value] = None
            self.held.move_to_end(value)
        while len(self.held) > self.capacity:
            self.held.popitem(last=False)
