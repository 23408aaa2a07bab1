"""Failed and degraded parts of a cluster, as an operator names them."""

from topologies.faults.apply import Damage, damage
from topologies.faults.text import Fault, lost_nodes, read_faults

__all__ = ["Damage", "Fault", "damage", "lost_nodes", "read_faults"]
