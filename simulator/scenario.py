"""What a user asks: a validated, frozen scenario.

A scenario file is TOML. `extends` names another file (relative to the first) or a shipped scenario whose values are
taken where this one is silent; `--set a.b=value` overrides both. `load_scenario` reports all problems at once.
"""

from typing import Annotated, Literal

from pydantic import Field

from simulator.reliability.section import Reliability
from simulator.section import MAX_TOKENS, Section
from simulator.serving_section import Serving
from topologies.specs import Dtype


class Model(Section):
    """Which model: a catalogue name, or the path of a Hugging Face config.json."""

    name: str = Field(description="catalogue name (`epsim catalog models`) or path of a Hugging Face config.json")
    layers: int | None = Field(default=None, ge=1, le=1_000, description="run a cut-down model of so many layers")
    dense_layers: int | None = Field(default=None, ge=0, le=1_000, description="dense layers of the cut-down model")
    mtp_layers: int | None = Field(
        default=None, ge=0, le=8, description="multi-token-prediction modules that are trained; default: the model's"
    )


class Cluster(Section):
    """Which machine, and how much of it."""

    name: str = Field(
        description="catalogue name (`epsim catalog clusters`), machine file (.toml) or graph (.graphml, .json)"
    )
    chips: int | None = Field(
        default=None,
        ge=1,
        description="chips as sold (packages); default: the nominal size (training), or one EP group (prefill, decode)",
    )
    island: str | None = Field(default=None, description="which island of a machine file that has several")
    plane: str | None = Field(
        default=None,
        description="network that alone joins nodes: 'scale-out', or a side plane of the cluster; default: all",
    )
    faults: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="failed or degraded parts: 'node 5', 'nic 17', 'leaf 3 - spine 0 at 50 %', "
        "'1 of 8 uplinks of leaf 3', 'plane 2'",
    )


class Workload(Section):
    """What is computed: a training step, or one iteration of prefill or decode in steady state."""

    phase: Literal["training", "prefill", "decode"]
    sequence_tokens: int = Field(
        default=4096,
        ge=1,
        le=MAX_TOKENS,
        description="tokens per sequence (training), per prompt (prefill), or mean KV length (decode)",
    )
    global_batch_sequences: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="training: sequences per optimizer step"
    )
    tokens_per_rank: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="prefill: prompt tokens per attention-DP rank and iteration"
    )
    batch_per_rank: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="decode: sequences per attention-DP rank"
    )
    mtp_acceptance: float | None = Field(
        default=None, ge=0, le=1, description="decode: share of drafted tokens accepted; unset = no drafting"
    )


class Plan(Section):
    """How the work is split. Sizes count ranks; a dual-die package has two."""

    tensor: int = Field(default=1, ge=1, description="TP: ranks that share one layer's matrices")
    pipeline: int = Field(default=1, ge=1, description="PP: pipeline stages (training)")
    expert: int = Field(default=1, ge=1, description="EP: ranks that share the routed experts")
    expert_tensor: int = Field(
        default=1,
        ge=1,
        description="ETP: ranks that split the matrices of each expert (training); they gather each other's tokens",
    )
    context: int = Field(default=1, ge=1, description="CP: ranks that share each sequence (training)")
    context_exchange: Literal["ring", "all-to-all"] = Field(
        default="ring",
        description="CP: pass keys and values around while attention runs, or exchange sequence shares for head shares",
    )
    layers_per_stage: tuple[int, ...] | None = Field(
        default=None,
        strict=False,
        description="training: transformer layers on each stage (each virtual stage); default: split evenly",
    )
    data: int | None = Field(default=None, ge=1, description="DP: replicas; default: ranks / (TP x PP)")
    micro_batch_sequences: int = Field(default=1, ge=1, description="training: sequences per micro-batch")
    schedule: Literal["1f1b", "interleaved", "1f1b-overlap", "gpipe", "zb-h1", "zb-h2", "dualpipe", "dualpipe-v"] = (
        Field(
            default="1f1b",
            description="pipeline schedule (training); 1f1b-overlap and the dualpipes hide dispatch and combine",
        )
    )
    virtual_stages: int = Field(
        default=1,
        ge=1,
        le=1_000,
        description="parts of the model on each rank, with schedules 'interleaved' and '1f1b-overlap'",
    )
    zero: Literal[0, 1, 2, 3] = Field(
        default=1,
        description="ZeRO stage: 1 shards optimizer state over DP, 2 gradients too, 3 weights too (FSDP)",
    )
    fused_attention: bool = Field(
        default=True,
        description="training: attention in one kernel (FlashAttention); false: scores pass through memory",
    )
    overlap_gradients: bool = Field(
        default=False,
        description="training: reduce gradients bucket by bucket beside the last backward, and gather weights "
        "beside the next forward",
    )
    overlap_tensor: bool = Field(
        default=False,
        description="training: TP collectives in chunks beside the GEMMs before and after them",
    )
    recompute: Literal["none", "light", "selective", "full"] = Field(
        default="none",
        description="activation recomputation: light = norms, MLA up-projections and activation functions; "
        "selective = light and the attention core; full = whole layers",
    )
    overlap: Literal["none", "two-microbatch"] = Field(
        default="none", description="prefill and decode: hide dispatch and combine behind a second micro-batch"
    )


