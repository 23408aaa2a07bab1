"""Launch arguments of other tools become scenarios: facts of their published scripts, written anew."""

import json
import tomllib
from pathlib import Path

import pytest

from simulator.arguments import Converted, convert, read_arguments
from simulator.arguments.toml import scenario_toml
from simulator.errors import UserError
from simulator.run import run
from simulator.scenario_file import load_scenario, validate
from workloads.models import load_model

TRAINING = "--bf16 --micro-batch-size 1 --global-batch-size 256 --seq-length 4096 "
LLAMA = "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --num-query-groups 8 --ffn-hidden-size 14336 "
LLAMA += "--vocab-size 128256 --swiglu "
# Mixtral 8x7B of Megatron-LM's examples: arrays, variables, arithmetic, comments, a pipe.
MIXTRAL = """#!/bin/bash
# runs Mixtral 8x7B
export CUDA_DEVICE_MAX_CONNECTIONS=1
GPUS_PER_NODE=8
NNODES=${NNODES:-"8"}
WORLD_SIZE=$(($GPUS_PER_NODE*$NNODES))
DISTRIBUTED_ARGS=(
    --nproc_per_node $GPUS_PER_NODE
    --nnodes $NNODES
    --master_addr $MASTER_ADDR
)
MODEL_ARGS=(
    --use-mcore-models --disable-bias-linear
    --seq-length 4096
    --num-layers 32
    --hidden-size 4096
    --ffn-hidden-size 14336   # of one expert
    --num-attention-heads 32
    --group-query-attention --num-query-groups 8
    --swiglu
)
MOE_ARGS=(
    --num-experts 8 --moe-router-topk 2 --moe-grouped-gemm
    --moe-token-dispatcher-type alltoall --overlap-grad-reduce
)
PARALLEL="--tensor-model-parallel-size 1 --pipeline-model-parallel-size 4 \\
    --expert-model-parallel-size 8"
PARALLEL+=" --use-distributed-optimizer --sequence-parallel"
torchrun ${DISTRIBUTED_ARGS[@]} pretrain_gpt.py \\
    "${MODEL_ARGS[@]}" ${MOE_ARGS[@]} --lr 1e-4 --bf16 --micro-batch-size 1 --global-batch-size 256 $PARALLEL | tee log
"""
# DeepSeek-V3 as Megatron-LM's Mcore examples run it.
DEEPSEEK = (
    "--num-layers 61 --hidden-size 7168 --ffn-hidden-size 18432 --num-attention-heads 128 --multi-latent-attention "
    "--q-lora-rank 1536 --kv-lora-rank 512 --qk-head-dim 128 --qk-pos-emb-head-dim 64 --v-head-dim 128 --swiglu "
    "--num-experts 256 --moe-router-topk 8 --moe-ffn-hidden-size 2048 --moe-shared-expert-intermediate-size 2048 "
    "--moe-layer-freq ([0]*3+[1]*58) --mtp-num-layers 1 --moe-router-num-groups 8 --moe-router-group-topk 4 "
)
# MindSpeed-LLM's DeepSeek-V3: 64 places of which 3 are empty, DualPipeV, experts over TP x EP.
MINDSPEED = (
    "--num-layers 64 --noop-layers 61,62,63 --first-k-dense-replace 3 --hidden-size 7168 --num-attention-heads 128 "
    "--ffn-hidden-size 18432 --multi-latent-attention --q-lora-rank 1536 --kv-lora-rank 512 --qk-nope-head-dim 128 "
    "--qk-rope-head-dim 64 --v-head-dim 128 --num-experts 256 --moe-router-topk 8 --moe-intermediate-size 2048 "
    "--n-shared-experts 1 --mtp-num-layers 1 --tensor-model-parallel-size 2 --pipeline-model-parallel-size 8 "
    "--expert-model-parallel-size 32 --moe-tp-extend-ep --schedules-method dualpipev --moe-fb-overlap --fix-router "
    "--use-distributed-optimizer --recompute-activation-function --swap-optimizer --moe-alltoall-overlap-comm "
)


def converted(text: str, model: str | None = None, machine: str | None = None) -> Converted:
    return convert(read_arguments(text), model, machine)


