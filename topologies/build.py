"""From a description to the reduced network in one step, remembered."""

from collections.abc import Mapping
from functools import lru_cache

from topologies.generators import build_graph
from topologies.network import Network
from topologies.reduction import reduce_graph
from topologies.specs import Accelerator, ClusterSpec, Fabric


def network(spec: ClusterSpec, chip: Accelerator, fabrics: Mapping[str, Fabric], chips: int) -> Network:
    """Return the reduced network of `chips` chips of a cluster; equal descriptions share one (read-only) result.

    Parameters
    ----------
    spec, chip, fabrics, chips
        As for `topologies.generators.build_graph`.

    Raises
    ------
    TopologyError
        If the description contradicts itself, or cannot hold that many chips.
    """
    used = {spec.scale_up.fabric, spec.scale_out.fabric if spec.scale_out else spec.scale_up.fabric}
    return _network(spec, chip, tuple((name, fabrics[name]) for name in sorted(used) if name in fabrics), chips)


@lru_cache(maxsize=32)
def _network(spec: ClusterSpec, chip: Accelerator, fabrics: tuple[tuple[str, Fabric], ...], chips: int) -> Network:
    return reduce_graph(build_graph(spec, chip, dict(fabrics), chips))
