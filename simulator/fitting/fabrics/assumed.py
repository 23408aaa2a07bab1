"""Fabrics that borrow constants from a relative, for want of measurements of their own."""

from simulator.fitting.fabrics.series import Assumption, Part

_AIV = "vector cores carry it, the cube cores stay free"


def _all_as(fabric: str, like: str, because: str, *parts: Part) -> tuple[Assumption, ...]:
    chosen: tuple[Part, ...] = parts or ("collective", "normal", "low_latency")
    return tuple(Assumption(fabric, part, f"{like}/{part}", because) for part in chosen)


ASSUMED: tuple[Assumption, ...] = (
    *_all_as("nvlink4-h800", "nvlink4", "same switches, fewer links", "collective"),
    *_all_as("nvlink3", "nvlink4", "same libraries, no DeepEP figure for A100", "normal", "low_latency"),
    *_all_as("nvlink3-a800", "nvlink4-h800", "same port rate, no DeepEP figure for A800", "normal", "low_latency"),
    Assumption("hccs-a2", "normal", "hccs-a2/low_latency", "no figure in normal mode; same library"),
    Assumption("roce-200g", "normal", "ib-400g/normal", f"no figure over RoCE on Ascend; {_AIV}", {"cores": 0.0}),
    Assumption("roce-200g", "low_latency", "ib-400g/low_latency", "no figure over RoCE on Ascend"),
    *_all_as("roce-2x200g", "roce-200g", "two of its ports; HIXL reaches the same 22.6 of 25 GB/s per die"),
    *_all_as("roce-400g", "ib-400g", "same NIC rate and libraries, no clean RoCE figure"),
    *_all_as("ib-200g", "ib-400g", "previous generation, fractions assumed equal"),
    *_all_as("ib-800g", "ib-400g", "next generation, fractions assumed equal"),
    *_all_as("uboe-800g", "roce-2x200g", "announced, no figure"),
    *_all_as("ub2", "ub1", "announced successor, fractions assumed equal"),
)
