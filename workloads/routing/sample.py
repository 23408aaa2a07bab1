"""Draw routing token by token: each token's experts in each layer, quickly and with the expected load.

A token has top_k picks, one from each stratum (`workloads.routing.strata`). A pick is a 16-bit random number that a
table of the token's sequence turns into an expert. From layer to layer a pick keeps its number (`link`); else it takes
over the previous token's number of that layer, or a new one, such that `persistence` of all picks repeat the previous
token's. Neither changes how often an expert is used: loads follow from popularity alone, and tables of all layers run
from cold to hot to cold, so that a kept number means a like expert. Cost: a few passes over the picks, whatever the
number of experts.

With a group limit the token's groups are drawn first, one of `_PATTERNS` combinations; then all its picks keep or
change together.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.routing.inclusion import ring_chance, skewed
from workloads.routing.popularity import expected_popularity
from workloads.routing.preferences import Preferences
from workloads.routing.strata import Segments, arrange, deal, tables

_VARIANTS = 256  # kinds of sequences; more sequences than that share them
_GROUPED_VARIANTS = 32
_PATTERNS = 64
_FITTINGS = 6
_TABLE_ENTRIES = 1 << 22  # of a layer: what a core's cache holds
_CHUNK = 1 << 15  # tokens
_REDRAWS = 8
_ONE = 1 << 16

Floats = NDArray[np.float64]
Ids = NDArray[np.uint16]


def sample_tokens(
    model: Preferences,
    seq_lens: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Draw the experts of every token.

    Parameters
    ----------
    model
        Popularity and ties.
    seq_lens
        ``[sequences]`` tokens of each sequence.
    rng
        Source of randomness.
    rows
        ``[sequences]`` the task of each sequence as a row of `model`; drawn evenly if not given.

    Returns
    -------
    ``[tokens, layers, top_k]`` distinct ids per token and layer; in memory a layer's are together.

    Raises
    ------
    WorkloadError
        If a sequence is empty or `rows` names no task.
    """
    tasks, layers, experts = model.log_weight.shape
    if not seq_lens.size or seq_lens.min() < 1:
        raise WorkloadError("routing: sequences must have at least one token each")
    if rows is None:
        rows = rng.integers(tasks, size=seq_lens.size)
    if rows.shape != seq_lens.shape or rows.min() < 0 or rows.max() >= tasks:
        raise WorkloadError(f"routing: tasks of sequences must be {seq_lens.size} numbers from 0 to {tasks - 1}")
    maker = _Tables(model, rows, rng)
    tokens = int(seq_lens.sum())
    kind = np.repeat(maker.variant, seq_lens).astype(np.int32)
    first = np.zeros(tokens, dtype=bool)
    first[np.cumsum(seq_lens) - seq_lens] = True
    out = np.empty((layers, tokens, model.top_k), dtype=np.uint8 if experts <= 256 else np.uint16)
    picks = np.zeros((model.top_k, tokens), dtype=np.uint16)
    pattern = np.zeros(tokens, dtype=np.uint16)
    renewal = model.ties.renewal()
    for layer in range(layers):
        draw = _Layer(maker, layer, float(model.ties.link[layer]) if layer else 0.0, float(renewal[layer]), rng)
        for start in range(0, tokens, _CHUNK):
            part = slice(start, min(start + _CHUNK, tokens))
            out[layer, part] = draw.chunk(picks, pattern, kind[part], first[part], part).T
    return out.swapaxes(0, 1)