def problems(text: str, model: str | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        converted(text, model)
    return list(caught.value.problems)


def test_mixtral_script(tmp_path: Path) -> None:
    script = tmp_path / "train_mixtral.sh"
    script.write_text(MIXTRAL)
    found = converted(str(script), machine="h100-cluster")
    assert found.tables["model"] == {"name": "mixtral-8x7b"}
    assert found.tables["cluster"] == {"name": "h100-cluster", "chips": 64}
    assert found.tables["workload"] == {
        "phase": "training",
        "sequence_tokens": 4096,
        "global_batch_sequences": 256,
    }
    plan = found.tables["plan"]
    assert (plan["tensor"], plan["pipeline"], plan["expert"], plan["expert_tensor"]) == (1, 4, 8, 1)
    assert (plan["zero"], plan["schedule"], plan["overlap_gradients"]) == (1, "1f1b", True)
    status = {each.argument: each.status for each in found.statuses}
    assert status["moe-grouped-gemm"] == status["lr"] == status["master-addr"] == "no effect"
    assert next(each for each in found.statuses if each.argument == "sequence-parallel").value == ""


def test_imported_scenario_runs(tmp_path: Path) -> None:
    script, scenario = tmp_path / "train.sh", tmp_path / "my.toml"
    script.write_text(MIXTRAL)
    scenario.write_text(scenario_toml(converted(str(script), machine="h100-cluster").tables))
    result = run(load_scenario(str(scenario)), allow_oom=True)
    assert result.plan["PP"] == 4
    assert result.tokens_per_step == 256 * 4096


def test_deepseek_is_found_by_its_dimensions() -> None:
    text = DEEPSEEK + TRAINING + "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 16 "
    text += "--expert-model-parallel-size 64 --expert-tensor-parallel-size 1 --fp8-format e4m3 --fp8-recipe blockwise "
    text += "--recompute-granularity selective --recompute-modules mla_up_proj layernorm moe_act "
    text += "--moe-token-dispatcher-type flex --moe-flex-dispatcher-backend hybridep --overlap-moe-expert-parallel-comm"
    found = converted(text).tables
    assert found["model"] == {"name": "deepseek-v3"}
    assert found["precision"] == {"gemm": "fp8"}
    assert found["transport"] == {"library": "hybrid-ep"}
    assert found["routing"] == {"groups": 8, "groups_per_token": 4}
    assert found["plan"]["recompute"] == "light"
    assert found["plan"]["schedule"] == "1f1b-overlap"
    assert found["plan"]["expert_tensor"] == 1


def test_mindspeed_deepseek() -> None:
    found = converted(MINDSPEED + TRAINING + "--nproc-per-node 16 --nnodes 64", machine="cloudmatrix384")
    assert found.tables["model"] == {"name": "deepseek-v3"}
    assert found.tables["cluster"] == {"name": "cloudmatrix384", "chips": 512}  # two ranks per chip
    plan = found.tables["plan"]
    assert (plan["expert"], plan.get("expert_tensor", 1), plan["schedule"]) == (64, 1, "dualpipe-v")
    assert plan["layers_per_stage"] == [4] * 15 + [1]
    assert found.tables["routing"] == {"kind": "balanced"}
    status = {each.argument: each for each in found.statuses}
    assert status["swap-optimizer"].status == "not modelled"
    assert "exposed" in status["moe-alltoall-overlap-comm"].note


def test_megatron_bridge_spelling() -> None:
    text = "-tp 1 -pp 8 -vp 4 -ep 8 -et 1 -cp 2 -mb 1 -gb 1024 --num_gpus 64 --seq_length 4096 --compute_dtype=fp8_mx"
    found = converted(text, model="qwen3-235b-a22b").tables
    assert found["cluster"] == {"chips": 64}
    assert found["model"]["name"] == "qwen3-235b-a22b"
    plan = found["plan"]
    assert (plan["pipeline"], plan["virtual_stages"], plan["schedule"]) == (8, 4, "interleaved")
    assert (plan["expert"], plan["context"], plan["context_exchange"]) == (8, 2, "ring")
    assert found["precision"] == {"gemm": "fp8"}


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ("--use-distributed-optimizer", "zero", 1),
        ("", "zero", 0),
        ("--use-torch-fsdp2", "zero", 3),
        ("--data-parallel-sharding-strategy optim_grads", "zero", 2),
        ("--recompute-granularity full --recompute-method uniform --recompute-num-layers 1", "recompute", "full"),
        ("--recompute-activations", "recompute", "selective"),
        ("--context-parallel-size 4 --context-parallel-algo ulysses_cp_algo", "context_exchange", "all-to-all"),
        ("--context-parallel-size 4 --cp-comm-type p2p", "context_exchange", "ring"),
        (
            "--pipeline-model-parallel-size 4 --num-layers-per-virtual-pipeline-stage 2",
            "virtual_stages",
            4,
        ),
        (
            "--pipeline-model-parallel-size 4 --decoder-first-pipeline-num-layers 7 "
            "--decoder-last-pipeline-num-layers 5",
            "layers_per_stage",
            [7, 10, 10, 5],
        ),
        ("--pipeline-model-parallel-size 4 --num-layer-list 7,8,9,8", "layers_per_stage", [7, 8, 9, 8]),
        ("--tensor-model-parallel-size 2 --use-ascend-mc2", "overlap_tensor", True),
    ],
)
def test_single_arguments(more: str, key: str, value: object) -> None:
    assert converted(LLAMA + TRAINING + more).tables["plan"][key] == value


