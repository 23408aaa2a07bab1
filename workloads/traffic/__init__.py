"""Token copies between ranks and nodes, from recorded expert sets and a placement."""

from workloads.traffic.batches import own_sequences
from workloads.traffic.matrices import Traffic, traffic

__all__ = ["Traffic", "own_sequences", "traffic"]