class _Tables:
    """Which table each sequence uses, and the tables of a layer."""

    def __init__(self, model: Preferences, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        tasks = model.log_weight.shape[0]
        self.model, self.rng = model, rng
        self.patterns = _PATTERNS if model.grouped else 1
        most = max(tasks, _GROUPED_VARIANTS if model.grouped else _VARIANTS)
        if not model.sequence_sigma.any():
            self.row, self.variant = np.arange(tasks), rows
        elif rows.size <= most:
            self.row, self.variant = rows, np.arange(rows.size)
        else:
            each = most // tasks
            self.row = np.repeat(np.arange(tasks), each)
            self.variant = rows * each + rng.integers(each, size=rows.size)
        # what a sequence prefers runs along the links: it belongs to places in the strata, alike in all layers
        self.liking = rng.standard_normal((self.row.size, model.log_weight.shape[-1]))
        self.mean = expected_popularity(model).mean
        per_kind = _TABLE_ENTRIES // max(1, self.row.size * self.patterns * model.top_k)
        self.bits = min(16, max(6, per_kind.bit_length() - 1))

    def of_layer(self, layer: int) -> tuple[NDArray[np.uint16], Floats]:
        """Return ``[variants x patterns x top_k x slots]`` experts, and ``[variants, experts]`` chances."""
        model, top_k, slots = self.model, self.model.top_k, 1 << self.bits
        base = model.log_weight[:, layer]
        mean = self.mean[:, layer]
        own = np.empty_like(self.liking)
        np.put_along_axis(own, deal(mean, top_k)[self.row], self.liking, axis=-1)
        own = base[self.row] + model.sequence_sigma[layer] * own
        chance = model.chance(own[:, None, :], np.ones(1))[:, 0]
        tilt = chance / np.maximum(mean[self.row], 1e-300)
        by_pattern = mean[:, None] if self.patterns == 1 else _by_pattern(model, mean, base, self.rng)
        rows, patterns = by_pattern.shape[:2]
        laid = arrange(by_pattern.reshape(rows * patterns, -1), top_k)
        index = (self.row[:, None] * patterns + np.arange(patterns)).ravel()
        chosen = Segments(*(column[index] for column in laid))
        return tables(chosen, np.repeat(tilt, patterns, axis=0), slots, self.rng).ravel(), chance


def _by_pattern(model: Preferences, mean: Floats, log_weight: Floats, rng: np.random.Generator) -> Floats:
    """Return ``[tasks, patterns, experts]`` chances given a token's groups; patterns are equally likely."""
    tasks, experts = mean.shape
    size = experts // model.n_group
    log_weight = skewed(log_weight, model.cold)
    weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
    grouped = weight.reshape(tasks, model.n_group, size).sum(axis=-1)
    used = ring_chance(grouped[:, None, :], np.ones(1), model.topk_group)[:, 0]
    # systematic draws along random orders of the groups: every group as often as it should be
    order = rng.permuted(np.tile(np.arange(model.n_group), (tasks, _PATTERNS, 1)), axis=-1)
    ends = np.cumsum(np.take_along_axis(used[:, None, :].repeat(_PATTERNS, axis=1), order, axis=-1), axis=-1)
    ends *= model.topk_group / ends[..., -1:]
    marks = np.floor(ends + ((np.arange(_PATTERNS) + 0.5) / _PATTERNS)[:, None] - 1e-12)
    hit = np.diff(marks, axis=-1, prepend=0.0) > 0
    allowed = np.zeros(hit.shape, dtype=bool)
    np.put_along_axis(allowed, order, hit, axis=-1)
    allowed = np.repeat(allowed, size, axis=-1)
    if size * model.topk_group == model.top_k:
        return np.asarray(allowed, dtype=np.float64)
    return _matched(mean, allowed, model.top_k)


def _matched(mean: Floats, allowed: NDArray[np.bool_], top_k: int) -> Floats:
    """Return chances ``[tasks, patterns, experts]`` of the allowed experts that average to `mean` over patterns.

    Each pattern's sum to top_k. Source: iterative proportional fitting, Deming and Stephan 1940.
    """
    weight = mean.copy()
    for _ in range(_FITTINGS):
        chance = ring_chance((weight[:, None, :] * allowed)[..., None, :], np.ones(1), top_k)[..., 0, :]
        weight *= mean / np.maximum(chance.mean(axis=1), 1e-300)
        weight /= weight.max(axis=-1, keepdims=True)
    return np.asarray(chance)


class _Layer:
    """Draws one layer, chunk by chunk."""

    def __init__(self, maker: _Tables, layer: int, link: float, renewal: float, rng: np.random.Generator) -> None:
        self.table, self.chance = maker.of_layer(layer)
        self.patterns, self.bits, self.top_k = maker.patterns, maker.bits, maker.model.top_k
        self.n_group = maker.model.n_group
        self.keep = round(link * _ONE)
        self.repeat = self.keep + round((1.0 - link) * renewal * _ONE)
        self.rng = rng

    def chunk(self, picks: Ids, pattern: Ids, kind: NDArray[np.int32], first: NDArray[np.bool_], part: slice) -> Ids:
        """Draw a chunk, update its `picks` ``[top_k, tokens]`` and `pattern`, and return the ids ``[top_k, chunk]``."""
        size = part.stop - part.start
        shared = self.patterns > 1
        coin = _random(self.rng, 1 if shared else self.top_k, size)
        fresh = _random(self.rng, self.top_k, size)
        keep = coin < self.keep
        source = _source(~keep & (coin < self.repeat) & ~first)
        before = slice(max(0, part.start - 1), part.start)
        picks[:, part] = _renewed(picks, before, part, keep, fresh, source)
        base = kind * (self.patterns << self.bits) * self.top_k
        if shared:
            chosen = _random(self.rng, 1, size)
            pattern[part] = _renewed(pattern[None], before, part, keep, chosen, source)[0]
            base = base + ((pattern[part].astype(np.int32) * self.patterns) >> 16) * (self.top_k << self.bits)
        return self._distinct(picks[:, part], base, kind)

    def _distinct(self, picks: Ids, base: NDArray[np.int32], kind: NDArray[np.int32]) -> Ids:
        """Look the picks up; where neighbouring strata give the same expert, draw the later pick again."""
        step = np.arange(self.top_k, dtype=np.int32)[:, None] << self.bits
        ids = self.table[(picks >> (16 - self.bits)) + (base + step)]
        for attempt in range(_REDRAWS + 1):
            pick, token = np.nonzero(ids[1:] == ids[:-1])
            if not pick.size:
                break
            pick = pick + 1
            if attempt == _REDRAWS:
                self._fill(ids, pick, token, kind)
                break
            picks[pick, token] = _random(self.rng, 1, pick.size)[0]
            ids[pick, token] = self.table[(picks[pick, token] >> (16 - self.bits)) + base[token] + step[pick, 0]]
        return np.asarray(ids)

    def _fill(self, ids: Ids, pick: NDArray[np.int64], token: NDArray[np.int64], kind: NDArray[np.int32]) -> None:
        """Give picks that find no other expert in their stratum the likeliest that the token does not use."""
        for column in np.unique(pick):
            here = token[pick == column]
            used = ids[:, here].T.astype(np.int64)
            free = self.chance[kind[here]]
            if self.patterns > 1:  # an expert of a group that the token uses, if any is left
                near = np.zeros((here.size, self.n_group), dtype=bool)
                np.put_along_axis(near, used * self.n_group // free.shape[1], True, axis=1)
                free = np.where(np.repeat(near, free.shape[1] // self.n_group, axis=1), free, -0.5)
            free = free.copy()
            np.put_along_axis(free, used, -1.0, axis=1)
            ids[column, here] = free.argmax(axis=1)


def _random(rng: np.random.Generator, rows: int, columns: int) -> Ids:
    """Return ``[rows, columns]`` evenly distributed 16-bit numbers."""
    words = rng.integers(0, 1 << 64, size=-(-rows * columns // 4), dtype=np.uint64)
    return words.view(np.uint16)[: rows * columns].reshape(rows, columns)


def _source(repeats: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the column, counted from 1, that each column's number comes from; 0 is the one before the first."""
    at = np.arange(1, repeats.shape[1] + 1, dtype=np.int32)
    return np.maximum.accumulate(np.where(repeats, np.int32(0), at), axis=1)


def _renewed(
    picks: Ids, before: slice, part: slice, keep: NDArray[np.bool_], fresh: Ids, source: NDArray[np.int32]
) -> Ids:
    """Keep a column's number, or take the previous column's, or a fresh one."""
    own = np.where(keep, picks[:, part], fresh)
    front = picks[:, before] if before.stop > before.start else own[:, :1]
    joined = np.concatenate([front, own], axis=1)
    return np.take_along_axis(joined, np.broadcast_to(source, own.shape), axis=1)