def test_embedding_and_loss_count_as_layers() -> None:
    text = LLAMA.replace("--num-layers 32", "--num-layers 126") + TRAINING + "--pipeline-model-parallel-size 16 "
    text += "--account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split"
    layers = converted(text).tables["plan"]["layers_per_stage"]
    assert layers == [7, *[8] * 14, 7]
    assert sum(layers) == 126


def test_experts_are_split_over_tensor_ranks_by_default() -> None:
    """Megatron-LM: without --expert-tensor-parallel-size experts have the TP of the attention."""
    text = DEEPSEEK + TRAINING + "--tensor-model-parallel-size 4 --expert-model-parallel-size 8"
    assert converted(text).tables["plan"]["expert_tensor"] == 4


def test_other_dimensions_become_a_configuration(tmp_path: Path) -> None:
    text = LLAMA.replace("--hidden-size 4096", "--hidden-size 4608").replace("32 --num-query", "36 --num-query")
    text = text.replace("--num-query-groups 8", "--num-query-groups 4")
    found = converted(text + TRAINING)
    assert found.config is not None
    path = tmp_path / "my.config.json"
    path.write_text(json.dumps(found.config))
    spec = load_model(path)
    assert (spec.hidden, spec.attention.heads, spec.attention.kv_heads, spec.layers) == (4608, 36, 4, 32)


def test_every_catalogued_llama_like_model_is_found() -> None:
    for name in ("llama-2-7b", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "qwen3-30b-a3b", "qwen3-235b-a22b"):
        spec = load_model(name)
        text = f"--num-layers {spec.layers} --hidden-size {spec.hidden} --num-attention-heads {spec.attention.heads} "
        text += f"--num-query-groups {spec.attention.kv_heads} --vocab-size {spec.vocab} --swiglu {TRAINING} "
        if spec.experts:
            text += f"--num-experts {spec.experts.routed_experts} --moe-router-topk {spec.experts.top_k} "
            text += f"--moe-ffn-hidden-size {spec.experts.expert_ffn}"
        else:
            text += f"--ffn-hidden-size {spec.dense_ffn}"
        found = load_model(converted(text).tables["model"]["name"])
        assert (found.layers, found.hidden, found.vocab) == (spec.layers, spec.hidden, spec.vocab)


def test_all_problems_at_once() -> None:
    found = problems(
        "--num-layers x --hidden-size 4096 --num-attention-heads 32 --tensor-model-paralel-size 2 "
        "--micro-batch-size $MBS --context-parallel-size 2 --context-parallel-algo hybrid_cp_algo "
        "--schedules-method other"
    )
    text = "\n".join(found)
    for words in (
        "--num-layers x: not a whole number",
        "did you mean 'tensor-model-parallel-size'",
        "--micro-batch-size $MBS: a variable that the script does not set",
        "hybrid_cp_algo: not supported",
        "--schedules-method other",
        "--seq-length: missing",
        "--global-batch-size: missing",
        "--bf16: missing",
    ):
        assert words in text
    assert len(found) == len(set(found))


@pytest.mark.parametrize("text", ["", "   ", "no-such-file.sh", "x" * 5000, "--\0", "/", "-", "--- ---"])
def test_what_holds_no_arguments_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        read_arguments(text)


def test_scripts_are_not_run(tmp_path: Path) -> None:
    script, proof = tmp_path / "evil.sh", tmp_path / "proof"
    script.write_text(f"X=$(touch {proof})\nA=`touch {proof}`\ntrain --seq-length $X --lr $(touch {proof}) $A\n")
    read_arguments(str(script))
    assert not proof.exists()


def test_variables_that_name_themselves_end(tmp_path: Path) -> None:
    script = tmp_path / "loop.sh"
    script.write_text('A="$B $B"\nB="$A $A"\ntrain --seq-length 8 $A\n')
    assert read_arguments(str(script))[0].values[0] == "8"


def test_toml_is_a_valid_scenario() -> None:
    found = converted(
        LLAMA + TRAINING + "--pipeline-model-parallel-size 4 --num-layer-list 7,8,9,8", machine="h100-cluster"
    )
    table = tomllib.loads(scenario_toml(found.tables))
    assert validate(table, "imported").plan.layers_per_stage == (7, 8, 9, 8)
    assert "# name" in scenario_toml(converted(LLAMA + TRAINING).tables)
