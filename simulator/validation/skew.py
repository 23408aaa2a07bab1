"""Drawn routing beside the published skew of a model that nothing was fitted to: DeepSeek-R1 on 32 EP ranks.

Source: TensorRT-LLM tech blog 4 (Scaling Expert Parallelism in TensorRT-LLM, part 1): 58 layers, 256 tokens per rank
of machine translation data, (max - mean) / mean averaged over layers, contiguous and with 32 redundant slots.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads import placement
from workloads.routing.load import rank_tokens, sample_counts
from workloads.routing.popularity import popularity
from workloads.routing.spec import load_statistics

LAYERS, EXPERTS, TOP_K, RANKS, REDUNDANT, TOKENS_PER_RANK = 58, 256, 8, 32, 32, 256
PUBLISHED = {"busiest_expert": 10.948, "busiest_rank": 1.564, "busiest_rank_redundant": 0.109}
# mix and strength: the shipped default; the text that was recorded; what brings the default there
SETTINGS = (("mixed", 1.0), ("translation", 1.0), ("mixed", 2.9))
_SEEDS = 5
Row = dict[str, Any]


def published_skew(settings: Sequence[tuple[str, float]] = SETTINGS) -> list[Row]:
    """Return the published skew and, per setting of `mix` and `strength`, the drawn one.

    Returns
    -------
    Rows with ``busiest_expert``, ``busiest_rank`` (contiguous), ``busiest_rank_redundant`` (placed by the expected
    load) and ``busiest_rank_redundant_batch`` (placed by one earlier batch), each over the mean less 1.
    """
    rows: list[Row] = [{"routing": "published", "mix": "translation", "strength": None, **PUBLISHED}]
    for mix, strength in settings:
        drawn = [_drawn(mix, strength, np.random.default_rng(seed)) for seed in range(_SEEDS)]
        figures = {name: float(np.mean([each[name] for each in drawn])) for name in drawn[0]}
        default = " (default)" if (mix, strength) == SETTINGS[0] else ""
        rows.append({"routing": f"drawn{default}", "mix": mix, "strength": strength, **figures})
    return rows


def _drawn(mix: str, strength: float, rng: np.random.Generator) -> dict[str, float]:
    tokens = RANKS * TOKENS_PER_RANK
    model = popularity(load_statistics(), LAYERS, EXPERTS, TOP_K, rng, mix=mix, strength=strength)
    earlier, *served = sample_counts(model, tokens, tokens, 3, rng)
    counts = np.array(served)
    places = {
        "busiest_rank": placement.contiguous(LAYERS, EXPERTS, RANKS),
        "busiest_rank_redundant": placement.balanced(model.expected, RANKS, REDUNDANT),
        "busiest_rank_redundant_batch": placement.balanced(earlier.astype(np.float64), RANKS, REDUNDANT),
    }
    loads = {name: rank_tokens(counts, place) for name, place in places.items()}
    return {name: _imbalance(load) for name, load in {"busiest_expert": counts, **loads}.items()}


def _imbalance(load: NDArray[Any]) -> float:
    return float((load.max(axis=-1) / load.mean(axis=-1)).mean() - 1)
