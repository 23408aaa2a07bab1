"""Published measurements of dispatch and combine, by the fabric that they describe."""

from collections.abc import Mapping

from simulator.fitting.fabrics.series import Series

_APART = ("fraction", "dispatch_fixed_s", "combine_fixed_s")
_RATES = ("core_bytes_per_s", "combine_core_bytes_per_s")
_HOOKS = "no cores during the wire time (deepseek-ai/DeepEP:README.md, receive hook)"
_DEEPEP = "deepseek-ai/DeepEP:docs/legacy.md"
_SMS = "20 of 132 SMs (arXiv:2412.19437 section 3.2.2)"
_AIV = "vector cores carry it, the cube cores stay free"
_CANN = "CANN EP on CloudMatrix384 (arXiv:2506.12708v2 Table 7), DeepEP-Ascend (sgl-project/sgl-kernel-npu)"
_HYBRID = "Hybrid-EP in deepseek-ai/DeepEP branch hybrid-ep, kernel and API times apart"
_TRTLLM = "tables of ai-dynamo/aiconfigurator (one copy per rank); no cores taken: assumed"


def _lent(lender: str, *names: str) -> Mapping[str, float | str]:
    return dict.fromkeys(names, lender)


EXCHANGES: tuple[Series, ...] = (
    Series(
        "nvlink5",
        "normal",
        {"b200-cluster": ("hybridep-b200-deepep-api-*",)},
        ("fraction", "fixed_s", "core_copy_s", "core_bytes_per_s"),
        "DeepEP with 16 to 48 of 148 SMs in deepseek-ai/DeepEP branch hybrid-ep, times with host code; default 24",
        {"cores": 24.0},
    ),
    Series(
        "nvlink4-h800",
        "normal",
        {"h800-cluster": ("deepep-v1-normal-*-ep8",)},
        ("fraction", "fixed_s"),
        f"{_DEEPEP}: two rows for two constants; rates of cores, which do not limit here, as on NVLink5; {_SMS}",
        {"cores": 20.0, **_lent("nvlink5/normal", "core_copy_s", "core_bytes_per_s")},
    ),
    Series(
        "nvlink4",
        "normal",
        {"h200-cluster": ("aic-deepep-normal-h200-*-ep8-*",)},
        ("fixed_s", "core_bytes_per_s"),
        f"DeepEP table of ai-dynamo/aiconfigurator; {_SMS}, which limit here; fraction of the links as on H800",
        {"cores": 20.0, **_lent("nvlink4-h800/normal", "fraction")},
    ),
    Series(
        "ib-400g",
        "normal",
        {
            "h800-cluster": ("deepep-v1-normal-*-ep16", "deepep-v1-normal-apr25-*-ep32"),
            "h200-cluster": ("aic-deepep-normal-h200-*-ep16-*", "aic-deepep-normal-h200-*-ep32-*"),
        },
        (*_APART, *_RATES),
        f"{_DEEPEP}, tables of April 2025; DeepEP table of ai-dynamo/aiconfigurator, 4 to 24 SMs, notify time added; "
        f"default {_SMS}",
        {"cores": 20.0},
    ),
    Series(
        "ib-400g",
        "hybrid-ep",
        {"h200-cluster": ("hybridep-h100-hybridep-*",)},
        ("fraction", "fixed_s", "host_s", "overlap_exponent", "core_copy_s", "core_bytes_per_s"),
        f"{_HYBRID}, 4 to 16 SMs; default 16",
        {"cores": 16.0},
    ),
    Series(
        "nvlink5",
        "hybrid-ep",
        {"b200-cluster": ("hybridep-b200-hybridep-*",)},
        ("fraction", "host_s"),
        f"{_HYBRID}, 16 of 148 SMs: four rows for two constants",
        {"cores": 16.0, "fixed_s": 0.0},
    ),
    Series(
        "nvl72",
        "normal",
        {"gb200-nvl72": ("hybridep-gb200-hybridep-*-dispatch-bf16-*", "hybridep-gb200-hybridep-*-sm32")},
        ("fraction", "fixed_s", "host_s", "doubling_s"),
        f"{_HYBRID}, 16 and 32 of 152 SMs, FP8 at 16 left out (time grows with EP there, not bytes); default 32",
        {"cores": 32.0},
    ),
    Series(
        "nvl72",
        "deepep",
        {"gb200-nvl72": ("hybridep-gb200-deepep-api-*-ep8-*", "hybridep-gb200-deepep-api-*-ep16-*")},
        ("fraction", "fixed_s", "doubling_s"),
        "DeepEP in deepseek-ai/DeepEP branch hybrid-ep, 16 to 32 of 152 SMs, EP8 and EP16, with host code; rates of "
        "cores as on NVLink5; default 24",
        {"cores": 24.0, **_lent("nvlink5/normal", "core_copy_s", "core_bytes_per_s")},
    ),
    Series(
        "infinity-fabric",
        "normal",
        {"mi300x-server": ("mori-mi300x-*-ep8",)},
        ("fraction", "fixed_s"),
        "ROCm/mori:README.md; cores taken are not published: DeepEP's share assumed",
        {"cores": 46.0},
    ),
    Series(
        "nvlink4",
        "low_latency",
        {"h200-cluster": ("aic-deepep-ll-h100-*-ep8-*", "aic-deepep-ll2-h?00_sxm-*")},
        _APART,
        f"DeepEP tables of ai-dynamo/aiconfigurator; {_HOOKS}",
    ),
    Series(
        "nvlink4-h800",
        "low_latency",
        {"h800-cluster": ("deepep-v1-ll-jun25-*-ep8",)},
        ("fraction", "fixed_s"),
        f"{_DEEPEP}, table of June 2025: two rows for two constants; {_HOOKS}",
    ),
    Series(
        "nvlink5",
        "low_latency",
        {"b200-cluster": ("aic-deepep-ll2-b200_sxm-*",)},
        ("fraction", "fixed_s"),
        f"DeepEP table of ai-dynamo/aiconfigurator, combine only; {_HOOKS}",
    ),
    Series(
        "nvl72",
        "low_latency",
        {"gb200-nvl72": ("aic-trtllm-gb200-nvlinktwosided-alltoall_[dc]*",)},
        (*_APART, "doubling_s"),
        f"TensorRT-LLM two-sided NVLink {_TRTLLM}",
        copies="rank",
    ),
    Series(
        "nvl72",
        "one-sided",
        {"gb200-nvl72": ("aic-trtllm-gb200-nvlinkonesided-*",)},
        (*_APART, "doubling_s"),
        f"TensorRT-LLM one-sided NVLink {_TRTLLM}",
        copies="rank",
        mode="low-latency",
    ),
    Series(
        "infinity-fabric",
        "low_latency",
        {"mi300x-server": ("mori-mi300x-*-ep8",)},
        ("fraction", "fixed_s"),
        "ROCm/mori:README.md, the kernels of normal mode (one copy per rank); cores taken assumed none",
        copies="rank",
    ),
    Series(
        "hccs-a2",
        "low_latency",
        {"atlas-800t-a2-server": ("sglnpu-a2-ll-*",)},
        ("fraction", "fixed_s"),
        f"sgl-project/sgl-kernel-npu PR 176 (community): two rows for two constants; {_AIV}",
    ),
    Series(
        "ub1",
        "low_latency",
        {"cloudmatrix384": ("cm384-fused*", "reference-cann-ep-*", "sglnpu-a3-ll-*")},
        (*_APART, "doubling_s"),
        f"{_CANN}; EP8 of the former is a secondary transcription; {_AIV}",
    ),
    Series(
        "ub1",
        "normal",
        {"cloudmatrix384": ("sglnpu-a3-normal-*",)},
        ("fraction",),
        "DeepEP-Ascend (sgl-project/sgl-kernel-npu; its kernels send one copy per expert, "
        f"csrc/deepep/ops/op_kernel); fixed times as low-latency mode; {_AIV}",
        _lent("ub1/low_latency", "dispatch_fixed_s", "combine_fixed_s", "doubling_s"),
        copies="expert",
    ),
    Series(
        "ib-400g",
        "low_latency",
        {
            "h800-cluster": (
                *(f"deepep-v1-ll-jun25-*-ep{ranks}" for ranks in (16, 32, 64)),
                *(f"deepep-v1-ll-{op}-ep{ranks}" for op in ("dispatch", "combine") for ranks in (8, 16, 32, 64)),
            ),
            "h200-cluster": ("aic-deepep-ll-h100-*-ep16-*", "aic-deepep-ll-h100-*-ep64-*"),
        },
        (*_APART, "doubling_s"),
        f"{_DEEPEP}, table of June 2025 (NVLink + RDMA); deepseek-ai/DeepEP:README.md of February 2025 (RDMA alone); "
        f"DeepEP table of ai-dynamo/aiconfigurator; {_HOOKS}",
    ),
)
