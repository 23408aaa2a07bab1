"""From a scenario with [serving] to the pools that the engine runs."""

from dataclasses import dataclass

import numpy as np

from simulator.cost.collectives.transfer import transfer
from simulator.cost.memory import serving_memory
from simulator.engine.serving.records import Failure, Handover, PoolSpec, System
from simulator.errors import UserError
from simulator.phase.iteration_times import iteration_times
from simulator.phase.machine import assemble
from simulator.phase.setup import Setup, setup
from simulator.scenario import Scenario
from simulator.scenario_file import load_scenario
from simulator.serving_section import Serving, ServingFailure
from topologies.catalogue.machine_file import machine_parts
from workloads.operators import BYTES, kv_bytes_per_token

# Chunks of prompts on instances that also decode (vLLM and SGLang take 2,048 to 8,192 by default).
DEFAULT_BUDGET = 4096


@dataclass(frozen=True, slots=True)
class Pool:
    """Instances of one kind: the scenario that one of them resolves to, and what the engine gets."""

    name: str
    resolved: Setup
    spec: PoolSpec

    @property
    def chips(self) -> int:
        """Chips of all instances."""
        return self.resolved.machine.chips * self.spec.instances

    @property
    def kv_tokens(self) -> int:
        """KV tokens that a rank holds."""
        return self.spec.rank_blocks * self.spec.block_tokens


@dataclass(frozen=True, slots=True)
class Deployment:
    """A scenario's pools: the first computes prompts, the second (if any) decodes."""

    scenario: Scenario
    pools: tuple[Pool, ...]
    system: System
    notes: tuple[str, ...]

    @property
    def chips(self) -> int:
        """Chips of all pools."""
        return sum(pool.chips for pool in self.pools)


def deployment(scenario: Scenario, prompt_tokens: float) -> Deployment:
    """Resolve a scenario for request-level simulation.

    Parameters
    ----------
    prompt_tokens
        Mean prompt: as many prompts as fill a rank's iteration meet in it, which is what expert imbalance depends on.

    Raises
    ------
    UserError, TopologyError, WorkloadError
        If it does not decode, a pool can't be resolved, or its weights do not fit.
    """
    asked = scenario.serving or Serving()
    if scenario.workload.phase != "decode":
        raise UserError(
            f"workload.phase = '{scenario.workload.phase}': request-level simulation starts from a decode scenario; "
            "name the prefill scenario in serving.prefill"
        )
    decode = setup(scenario)
    most = asked.max_sequences_per_rank or scenario.workload.batch_per_rank or 1
    if asked.prefill is None:
        budget = asked.token_budget or DEFAULT_BUDGET
        if budget <= most:
            raise UserError(
                f"serving.token_budget = {budget}: no more than the {most} sequences of a rank, so prompts would never "
                "be computed; use more"
            )
        first = _pool(
            "colocated", decode, setup(_prompts(scenario, budget, prompt_tokens)), asked.instances, most, budget, asked
        )
        failures = _failures(asked.failures, {"prefill": first}, "colocated")
        return Deployment(scenario, (first,), System(first.spec, None, None, asked.router, *_rest(asked, failures)), ())
    loaded = load_scenario(asked.prefill)
    if loaded.workload.phase != "prefill" or loaded.model != scenario.model:
        raise UserError(
            f"serving.prefill = {asked.prefill}: phase '{loaded.workload.phase}' of {loaded.model.name}; name a "
            f"prefill scenario of {scenario.model.name}"
        )
    budget = asked.token_budget or loaded.workload.tokens_per_rank or DEFAULT_BUDGET
    prefill = setup(_prompts(loaded, budget, prompt_tokens))
    first = _pool("prefill", None, prefill, asked.prefill_instances, budget, budget, asked)
    second = _pool("decode", decode, None, asked.instances, most, most, asked)
    handover, note = kv_path(first, second)
    failures = _failures(asked.failures, {"prefill": first, "decode": second}, "prefill")
    system = System(first.spec, second.spec, handover, asked.router, *_rest(asked, failures))
    return Deployment(scenario, (first, second), system, (note,))


def _rest(asked: Serving, failures: tuple[Failure, ...]) -> tuple[bool, tuple[Failure, ...]]:
    return asked.prefix_cache_scope == "all", failures


def _prompts(scenario: Scenario, budget: int, prompt_tokens: float) -> Scenario:
    """Return the scenario with an iteration of prompts as its workload."""
    workload = scenario.workload.model_copy(
        update={
            "phase": "prefill",
            "batch_per_rank": None,
            "tokens_per_rank": budget,
            "sequence_tokens": max(1, min(round(prompt_tokens), budget)),
        }
    )
    return scenario.model_copy(update={"workload": workload})


def _pool(
    name: str, decode: Setup | None, prefill: Setup | None, instances: int, most: int, budget: int, asked: Serving
) -> Pool:
    resolved = decode or prefill
    if resolved is None:
        raise ValueError("a pool without a phase")
    blocks = _rank_blocks(name, resolved, budget, asked.kv_block_tokens)
    token_bytes = _token_bytes(resolved)
    ranks = resolved.layout.data
    load = asked.prefix_cache_bytes_per_s or asked.host_bytes_per_s
    spec = PoolSpec(
        iteration_times(decode, prefill, most if decode else 1, budget),
        instances,
        ranks,
        blocks,
        asked.kv_block_tokens,
        most,
        budget,
        token_bytes / asked.host_bytes_per_s if asked.preemption == "swap" else None,
        int(asked.prefix_cache_bytes / token_bytes),
        token_bytes / load,
    )
    return Pool(name, resolved, spec)


