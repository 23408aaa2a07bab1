"""`epsim trace import`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simulator.cli.options import print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workloads.models import ModelSpec
    from workloads.routing.importers import Imported

# as in workloads.routing.importers.KINDS, which is not imported for the help alone; a test compares them
KINDS = (
    "sglang",
    "routed-experts",
    "vllm-eplb",
    "eplb-weight",
    "mindspeed",
    "omni",
    "trtllm",
    "hf-logits",
    "llama-csv",
    "esft",
    "token-json",
    "npz",
)


@click.command(
    "import",
    epilog="""
\b
KIND is one of these; without it, the one that can read the files
  sglang          SGLang expert distribution recorder (.pt of stat, per_pass or per_token)
  routed-experts  SGLang or vLLM routed_experts (.npy, .npz, .pt, responses as .json, .jsonl)
  vllm-eplb       vLLM EPLB load tensors with their physical map (.pt, .npz, .safetensors)
  eplb-weight     tokens per layer and expert, as DeepSeek EPLB takes them (.npy, .pt, .json)
  mindspeed       MindSpeed-RL token_collects_all.json
  omni            Omni-infer activation_counts_recordstep_*.txt of all ranks
  trtllm          TensorRT-LLM expert statistics (the folder with meta_info.json)
  hf-logits       Hugging Face router_logits (.pt, .npz, .safetensors)
  llama-csv       llama.cpp layer,expert rows (.csv)
  esft            ESFT expert_weights_*.txt of all layers
  token-json      gpt-oss router_data, or HD-MoE layer -> token -> ids (.json)
  npz             experts with seq_lens, gen_tokens or seq_starts; or *_counts

\b
Examples:
  epsim trace import sglang recorder_0.pt recorder_1.pt --model deepseek-v3 -o v3.npz
  epsim trace import recorder_0.pt --model deepseek-v3 -o v3.npz
  epsim trace import esft law/ --model deepseek-v2-lite --source deepseek-ai/ESFT -o law.parquet
  epsim trace import llama-csv moe_trace.csv --model my-moe --experts 64 --top-k 8 -o mine.npz
""",
)
@click.argument("words", nargs=-1, required=True, metavar="[KIND] FILE...")
@click.option("-o", "--out", required=True, type=click.Path(), metavar="FILE", help="Trace to write: .npz or .parquet.")
@click.option("--model", required=True, help="Model that was recorded; one of the catalogue also gives its dimensions.")
@click.option(
    "--experts", type=click.IntRange(1, 65536), help="Routed experts, if neither file nor catalogue has them."
)
@click.option("--top-k", type=click.IntRange(1, 65536), help="Experts per token, likewise.")
@click.option("--layers", type=click.IntRange(1, 65536), help="Layers in the recording, dense ones included, likewise.")
@click.option(
    "--phase",
    type=click.Choice(("prefill", "decode", "mixed")),
    default="mixed",
    show_default=True,
    help="What the model was doing.",
)
@click.option("--source", default="", help="Where the recording comes from, to be kept with it.")
@click.option("--licence", default="", help="Under which terms, likewise.")
@click.option("--placement", type=click.Path(), metavar="FILE", help="Placement that counts per position refer to.")
@click.option("--part", help="Which recording of a file that holds several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def import_(
    words: tuple[str, ...],
    out: str,
    model: str,
    experts: int | None,
    top_k: int | None,
    layers: int | None,
    phase: str,
    source: str,
    licence: str,
    placement: str | None,
    part: str | None,
    as_json: bool,
) -> None:
    """Read what another tool recorded in FILE... (or the folders of them) and write it as a native trace."""
    from workloads.routing.counts import write_recorded
    from workloads.routing.importers import Options, import_trace, kind_of

    kind, files = _kind_and_files(words)
    spec, notes = _catalogued(model)
    options = Options(
        model=spec.id if spec else model,
        phase=phase,  # type: ignore[arg-type]
        source=source,
        licence=licence,
        routed_experts=experts or (spec.experts.routed_experts if spec and spec.experts else None),
        top_k=top_k or (spec.experts.top_k if spec and spec.experts else None),
        layers=layers or (spec.layers if spec else None),
        physical_to_logical=_positions(placement),
        part=part,
    )
    if kind is None:
        kind = kind_of(files, options)
        notes.append(f"read as {kind}")
    if not source:
        options = replace(options, source=f"{kind}: {', '.join(file.name for file in files[:4])}")
    imported = import_trace(kind, files, options)
    if spec:
        notes += _compared(imported, spec)
    write_recorded(imported.trace, out)
    _report(imported, [*imported.notes, *notes], out, as_json)


def _kind_and_files(words: tuple[str, ...]) -> tuple[str | None, list[Path]]:
    """Take the first word for the kind if it is one."""
    from simulator.errors import UserError, did_you_mean

    kind = words[0] if words[0] in KINDS else None
    files = [Path(word) for word in (words[1:] if kind else words)]
    if not files:
        raise UserError(f"FILE: missing; name the files of one recording after '{kind}'")
    if kind is None and not files[0].exists() and len(files) > 1:
        hint = did_you_mean(words[0], KINDS) or f"; KIND is one of {', '.join(KINDS)}"
        raise UserError(f"'{words[0]}': neither a KIND nor a file{hint}")
    return kind, files


def _catalogued(model: str) -> tuple["ModelSpec | None", list[str]]:
    """Return the model of the catalogue, or say that the name is only kept."""
    from workloads.errors import WorkloadError
    from workloads.models import load_model

    try:
        spec = load_model(model)
    except WorkloadError as error:
        return None, [f"{error.problems[0]}: kept as a name only"]
    if spec.experts is None:
        raise WorkloadError(f"model: '{model}': has no experts; name the model that was recorded")
    return spec, []


def _positions(placement: str | None) -> "NDArray[np.int64] | None":
    if placement is None:
        return None
    from workloads.placement_files import read_placement

    held = read_placement(placement, ranks=1).slot_expert  # which rank a position is on does not matter here
    return held.reshape(len(held), -1)


def _compared(imported: "Imported", spec: "ModelSpec") -> list[str]:
    trace, wanted = imported.trace, spec.moe_layers
    if trace.moe_layers == wanted:
        return []
    return [
        f"{trace.moe_layers} MoE layers recorded, but {spec.id} has {wanted}: a run of that model refuses the trace"
    ]


def _report(imported: "Imported", notes: list[str], out: str, as_json: bool) -> None:
    from workloads.routing.trace import Trace

    trace = imported.trace
    shape = {"moe_layers": trace.moe_layers, "routed_experts": trace.routed_experts, "top_k": trace.top_k or None}
    if isinstance(trace, Trace):
        size = {"tokens": trace.tokens, "sequences": int(trace.seq_lens.size)}
    else:
        size = {"steps": trace.steps}
    if as_json:
        print_json({"trace": out, "model": trace.model, **size, **shape, "digest": trace.digest, "notes": notes})
        return
    counted = ", ".join(f"{number:,} {what if number != 1 else what[:-1]}" for what, number in size.items())
    per_token = f"top-{trace.top_k}" if trace.top_k else "top-k not stated"
    click.echo(
        f"{out}: {trace.model}, {counted}, {trace.moe_layers} MoE layers x {trace.routed_experts} experts x {per_token}"
    )
    if not isinstance(trace, Trace):
        click.echo("tokens per expert only: which experts a token used was not recorded")
    for note in notes:
        click.echo(f"note: {note}")
