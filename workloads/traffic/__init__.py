"""Token copies between ranks and nodes, from recorded expert sets and a placement."""

from workloads.traffic.batches import held_out, own_sequences, tokens_per_expert
from workloads.traffic.matrices import Traffic, traffic

__all__ = ["Traffic", "held_out", "own_sequences", "tokens_per_expert", "traffic"]
