"""Published measurements of dispatch and combine, by the fabric that they describe."""

from collections.abc import Mapping

from simulator.fitting.fabrics.series import Series

_APART = ("fraction", "dispatch_fixed_s", "combine_fixed_s")
_QUIET: Mapping[str, float | str] = {"doubling_s": 0.0, "core_share": 0.0}
_SM_20: Mapping[str, float | str] = {"doubling_s": 0.0, "core_share": 20 / 132}
_HOOKS = "no cores during the wire time (deepseek-ai/DeepEP:README.md, receive hook)"
_DEEPEP = "deepseek-ai/DeepEP:docs/legacy.md"
_SMS = "20 of 132 SMs (arXiv:2412.19437 section 3.2.2)"
_AIV = "vector cores carry it, the cube cores stay free"
_CANN = "CANN EP on CloudMatrix384 (arXiv:2506.12708v2 Table 7), DeepEP-Ascend (sgl-project/sgl-kernel-npu)"

EXCHANGES: tuple[Series, ...] = (
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
