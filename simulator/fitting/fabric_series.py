"""Which published measurements describe which fabric, and which fabrics borrow from a relative."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["collective", "normal", "low_latency"]
Rows = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Series:
    """Rows of one library on one fabric that share their constants.

    Parameters
    ----------
    fabric, part
        What is calibrated.
    rows
        Ids of rows, `*` for anything, by the catalogue cluster that they are replayed on.
    free
        Constants to fit; `fixed_s` is one value for dispatch and combine.
    source
        Where rows and fixed constants come from.
    fixed
        Constants that the rows can't tell: a value, or `fabric/part` that lends its own.
    scale_up
        Inner fabric where it is not the cluster's.
    once_per_rank
        Low-latency library that sends one copy per rank, not one per expert.
    """

    fabric: str
    part: Part
    rows: Rows
    free: tuple[str, ...]
    source: str
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    scale_up: str = ""
    once_per_rank: bool = False


@dataclass(frozen=True)
class Assumption:
    """A fabric without measurements of its own takes the constants of `like`, a `fabric/part`, but for `save`."""

    fabric: str
    part: Part
    like: str
    because: str
    save: Mapping[str, float] = field(default_factory=dict)


def _nccl(chip: str, ranks: str, *ops: str) -> tuple[str, ...]:
    return tuple(f"aic-nccl-{chip}-{op}-{ranks}-*" for op in ops or ("all_reduce", "all_gather", "reduce_scatter"))


_PROTOCOLS = ("fraction", "step_s", "launch_s", "small.fraction", "small.step_s")
_SWITCH = ("in_switch.fraction", "in_switch.step_s")
_APART = ("fraction", "dispatch_fixed_s", "combine_fixed_s")
_NCCL_TABLE = "NCCL tables of ai-dynamo/aiconfigurator"
_NCCL_STEP: Mapping[str, float | str] = {"step_s": "nvlink4/collective", "launch_s": "nvlink4/collective"}
_AS_NCCL = "; steps and launch assumed as NCCL on NVLink4: none published"
_QUIET: Mapping[str, float | str] = {"doubling_s": 0.0, "core_share": 0.0}
_SM_20: Mapping[str, float | str] = {"doubling_s": 0.0, "core_share": 20 / 132}
_HOOKS = "no cores during the wire time (deepseek-ai/DeepEP:README.md, receive hook)"
_DEEPEP = "deepseek-ai/DeepEP:docs/legacy.md"
_SMS = "20 of 132 SMs (arXiv:2412.19437 section 3.2.2)"
_AIV = "vector cores carry it, the cube cores stay free"
_CANN = "CANN EP on CloudMatrix384 (arXiv:2506.12708v2 Table 7), DeepEP-Ascend (sgl-project/sgl-kernel-npu)"

SERIES: tuple[Series, ...] = (
    Series(
        "nvlink4",
        "collective",
        {
            "h200-cluster": (
                *_nccl("h100_sxm", "g[48]", "all_reduce", "all_gather"),
                *_nccl("h200_sxm", "g8", "all_reduce", "all_gather"),
                "mleng-h200-nvls-*",
                "mleng-h200-16g-*",
            )
        },
        (*_PROTOCOLS, *_SWITCH),
        f"{_NCCL_TABLE}; stas00/ml-engineering (NVLS); groups of two, which get fewer channels, left out",
    ),
    Series("nvlink3", "collective", {"a100-server": _nccl("a100_sxm", "g8")}, _PROTOCOLS, _NCCL_TABLE),
    Series(
        "nvlink5",
        "collective",
        {"b200-cluster": (*_nccl("b200_sxm", "g8"), "mleng-b200-nvls-*")},
        (*_PROTOCOLS, *_SWITCH),
        f"{_NCCL_TABLE}; stas00/ml-engineering",
    ),
    Series(
        "nvl72",
        "collective",
        {"gb200-nvl72": _nccl("gb200", "g4")},
        _PROTOCOLS,
        f"{_NCCL_TABLE} (groups of four); reduction in the switch assumed as NVLink5",
        dict.fromkeys(_SWITCH, "nvlink5/collective"),
    ),
    Series(
        "nvlink3-a800",
        "collective",
        {"a100-server": ("limulidae-a800-*",)},
        ("fraction",),
        "gameofdimension/limulidae:README.md (community; large messages, size not stated); steps and launch as NVLink3",
        {"step_s": "nvlink3/collective", "launch_s": "nvlink3/collective"},
        scale_up="nvlink3-a800",
    ),
    Series(
        "infinity-fabric",
        "collective",
        {"mi300x-server": ("mleng-mi300x-ar-*",)},
        ("fraction",),
        f"RCCL, stas00/ml-engineering{_AS_NCCL}",
        _NCCL_STEP,
    ),
    Series(
        "hccs-a2",
        "collective",
        {"atlas-800t-a2-server": ("limulidae-910b-all-gather-*",)},
        ("fraction",),
        f"HCCL all-gather, gameofdimension/limulidae:README.md (community; size not stated){_AS_NCCL}",
        _NCCL_STEP,
    ),
    Series(
        "ub1",
        "collective",
        {"cloudmatrix384": ("hixl-a3-*-hccs-d2d-*",)},
        ("fraction",),
        "HIXL copies between two dies, not collectives; step as a remote write over UB (arXiv:2506.12708v2 "
        "section 3.2), launch assumed as NCCL on NVLink4: none published",
        {"step_s": 2.1e-6, "launch_s": "nvlink4/collective"},
    ),
    Series(
        "ib-400g",
        "collective",
        {"h200-cluster": ("mleng-h200-4n-ar-4g-ring", "nccltests232-h100-ar-*")},
        ("fraction", "step_s"),
        "stas00/ml-engineering (ring); NVIDIA/nccl-tests issue 232 (community, tree of two); launch as NVLink4",
        {"launch_s": "nvlink4/collective"},
    ),
    Series(
        "roce-200g",
        "collective",
        {"ascend-910b-1024": ("hixl-a2-inter-read-rdma-*",)},
        ("fraction",),
        "HIXL copies between two servers, not collectives; launch as NCCL on NVLink4, steps as NCCL on InfiniBand",
        {"step_s": "ib-400g/collective", "launch_s": "nvlink4/collective"},
    ),
    Series(
        "nvlink4",
        "normal",
        {"h200-cluster": ("aic-deepep-normal-h200-*-ep8-*",)},
        ("fraction", "fixed_s"),
        f"DeepEP table of ai-dynamo/aiconfigurator; {_SMS}",
        _SM_20,
    ),
    Series(
        "nvlink4-h800",
        "normal",
        {"h800-cluster": ("deepep-v1-normal-*-ep8",)},
        ("fraction",),
        f"{_DEEPEP}; fixed time as DeepEP on NVLink4; {_SMS}",
        {"fixed_s": "nvlink4/normal", **_SM_20},
    ),
    Series(
        "nvlink5",
        "normal",
        {"b200-cluster": ("hybridep-b200-deepep-api-*-sm24",)},
        ("fraction", "fixed_s"),
        "DeepEP with 24 of 148 SMs in deepseek-ai/DeepEP branch hybrid-ep, times with host code",
        {"doubling_s": 0.0, "core_share": 24 / 148},
    ),
    Series(
        "nvl72",
        "normal",
        {"gb200-nvl72": ("hybridep-gb200-hybridep-api-*-sm32",)},
        ("fraction", "fixed_s"),
        "Hybrid-EP with 32 of 148 SMs in deepseek-ai/DeepEP branch hybrid-ep, times with host code",
        {"doubling_s": 0.0, "core_share": 32 / 148},
    ),
    Series(
        "infinity-fabric",
        "normal",
        {"mi300x-server": ("mori-mi300x-*-ep8",)},
        ("fraction", "fixed_s"),
        "ROCm/mori:README.md; cores taken are not published: DeepEP's share assumed",
        _SM_20,
    ),
    Series(
        "ib-400g",
        "normal",
        {
            "h800-cluster": (
                "deepep-v1-normal-*-ep16",
                "deepep-v1-normal-apr25-*-ep32",
                "deepep-v1-normal-*-ep64",
            ),
            "h200-cluster": (
                "aic-deepep-normal-h200-*-ep16-*-sm2?",
                "aic-deepep-normal-h200-*-ep32-*-sm2?",
            ),
        },
        ("fraction", "fixed_s", "overlap_exponent"),
        f"{_DEEPEP}; DeepEP table of ai-dynamo/aiconfigurator, 20 or 24 SMs, notify time added; {_SMS}",
        _SM_20,
    ),
    Series(
        "nvlink4",
        "low_latency",
        {"h200-cluster": ("aic-deepep-ll-h100-*-ep8-*", "aic-deepep-ll2-h?00_sxm-*")},
        _APART,
        f"DeepEP tables of ai-dynamo/aiconfigurator; {_HOOKS}",
        _QUIET,
    ),
    Series(
        "nvlink4-h800",
        "low_latency",
        {"h800-cluster": ("deepep-v1-ll-jun25-*-ep8",)},
        ("fraction", "fixed_s"),
        f"{_DEEPEP}, table of June 2025: two rows for two constants; {_HOOKS}",
        _QUIET,
    ),
    Series(
        "nvlink5",
        "low_latency",
        {"b200-cluster": ("aic-deepep-ll2-b200_sxm-*",)},
        ("fraction", "fixed_s"),
        f"DeepEP table of ai-dynamo/aiconfigurator, combine only; {_HOOKS}",
        _QUIET,
    ),
    Series(
        "nvl72",
        "low_latency",
        {
            "gb200-nvl72": (
                "aic-trtllm-gb200-nvlinktwosided-alltoall_dispatch-fp8-*",
                "aic-trtllm-gb200-nvlinktwosided-alltoall_combine-bfloat16-*",
            )
        },
        (*_APART, "doubling_s"),
        "TensorRT-LLM two-sided NVLink tables of ai-dynamo/aiconfigurator (one copy per rank); no cores taken: assumed",
        {"core_share": 0.0},
        once_per_rank=True,
    ),
    Series(
        "infinity-fabric",
        "low_latency",
        {"mi300x-server": ("mori-mi300x-*-ep8",)},
        ("fraction", "fixed_s"),
        "ROCm/mori:README.md, the kernels of normal mode (one copy per rank); cores taken assumed none",
        _QUIET,
        once_per_rank=True,
    ),
    Series(
        "hccs-a2",
        "low_latency",
        {"atlas-800t-a2-server": ("sglnpu-a2-ll-*",)},
        ("fraction", "fixed_s"),
        f"sgl-project/sgl-kernel-npu PR 176 (community): two rows for two constants; {_AIV}",
        _QUIET,
    ),
    Series(
        "ub1",
        "low_latency",
        {"cloudmatrix384": ("cm384-fused*", "reference-cann-ep-*", "sglnpu-a3-ll-*")},
        (*_APART, "doubling_s"),
        f"{_CANN}; EP8 of the former is a secondary transcription; {_AIV}",
        {"core_share": 0.0},
    ),
    Series(
        "ub1",
        "normal",
        {"cloudmatrix384": ("sglnpu-a3-normal-*",)},
        ("fraction",),
        f"DeepEP-Ascend (sgl-project/sgl-kernel-npu); fixed times as low-latency mode; {_AIV}",
        {
            "dispatch_fixed_s": "ub1/low_latency",
            "combine_fixed_s": "ub1/low_latency",
            "doubling_s": "ub1/low_latency",
            "core_share": 0.0,
        },
    ),
    Series(
        "ib-400g",
        "low_latency",
        {
            "h800-cluster": tuple(f"deepep-v1-ll-jun25-*-ep{ranks}" for ranks in (16, 32, 64)),
            "h200-cluster": ("aic-deepep-ll-h100-*-ep16-*", "aic-deepep-ll-h100-*-ep64-*"),
        },
        (*_APART, "doubling_s"),
        f"{_DEEPEP}, table of June 2025 (NVLink + RDMA); DeepEP table of ai-dynamo/aiconfigurator; {_HOOKS}",
        {"core_share": 0.0},
    ),
)


def _all_as(fabric: str, like: str, because: str, *parts: Part) -> tuple[Assumption, ...]:
    chosen: tuple[Part, ...] = parts or ("collective", "normal", "low_latency")
    return tuple(Assumption(fabric, part, f"{like}/{part}", because) for part in chosen)


ASSUMED: tuple[Assumption, ...] = (
    *_all_as("nvlink4-h800", "nvlink4", "same switches, fewer links", "collective"),
    *_all_as("nvlink3", "nvlink4", "same libraries, no DeepEP figure for A100", "normal", "low_latency"),
    *_all_as("nvlink3-a800", "nvlink4-h800", "same port rate, no DeepEP figure for A800", "normal", "low_latency"),
    Assumption("hccs-a2", "normal", "hccs-a2/low_latency", "no figure in normal mode; same library"),
    Assumption("roce-200g", "normal", "ib-400g/normal", f"no figure over RoCE on Ascend; {_AIV}", {"core_share": 0.0}),
    Assumption("roce-200g", "low_latency", "ib-400g/low_latency", "no figure over RoCE on Ascend"),
    *_all_as("roce-2x200g", "roce-200g", "two of its ports; HIXL reaches the same 22.6 of 25 GB/s per die"),
    *_all_as("roce-400g", "ib-400g", "same NIC rate and libraries, no clean RoCE figure"),
    *_all_as("ib-200g", "ib-400g", "previous generation, fractions assumed equal"),
    *_all_as("ib-800g", "ib-400g", "next generation, fractions assumed equal"),
    *_all_as("uboe-800g", "roce-2x200g", "announced, no figure"),
    *_all_as("ub2", "ub1", "announced successor, fractions assumed equal"),
)
