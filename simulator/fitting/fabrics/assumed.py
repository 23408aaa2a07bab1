"""Fabrics that borrow constants from a relative, for want of measurements of their own."""

from simulator.calibration.fabrics import PARTS
from simulator.fitting.fabrics.series import Assumption, Part

_AIV = "vector cores carry it, the cube cores stay free"
_NEVER = "HCCL on this fabric has no published figure"


def _all_as(fabric: str, like: str, because: str, *parts: Part) -> tuple[Assumption, ...]:
    return tuple(Assumption(fabric, part, f"{like}/{part}", because) for part in parts or PARTS)


ASSUMED: tuple[Assumption, ...] = (
    *_all_as("nvlink4-h800", "nvlink4", "same switches, fewer links", "collective", "copies"),
    *_all_as("nvlink3", "nvlink4", "same libraries, no such figure for A100", "copies", "normal", "low_latency"),
    *_all_as("nvlink3-a800", "nvlink4-h800", "same port rate, no DeepEP figure for A800", "normal", "low_latency"),
    *_all_as("nvlink3-a800", "nvlink3", "same switches, fewer links", "copies"),
    *_all_as("nvlink5", "nvl72", "same links", "copies"),
    *_all_as("infinity-fabric", "nvlink4", "no figure of copies", "copies"),
    *_all_as("ib-400g", "roce-200g", "RDMA verbs on another network, no figure of copies", "copies"),
    Assumption(
        "ub1",
        "collective",
        "hccs-a2/collective",
        f"{_NEVER}; step as a remote write over UB (arXiv:2506.12708v2 section 3.2)",
        {"step_s": 2.1e-6},
    ),
    Assumption("roce-200g", "collective", "ib-400g/collective", _NEVER),
    Assumption("hccs-a2", "normal", "hccs-a2/low_latency", "no figure in normal mode; same library"),
    Assumption("roce-200g", "normal", "ib-400g/normal", f"no figure over RoCE on Ascend; {_AIV}", {"cores": 0.0}),
    Assumption("roce-200g", "low_latency", "ib-400g/low_latency", "no figure over RoCE on Ascend"),
    *_all_as("roce-2x200g", "roce-200g", "two of its ports", "collective", "normal", "low_latency"),
    *_all_as("roce-400g", "ib-400g", "same NIC rate and libraries, no clean RoCE figure"),
    *_all_as("ib-200g", "ib-400g", "previous generation, fractions assumed equal"),
    *_all_as("ib-800g", "ib-400g", "next generation, fractions assumed equal"),
    *_all_as("uboe-800g", "roce-2x200g", "announced, no figure"),
    *_all_as("ub2", "ub1", "announced successor, fractions assumed equal"),
)
