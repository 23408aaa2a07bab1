"""From a cluster's description to its graph, one module per shape."""

from topologies.generators.assemble import build_graph
from topologies.generators.checks import MAX_RANKS

__all__ = ["MAX_RANKS", "build_graph"]