def _token_bytes(resolved: Setup) -> float:
    """Return the KV bytes of a token on one rank; the latents of MLA are on every rank of a TP group."""
    model, placed = resolved.model, resolved.layout
    split = 1 if model.attention.kind == "mla" else min(placed.tensor, model.attention.kv_heads)
    return float(kv_bytes_per_token(model, BYTES[resolved.scenario.precision.kv])) / split


def _rank_blocks(name: str, resolved: Setup, tokens: int, block_tokens: int) -> int:
    """Return the KV blocks that device memory leaves room for beside weights, buffers and the reserve."""
    drafts = 1 + resolved.model.mtp_layers
    routed = resolved.routed(float(tokens) / resolved.layout.tensor, 1.0, 1)
    (use,) = serving_memory(
        resolved.model,
        resolved.counts,
        resolved.layout,
        resolved.scenario.precision.gemm,
        0.0,
        routed.slot_tokens.shape[-1] if routed else 0,
        float(tokens * drafts),
        routed.imbalance if routed else 1.0,
        resolved.machine.memory_bytes,
        resolved.scenario.routing.shared_expert_ranks,
    )
    left = use.capacity_bytes - use.total_bytes
    blocks = int(left // (_token_bytes(resolved) * block_tokens)) if left > 0 else 0
    if blocks < 1:
        raise UserError(
            f"serving: {name} instances: weights and buffers take {use.total_bytes / 2**30:.1f} of "
            f"{use.capacity_bytes / 2**30:.1f} GiB of a rank and leave no room for KV blocks; use a larger plan.expert "
            "or a smaller serving.token_budget"
        )
    return blocks


def kv_path(first: Pool, second: Pool) -> tuple[Handover, str]:
    """Return the way of a KV cache from a prefill rank to a decode rank, priced on the network, and how.

    All ranks of a prefill instance send at once, each to a rank of the decode instance in the nodes after it.
    """
    source, target = first.resolved, second.resolved
    token_bytes = _token_bytes(source)
    asked, other = source.scenario.cluster, target.scenario.cluster
    if (asked.name, asked.island) != (other.name, other.island):
        return _between_clusters(first, second, token_bytes)
    parts = machine_parts(other.name, other.plane, other.island)
    per_chip = target.machine.chip.ranks_per_chip
    senders = source.machine.ranks
    chips = min((senders + target.machine.ranks) // per_chip, parts.spec.chips)
    joined = assemble(parts, chips, target.machine.calibrations, other.faults)
    sending = np.arange(min(senders, joined.ranks // 2), dtype=np.int32)
    receiving = (joined.ranks - 1 - sending).astype(np.int32)
    size = np.full(len(sending), token_bytes * 4096)
    constants = target.machine.calibrations.fabric
    cost = transfer(joined.network, sending, receiving, size, constants)
    per_token = cost.bandwidth_s / 4096
    note = (
        f"KV transfer: {token_bytes:,.0f} bytes a token at {token_bytes / per_token / 1e9:.1f} GB/s per rank while all "
        f"ranks of an instance send, {cost.latency_s * 1e6:.0f} us more each; it starts when the prompt is done"
    )
    return Handover(cost.latency_s, per_token), note


def _between_clusters(first: Pool, second: Pool, token_bytes: float) -> tuple[Handover, str]:
    """Ranks of different machines meet on their outermost networks: the slower port binds, both latencies count."""
    ends = []
    for pool in (first, second):
        target = pool.resolved.machine
        plane = target.network.planes[-1]
        rate = float(plane.port_bytes_per_s.min())
        constants = target.calibrations.fabric(plane.fabric).copies
        ranks = np.array([0], dtype=np.int32), np.array([target.ranks - 1], dtype=np.int32)
        ends.append((rate * constants.write_fraction, target.network.latency_s(*ranks) + constants.launch_s))
    rate, latency = min(end[0] for end in ends), sum(end[1] for end in ends)
    note = (
        f"KV transfer between machines: {rate / 1e9:.1f} GB/s per rank, the slower side's port; links in between are "
        "taken to carry all of it"
    )
    return Handover(latency, token_bytes / rate), note


def _failures(asked: tuple[ServingFailure, ...], pools: dict[str, Pool], first: str) -> tuple[Failure, ...]:
    problems = []
    for index, failure in enumerate(asked):
        pool = pools.get(failure.pool)
        where = f"serving.failures[{index}]"
        if pool is None:
            problems.append(f"{where}.pool = '{failure.pool}': no such pool; use one of {', '.join(pools)}")
        elif failure.instance >= pool.spec.instances:
            problems.append(
                f"{where}.instance = {failure.instance}: the pool has {pool.spec.instances}, numbered from 0"
            )
    if problems:
        raise UserError(*problems)
    roles = {"prefill": first, "decode": "decode"}
    return tuple(
        Failure(roles[each.pool], each.instance, each.at_s, each.policy, each.down_s)  # type: ignore[arg-type]
        for each in asked
    )
