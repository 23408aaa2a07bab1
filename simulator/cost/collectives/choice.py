"""Which algorithm a library takes: the fastest that it has, as its tuner would, or the one that the user names."""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simulator.calibration.fabrics import fabric_calibration
from simulator.cost.collectives.direct import direct
from simulator.cost.collectives.exchange import after, pairwise, two_level
from simulator.cost.collectives.groups import by_node, met_tiers
from simulator.cost.collectives.halving_doubling import halving_doubling
from simulator.cost.collectives.in_switch import in_switch, in_switch_tree
from simulator.cost.collectives.price import constants
from simulator.cost.collectives.records import FREE, Algorithm, Calibration, Call, CommCost, Kind
from simulator.cost.collectives.ring import ring
from simulator.cost.collectives.tree import tree
from simulator.errors import UserError
from topologies.network import Network

Price = Callable[[Call], CommCost | None]
KINDS: tuple[Kind, ...] = get_args(Kind)


def _direct(call: Call) -> CommCost | None:
    return pairwise(call) if call.kind == "all_to_all" else direct(call)


def _hierarchical(call: Call) -> CommCost | None:
    """Exchange inside the nodes, then over nodes on every rail at once; the phases follow each other."""
    if call.kind == "all_to_all":
        return two_level(call)
    blocks = by_node(call.network, call.groups)
    nodes, local = blocks.shape[1:]
    if call.kind == "broadcast" or nodes == 1 or local == 1:
        return None
    inner = call.inside(blocks.reshape(-1, local), call.kind, call.size_bytes)
    rails = blocks.transpose(0, 2, 1).reshape(-1, nodes)
    outer = call.inside(rails, call.kind, call.size_bytes / local)
    return after(call, _fastest(inner, IN_NODE), _fastest(outer, OVER_NODES))


PRICES: Mapping[Algorithm, Price] = {
    "ring": ring,
    "tree": tree,
    "halving-doubling": halving_doubling,
    "direct": _direct,
    "hierarchical": _hierarchical,
    "in-switch": in_switch,
    "in-switch-tree": in_switch_tree,
}
ALGORITHMS = tuple(PRICES)
IN_NODE: tuple[Algorithm, ...] = ("ring", "direct")
OVER_NODES: tuple[Algorithm, ...] = ("ring", "halving-doubling")
# What each library has, for collectives over several nodes: NVIDIA/nccl:src/graph/tuning.cc (ring, tree, NVLS, NVLS
# tree; all-to-all is sends); Huawei HCCL user guide, collective algorithms (mesh and ring in the server, ring and H-D_R
# between servers, levels composed; pairwise all-to-all); ROCm/rccl as NCCL without NVLS.
LIBRARIES: Mapping[str, tuple[Algorithm, ...]] = {
    "NCCL": ("ring", "tree", "in-switch", "in-switch-tree"),
    "HCCL": ("ring", "halving-doubling", "hierarchical"),
    "RCCL": ("ring", "tree"),
}


def collective(
    network: Network,
    groups: NDArray[np.int32],
    kind: Kind,
    size_bytes: float,
    calibration: Calibration = fabric_calibration,
    algorithm: Algorithm | Literal["auto"] = "auto",
) -> CommCost:
    """Return the cost of one collective that all `groups` start together.

    Parameters
    ----------
    groups
        ``[groups, ranks]`` members, each rank in one group at most; groups that share links slow each other down.
    size_bytes
        Buffer per rank, see the package's docstring.
    calibration
        Constants by fabric id.
    algorithm
        `auto` is the fastest that the fabric's library has.

    Raises
    ------
    UserError
        If the algorithm named can't do this collective in these groups.
    """
    call = Call(network, groups, kind, size_bytes, calibration)
    if call.members == 1 or size_bytes <= 0:
        return FREE
    if algorithm == "auto":
        return _fastest(call, _offered(call))
    cost = PRICES[algorithm](call)
    if cost is None:
        able = [name for name, price in PRICES.items() if price(call) is not None]
        raise UserError(
            f"network.{kind} = {algorithm!r}: can't do this among {call.members} ranks here; one of auto, "
            f"{', '.join(able)}"
        )
    return cost


def _offered(call: Call) -> tuple[Algorithm, ...]:
    """Return what the library may take.

    Every rank sends to every other also where each pair has a link of its own; a tree is for several nodes, in one
    node NCCL's is a chain that never beats the ring.
    """
    if call.kind == "all_to_all":
        return ("direct", "hierarchical")
    meshed = all(np.isfinite(tier.pair_bytes_per_s) for tier in met_tiers(call.network, call.groups))
    single = len(np.unique(call.network.node[call.groups[0]])) == 1
    own = tuple(name for name in LIBRARIES[constants(call, 0).library] if not (single and name == "tree"))
    return (*own, "direct") if meshed else own


def _fastest(call: Call, names: tuple[Algorithm, ...]) -> CommCost:
    """Return the fastest of the algorithms that can do it; a ring always can, or a direct all-to-all."""
    costs = [cost for name in names if (cost := PRICES[name](call)) is not None]
    return min(costs, key=lambda cost: cost.time_s)