class Precision(Section):
    """Data types of weights in GEMMs, of the KV cache, and on the wire."""

    gemm: Dtype = Field(default="bf16", description="GEMM inputs and weights")
    kv: Literal["bf16", "fp16", "fp8", "int8"] = Field(default="bf16", description="KV cache elements")
    dispatch: Literal["bf16", "fp16", "fp8", "int8", "fp4"] = Field(default="bf16", description="dispatch payload")
    combine: Literal["bf16", "fp16", "fp8", "int8", "fp4"] = Field(default="bf16", description="combine payload")


FAMILY = "family"


class Routing(Section):
    """Where tokens go: recorded statistics, a recorded trace, uniform random, or force-balanced."""

    kind: Literal["fitted", "trace", "uniform", "balanced"] = Field(default="fitted")
    statistics: str = Field(
        default=FAMILY,
        description="shipped statistics, a TOML file, or 'family': the model's own family's, else DeepSeek-V2-Lite's",
    )
    trace: str | None = Field(
        default=None, description="native trace file (Parquet or npz) or a shipped trace, with kind = 'trace'"
    )
    mix: str = Field(
        default="mixed",
        description="'mixed' (the statistics' tasks in equal parts), 'broad' (very many topics), or one task",
    )
    strength: float = Field(default=1.0, ge=0, le=4, description="skew dial: 0 uniform, 1 as recorded")
    holdout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="with kind = 'trace': replay this share of the tokens, from its end, and place by the rest; "
        "0: place by what is replayed",
    )
    groups: int | None = Field(
        default=None,
        ge=1,
        description="what-if: groups of consecutive experts for device- or node-limited routing; default: the model's",
    )
    groups_per_token: int | None = Field(
        default=None, ge=1, description="what-if: groups that a token may use; default: the model's"
    )
    capacity_factor: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="what-if: an expert takes this many times the mean tokens of a batch, the others are dropped",
    )
    placement: Literal["contiguous", "random", "balanced", "eplb", "affinity"] = Field(
        default="contiguous",
        description="experts on ranks: in order; at random; by load over all ranks; by load, groups of experts kept in "
        "nodes (DeepSeek's EPLB); experts that tokens use together in one node (needs kind = 'trace')",
    )
    placement_file: str | None = Field(
        default=None,
        description="a placement made elsewhere, instead of a policy: Ascend deployment table or SGLang locations "
        "(JSON), DeepSeek maps (npz), Omni-infer table (npy)",
    )
    drift: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="fitted: how far the load has moved since experts were placed: log weights correlate by 1 - drift; "
        "with rebalance_interval: over one interval",
    )
    rebalance_interval: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="iterations (steps in training) between placements; moving the experts is priced",
    )
    balancing: Literal["none", "bias"] = Field(
        default="none",
        description="fitted what-if: the router was trained further with bias-based balancing (as DeepSeek-V3)",
    )
    bias_update_speed: float = Field(
        default=0.001, gt=0, le=1, description="change of an expert's bias in one step, in units of log weights"
    )
    bias_steps: int = Field(default=3000, ge=0, le=20_000, description="training steps with bias updates")
    redundant_experts: Annotated[int, Field(ge=0, le=100_000)] | Literal["fill"] = Field(
        default=0,
        description="extra slots for replicas of hot experts; 'fill': as few as make the slots divide over the ranks",
    )
    shared_expert_ranks: int = Field(
        default=0, ge=0, le=1_000_000, description="EP ranks that hold only a copy of the shared expert"
    )


