"""Recorded traces that ship: whole, labelled, small, and found by name."""

from pathlib import Path

import numpy as np
import pytest

from workloads.errors import WorkloadError
from workloads.models import load_model, parameters
from workloads.routing.counts import read_recorded
from workloads.routing.files import shipped_traces, trace_file
from workloads.routing.measures import cross_layer_share, temporal_share
from workloads.routing.recorder import small_model
from workloads.routing.trace import Trace, check_model, read_trace, write_trace

NAMES = sorted(shipped_traces())


def test_the_small_model_ships() -> None:
    assert small_model.NAME in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_trace_is_labelled_and_of_a_model_of_the_catalogue(name: str) -> None:
    path = trace_file(name)
    assert path.stat().st_size < 600_000
    trace = read_trace(path)  # which checks the digest
    assert trace.source
    assert trace.licence
    spec = load_model(trace.model)
    assert spec.experts
    check_model(trace, spec.id, spec.moe_layers, spec.experts.routed_experts, spec.experts.top_k)


def test_it_is_named_small_and_says_how_it_came_about() -> None:
    trace = read_trace(trace_file(small_model.NAME))
    for word in ("small model", "M parameters", "steps", "loss", "held out", "standard library of Python"):
        assert word in trace.source
    assert "PSF-2.0" in trace.licence
    assert trace.seq_lens.tolist() == [small_model.SEQUENCE_TOKENS] * 6 * small_model.PER_TOPIC


def test_it_is_routed_as_trained_models_route() -> None:
    """Far from uniform, with memory from token to token and from layer to layer; no copy of a real model's figures."""
    trace = read_trace(trace_file(small_model.NAME))
    load = np.stack([np.bincount(trace.experts[:, layer].ravel(), minlength=32) for layer in range(trace.moe_layers)])
    assert (load > 0).mean() > 0.9
    assert (load.max(axis=1) / load.mean(axis=1) > 2).all()
    assert (temporal_share(trace) > 2 * trace.top_k / trace.routed_experts).all()
    guessed, popular = cross_layer_share(trace)
    assert (guessed > popular + 0.1).all()


def test_the_catalogue_describes_the_model_that_the_script_trains() -> None:
    spec, shape = load_model(small_model.NAME), small_model.SHAPE
    assert spec.experts
    assert {
        "vocab_size": spec.vocab,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.experts.expert_ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.attention.heads,
        "num_key_value_heads": spec.attention.kv_heads,
        "num_experts": spec.experts.routed_experts,
        "num_experts_per_tok": spec.experts.top_k,
        "max_position_embeddings": spec.context,
        "tie_word_embeddings": spec.tied_embeddings,
    }.items() <= shape.items()
    assert spec.dense_layers == 0
    assert spec.published
    assert parameters(spec).total == pytest.approx(spec.published.total_params, rel=0.01)
    assert parameters(spec).active == pytest.approx(spec.published.active_params, rel=0.03)


def test_a_shipped_name_wins_over_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(read_recorded("small-moe"), Trace)
    monkeypatch.chdir(tmp_path)
    write_trace(Trace(np.zeros((1, 1, 1), dtype=int), np.array([1]), 1, "own"), tmp_path / "own.npz")
    (tmp_path / "own.npz").rename("small-moe")
    assert read_recorded("small-moe").model == "small-moe"
    assert read_recorded("./small-moe").model == "own"


def test_a_name_that_is_none_is_told_what_ships() -> None:
    with pytest.raises(
        WorkloadError, match="No such file or directory; give a trace file, or one that ships: small-moe"
    ):
        read_recorded("smal-moe")
