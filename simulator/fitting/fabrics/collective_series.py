"""Published measurements of collectives and of copies, by the fabric that they describe."""

from collections.abc import Mapping

from simulator.fitting.fabrics.series import Series

Fixed = Mapping[str, float | str]


def _nccl(chip: str, ranks: str, *ops: str) -> tuple[str, ...]:
    named = ops or ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
    return tuple(f"aic-nccl-{chip}-{op}-{ranks}-*" for op in named)


_RING = ("fraction", "step_s", "launch_s", "ramp_s", "medium.ramp_s")
_EXCHANGE = ("exchange.fraction", "exchange.ramp_s")
_SWITCH = ("in_switch.fraction", "in_switch.ramp_s")
# NCCL's LL stores 4 bytes of data with 4 of flags, LL128 120 with 8 (NVIDIA/nccl:src/device/prims_ll*.h). Sending reads
# and writes memory once; keeping one's own share in the result besides is one more write, at half the cost.
_PROTOCOLS: Fixed = {"small.share": 0.5, "medium.share": 120 / 128, "copy_gain": 2.0}
_NCCL_TABLE = "NCCL tables of ai-dynamo/aiconfigurator"
_AS_NCCL: Fixed = {"step_s": "nvlink4/collective", "launch_s": "nvlink4/collective"}
_BORROWED = "; steps and launch assumed as NCCL on NVLink4: none published"

COLLECTIVES: tuple[Series, ...] = (
    Series(
        "nvlink4",
        "collective",
        {
            "h200-cluster": (
                *_nccl("h100_sxm", "g[248]", "all_reduce", "all_gather", "alltoall"),
                *_nccl("h200_sxm", "g8", "all_reduce", "all_gather"),
                "mleng-h200-nvls-*",
                "mleng-h200-16g-*",
            )
        },
        (*_RING, *_EXCHANGE, *_SWITCH),
        f"{_NCCL_TABLE}; stas00/ml-engineering (NVLS); shares of protocols from NVIDIA/nccl",
        _PROTOCOLS,
    ),
    Series(
        "nvlink3", "collective", {"a100-server": _nccl("a100_sxm", "g8")}, (*_RING, *_EXCHANGE), _NCCL_TABLE, _PROTOCOLS
    ),
    Series(
        "nvlink5",
        "collective",
        {"b200-cluster": (*_nccl("b200_sxm", "g8"), "mleng-b200-nvls-*")},
        (*_RING, *_EXCHANGE, *_SWITCH),
        f"{_NCCL_TABLE}; stas00/ml-engineering",
        _PROTOCOLS,
    ),
    Series(
        "nvl72",
        "collective",
        {"gb200-nvl72": _nccl("gb200", "g4")},
        (*_RING, *_EXCHANGE),
        f"{_NCCL_TABLE} (groups of four); reduction in the switch assumed as NVLink5",
        {**_PROTOCOLS, **dict.fromkeys(_SWITCH, "nvlink5/collective")},
    ),
    Series(
        "nvlink3-a800",
        "collective",
        {"a100-server": ("limulidae-a800-*",)},
        ("fraction",),
        "gameofdimension/limulidae:README.md (community; large messages, size not stated); the rest as NVLink3",
        {**_PROTOCOLS, **dict.fromkeys((*_RING[1:], *_EXCHANGE), "nvlink3/collective")},
        scale_up="nvlink3-a800",
    ),
    Series(
        "infinity-fabric",
        "collective",
        {"mi300x-server": ("mleng-mi300x-ar-*",)},
        ("fraction",),
        f"RCCL, stas00/ml-engineering{_BORROWED}",
        _AS_NCCL,
    ),
    Series(
        "hccs-a2",
        "collective",
        {"atlas-800t-a2-server": ("limulidae-910b-all-gather-*",)},
        ("fraction",),
        f"HCCL all-gather, gameofdimension/limulidae:README.md (community; size not stated){_BORROWED}",
        _AS_NCCL,
    ),
    Series(
        "ib-400g",
        "collective",
        {"h200-cluster": ("mleng-h200-4n-ar-4g-*", "nccltests232-h100-ar-*")},
        ("fraction", "step_s"),
        "stas00/ml-engineering (ring, NVLS tree); NVIDIA/nccl-tests issue 232 (community, tree of two); launch as "
        "NVLink4",
        {"launch_s": "nvlink4/collective"},
    ),
)

_HIXL = "HIXL (gitcode.com/cann/hixl), blocks of 1 to 8 MiB"
_NO_LAUNCH: Fixed = {"launch_s": 0.0}

COPIES: tuple[Series, ...] = (
    Series(
        "hccs-a2",
        "copies",
        {"ascend-910b-1024": ("hixl-a2-intra-*-hccs-d2d-*",)},
        ("write_fraction", "read_fraction"),
        f"{_HIXL}, over one link of the mesh",
        _NO_LAUNCH,
    ),
    Series(
        "ub1",
        "copies",
        {"cloudmatrix384": ("hixl-a3-*-hccs-d2d-*", "reference-ub-*")},
        ("write_fraction", "read_fraction", "launch_s"),
        f"{_HIXL}; arXiv:2506.12708v2 Table 1",
    ),
    Series(
        "roce-200g",
        "copies",
        {"ascend-910b-1024": ("hixl-a2-*-rdma-d2d-*",)},
        ("write_fraction", "read_fraction"),
        _HIXL,
        _NO_LAUNCH,
    ),
    Series(
        "roce-2x200g",
        "copies",
        {"cloudmatrix384": ("hixl-a3-*-rdma-d2d-*",)},
        ("write_fraction", "read_fraction"),
        f"{_HIXL}, one port of 200 Gb/s per die",
        _NO_LAUNCH,
    ),
    Series(
        "nvlink4",
        "copies",
        {"h200-cluster": ("mleng-h[12]00-p2p",)},
        ("both_fraction",),
        "copy engines, stas00/ml-engineering (H100 and H200, size not stated)",
        _NO_LAUNCH,
    ),
    Series(
        "nvl72",
        "copies",
        {"gb200-nvl72": ("mleng-gb200-p2p",)},
        ("both_fraction",),
        "copy engines, stas00/ml-engineering (size not stated)",
        _NO_LAUNCH,
    ),
)
