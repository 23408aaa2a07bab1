"""Steady state of one deployment at any load, fast: what depends on the routing is drawn at a few loads and kept."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.longest_path import longest_path
from simulator.phase.fold import issued_on_compute, iteration_program, layer_blocks
from simulator.phase.layers import LayerTimes, local_parts
from simulator.phase.migration import rebalancing_parts
from simulator.phase.serving import (
    Load,
    drawn_layers,
    end_parts,
    kept_memory,
    load_of,
    share_of,
    tokens_gained,
)
from simulator.phase.setup import Setup
from simulator.program import attribute
from simulator.result import MemoryUse

Floats = NDArray[np.float64]
STEPS_PER_DOUBLING = 2  # loads drawn per doubling of the tokens; between them times are interpolated


@dataclass(frozen=True, slots=True)
class Point:
    """One steady state of an instance.

    Parameters
    ----------
    amount, context
        Per attention-DP rank: sequences (decode) or prompt tokens (prefill); tokens of each sequence.
    step_s
        One iteration [s].
    tokens_per_s
        Tokens that the whole instance takes in (prefill) or gives out (decode) [1/s].
    tpot_s
        Time per output token of a sequence [s]; None in prefill.
    parts
        ``[len(PARTS)]`` what the iteration is spent on [s].
    memory
        Of each class of ranks.
    """

    amount: float
    context: float
    step_s: float
    tokens_per_s: float
    tpot_s: float | None
    parts: Floats
    memory: tuple[MemoryUse, ...]

    @property
    def fits(self) -> bool:
        """Whether device memory holds it."""
        return all(use.short_bytes <= 0 for use in self.memory)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Routing-dependent blocks, the mean of the drawn iterations, ``[halves, MoE layers, len(PARTS)]`` [s]."""

    tokens: float
    dispatch: Floats
    experts: Floats
    combine: Floats
    moving: Floats
    slots: int
    imbalance: float
    shared_elsewhere: bool


@dataclass(frozen=True)
class SteadyState:
    """A resolved prefill or decode scenario, ready for many loads.

    At the loads that are drawn, a geometric grid, a point equals the scenario's analytic run; between them dispatch,
    experts and combine are interpolated linearly in the tokens, while attention, ends and memory are those of the load
    itself.
    """

    resolved: Setup
    _kept: dict[tuple[int, float], _Drawn] = field(default_factory=dict, repr=False)

    def point(self, amount: float, context: float) -> Point:
        """Return the steady state at a load.

        Parameters
        ----------
        amount
            Per attention-DP rank: sequences in decode, prompt tokens in prefill.
        context
            KV length in decode, prompt in prefill [tokens].
        """
        resolved = self.resolved
        load, model = load_of(resolved, amount, context), resolved.model
        share = share_of(resolved, load)
        drawn = self._between(amount, context) if model.experts else None
        elsewhere = bool(drawn and drawn.shared_elsewhere)
        local = local_parts(model, resolved.machine, resolved.layout, share, elsewhere)
        none = np.zeros((load.halves, 0, local[0].size))
        moved = (drawn.dispatch, drawn.experts, drawn.combine) if drawn else (none, none, none)
        times = LayerTimes(*local, *moved)
        ends = end_parts(resolved, load, times) + (drawn.moving if drawn else 0.0)
        blocks = issued_on_compute(layer_blocks(model, times), *resolved.issued_s)
        program = iteration_program(blocks, ends, load.halves)
        parts = attribute(program, *longest_path(program), [0])[0]
        step_s, gained = float(parts.sum()), tokens_gained(resolved, load)
        decode = resolved.scenario.workload.phase == "decode"
        tokens = amount * resolved.layout.data * (gained if decode else 1.0)
        slots, imbalance = (drawn.slots, drawn.imbalance) if drawn else (0, 1.0)
        return Point(
            amount,
            context,
            step_s,
            tokens / step_s,
            step_s / gained if decode else None,
            parts,
            kept_memory(resolved, load, slots, imbalance),
        )

    def _between(self, amount: float, context: float) -> _Drawn:
        """Return the blocks at a load from the two drawn loads around it, weighted by the tokens."""
        position = STEPS_PER_DOUBLING * np.log2(max(amount, 1.0))
        low, high = int(np.floor(position)), int(np.ceil(position))
        first, second = self._drawn(low, context), self._drawn(high, context)
        span = second.tokens - first.tokens
        weight = min(max((amount - first.tokens) / span, 0.0), 1.0) if span > 0 else 0.0

        def mixed(one: Floats, other: Floats) -> Floats:
            return (1 - weight) * one + weight * other

        return _Drawn(
            amount,
            mixed(first.dispatch, second.dispatch),
            mixed(first.experts, second.experts),
            mixed(first.combine, second.combine),
            mixed(first.moving, second.moving),
            first.slots,
            (1 - weight) * first.imbalance + weight * second.imbalance,
            first.shared_elsewhere,
        )

    def _drawn(self, step: int, context: float) -> _Drawn:
        """Draw a load of the grid once; in prefill the prompt says how many sequences its tokens are from."""
        key = (step, 0.0 if self.resolved.scenario.workload.phase == "decode" else context)
        if key not in self._kept:
            amount = float(max(round(2.0 ** (step / STEPS_PER_DOUBLING)), 1))
            load = load_of(self.resolved, amount, context)
            times, routed = drawn_layers(self.resolved, load)
            if routed is None:
                raise ValueError("a model without experts has no routing")
            self._kept[key] = _Drawn(
                amount,
                _halves(times.dispatch, load),
                _halves(times.experts, load),
                _halves(times.combine, load),
                rebalancing_parts(self.resolved, routed),
                routed.slot_tokens.shape[-1],
                routed.imbalance,
                bool(routed.shared_ranks),
            )
        return self._kept[key]


def _halves(block: Floats, load: Load) -> Floats:
    """Average the drawn iterations: ``[iterations x halves, layers, parts]`` to ``[halves, layers, parts]``."""
    batches = block.reshape(-1, load.halves, *block.shape[1:])
    mean: Floats = batches.mean(axis=0)
    return mean
