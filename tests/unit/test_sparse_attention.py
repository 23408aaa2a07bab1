"""Sparse and compressed attention against counts by brute force and published sizes of the KV cache."""

import numpy as np
import pytest

from workloads.models import load_model, parameters
from workloads.models.specs import SparseLayers
from workloads.operators import BF16, attention_core, attention_operators, kv_bytes_per_sequence, model_flop_per_token
from workloads.operators.layer_kinds import LayerKind, attended_pairs, indexer_pairs, layer_kinds, read_entries

V32, PRO, FLASH, V3 = (load_model(name) for name in ("DeepSeek-V3.2", "V4-Pro", "V4-Flash", "deepseek-v3"))
TOKENS = 2**20


def counted(part, queries, context):
    """Entries that the last queries of a sequence see, one by one; a block that is not full counts by its share."""
    total = 0.0
    for position in range(context - queries + 1, context + 1):
        blocks = position / part.compression
        total += min(blocks, part.selected or np.inf) + min(position, part.window)
    return total


@pytest.mark.parametrize("part", [*V32.attention.sparse, *PRO.attention.sparse, *FLASH.attention.sparse])
@pytest.mark.parametrize(("queries", "context"), [(1, 1), (1, 100), (2, 5000), (300, 300), (700, 3000)])
def test_pairs_are_those_that_each_query_sees(part, queries, context):
    kind = LayerKind(1.0, None, part)
    assert attended_pairs(kind, queries, context) == pytest.approx(counted(part, queries, context))


def test_kinds_share_out_the_layers_also_of_a_shallower_model():
    for model in (V32, PRO, FLASH, FLASH.model_copy(update={"layers": 5})):
        assert sum(kind.share for kind in layer_kinds(model)) == pytest.approx(1.0)
    assert [kind.sparse is None for kind in layer_kinds(FLASH)] == [False, False, True]


@pytest.mark.parametrize(
    ("model", "bytes_per_token"),
    [(V32, 85_888), (PRO, 9_848), (FLASH, 6_880)],  # arXiv:2606.19348 section 4.2.1, BF16, long sequences
)
def test_kv_cache_is_as_published(model, bytes_per_token):
    grown = kv_bytes_per_sequence(model, 2 * TOKENS, 2.0) - kv_bytes_per_sequence(model, TOKENS, 2.0)
    assert grown / TOKENS == pytest.approx(bytes_per_token)


def test_a_decoding_query_reads_its_selection_and_no_more_than_there_is():
    kind = layer_kinds(V32)[0]
    assert read_entries(kind, 1, 100_000) == 2048
    assert read_entries(kind, 3, 100_000) == 3 * 2048
    assert read_entries(kind, 4, 1000) == 1000


def test_short_sequences_cost_as_dense_ones_but_for_the_indexer():
    dense, sparse = (attention_core(model, 8.0, 1000.0, 8.0, "decode", BF16) for model in (V3, V32))
    assert sparse.flop == pytest.approx(dense.flop)
    assert sparse.activation_bytes == pytest.approx(dense.activation_bytes)
    names = attention_operators(V32, 8.0, 1000.0, 8.0, "decode", BF16).names
    assert {"indexer_scores", "indexer_top_k"} <= set(names)


def test_long_sequences_cost_what_is_selected():
    long, longer = (attention_core(V32, 8.0, context, 8.0, "decode", BF16).flop for context in (32_768.0, 131_072.0))
    assert long == pytest.approx(longer)
    assert indexer_pairs(layer_kinds(V32)[0], 1, 131_072) == 131_072


def test_v4_needs_a_fraction_of_the_attention_of_v32_at_a_million_tokens():
    """27 % (Pro) of V3.2's FLOPs per token at 1 M tokens, all layers and experts (arXiv:2606.19348 section 1)."""
    ratio = model_flop_per_token(PRO, TOKENS, False, causal=False) / model_flop_per_token(V32, TOKENS, False, False)
    assert 0.2 < ratio < 0.4


def test_indexers_are_among_the_parameters():
    more = parameters(V32).attention_per_layer - parameters(V3).attention_per_layer
    assert more == 1536 * 64 * 128 + 7168 * (128 + 64)


def test_dense_models_have_one_kind():
    assert layer_kinds(V3) == (LayerKind(1.0),)
    assert SparseLayers(layers=1).selected is None