class Transport(Section):
    """How dispatch and combine move."""

    mode: Literal["auto", "normal", "low-latency"] = Field(
        default="auto", description="auto: the library's mode if one is named, else low-latency in decode, else normal"
    )
    library: str | None = Field(
        default=None,
        description="another library than the usual one of the mode, where the fabric's calibration has one: "
        "'hybrid-ep', 'deepep', 'one-sided'; serving: 'all-gather' sends all tokens to all ranks of the EP group and "
        "reduces and scatters the results, as engines do without an all-to-all library",
    )
    path: Literal["auto", "nic"] = Field(
        default="auto",
        description="auto: scale-up links where they join two ranks; nic: NICs also inside a node (pure RDMA)",
    )
    cores: int | None = Field(
        default=None,
        ge=1,
        description="cores (SMs) of each rank that copy; default: as many as the library's constants were found with",
    )


class Network(Section):
    """How the network behaves."""

    contention: bool = Field(
        default=True, description="event simulation: operations that run at the same time share the ports that both use"
    )
    routing: Literal["ecmp", "static"] = Field(
        default="ecmp",
        description="several shortest ways: equally over all, or always over the same (dimension order)",
    )
    background: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="traffic of others, as the share of a part or link that it takes: 'leaf 0 - spine 0 at 30 %', "
        "'nic 17 at 50 %'",
    )
    all_reduce: Literal[
        "auto", "ring", "tree", "halving-doubling", "direct", "hierarchical", "in-switch", "in-switch-tree"
    ] = Field(default="auto", description="algorithm; auto: the fastest that the fabric's library has")
    all_gather: Literal["auto", "ring", "halving-doubling", "direct", "hierarchical"] = Field(
        default="auto", description="algorithm, as all_reduce"
    )
    reduce_scatter: Literal["auto", "ring", "halving-doubling", "direct", "hierarchical"] = Field(
        default="auto", description="algorithm, as all_reduce"
    )
    all_to_all: Literal["auto", "direct", "hierarchical"] = Field(
        default="auto", description="algorithm of plain all-to-all (context parallelism), not of dispatch and combine"
    )


class Economics(Section):
    """Assumptions behind cost and energy; set them to your own."""

    usd_per_chip_hour: float | None = Field(
        default=None, gt=0, le=1e6, description="rent; replaces the capital-cost estimate"
    )
    usd_per_chip: float | None = Field(
        default=None, gt=0, le=1e9, description="purchase price; default: the catalogue's"
    )
    amortisation_years: float = Field(default=4.0, gt=0, le=50)
    usd_per_kwh: float = Field(default=0.10, ge=0, le=100)
    pue: float = Field(default=1.25, ge=1, le=10)


class Scenario(Section):
    """One what-if: a model on a machine, split by a plan, doing a workload."""

    name: str = Field(default="unnamed", max_length=200)
    description: str = Field(default="", max_length=4000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    fidelity: Literal["analytic", "des"] = Field(default="analytic")
    model: Model
    cluster: Cluster
    workload: Workload
    plan: Plan = Plan()
    precision: Precision = Precision()
    routing: Routing = Routing()
    transport: Transport = Transport()
    network: Network = Network()
    serving: Serving | None = Field(default=None, description="`epsim serve`: pools, router, KV memory")
    economics: Economics = Economics()
    reliability: Reliability = Reliability()
    calibration: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="files of `epsim calibrate`, beside the scenario file, whose constants replace the shipped ones",
    )
