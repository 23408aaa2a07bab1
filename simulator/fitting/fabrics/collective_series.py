"""Published measurements of collectives and copies, by the fabric that they describe."""

from collections.abc import Mapping

from simulator.fitting.fabrics.series import Series


def _nccl(chip: str, ranks: str, *ops: str) -> tuple[str, ...]:
    return tuple(f"aic-nccl-{chip}-{op}-{ranks}-*" for op in ops or ("all_reduce", "all_gather", "reduce_scatter"))


_PROTOCOLS = ("fraction", "step_s", "launch_s", "small.fraction", "small.step_s")
_SWITCH = ("in_switch.fraction", "in_switch.step_s")
_NCCL_TABLE = "NCCL tables of ai-dynamo/aiconfigurator"
_NCCL_STEP: Mapping[str, float | str] = {"step_s": "nvlink4/collective", "launch_s": "nvlink4/collective"}
_AS_NCCL = "; steps and launch assumed as NCCL on NVLink4: none published"

COLLECTIVES: tuple[Series, ...] = (
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
)
