"""`epsim trace record`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simulator.cli.options import print_json

if TYPE_CHECKING:
    from workloads.routing.trace import Trace


@click.command(
    epilog="""
\b
Examples:
  epsim trace record --model allenai/OLMoE-1B-7B-0924 --prompts prompts.txt -o olmoe.npz
  epsim trace record --model ./my-moe --prompts chat.jsonl --max-new-tokens 256 -o chat.npz
"""
)
@click.option("--model", required=True, metavar="PATH_OR_ID", help="Folder with safetensors, or Hugging Face id.")
@click.option(
    "--prompts",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Text file, a prompt per line; or .jsonl, {"prompt": "..."} per line.',
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Trace: .npz or .parquet."
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Tokens to generate after each prompt.",
)
@click.option(
    "--phase",
    type=click.Choice(("prefill", "decode", "mixed")),
    help="Tokens to keep: of prompts, generated, or both. Default prefill without generation, else mixed.",
)
@click.option("--device", default="cpu", show_default=True, help="Where torch runs the model: cpu, cuda, npu ...")
@click.option("--source", help="Where the text comes from, to be kept with the trace; default the name of FILE.")
@click.option("--licence", default="", help="Under which terms, likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def record(
    model: str,
    prompts: Path,
    out: Path,
    max_new_tokens: int,
    phase: str | None,
    device: str,
    source: str | None,
    licence: str,
    as_json: bool,
) -> None:
    """Run a Hugging Face MoE model over prompts and record which experts each token uses.

    Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, DeepSeek-V2 and -V3, and gpt-oss, as transformers has them. Needs the extra
    `record` (torch, transformers). Prompts run one at a time, generation is greedy, and no code of a model is run.
    """
    from rich.console import Console
    from rich.progress import Progress

    from workloads.routing.files import check_name
    from workloads.routing.recorder.loading import load, read_prompts
    from workloads.routing.recorder.record import Request
    from workloads.routing.recorder.record import record as run
    from workloads.routing.trace import write_trace

    request = Request(
        model=_name(model),
        max_new_tokens=max_new_tokens,
        phase=phase or ("mixed" if max_new_tokens else "prefill"),  # type: ignore[arg-type]
        source=f"{_folder(model) or model} on {source or prompts.name}",
        licence=licence,
    )
    check_name(out)
    texts = read_prompts(prompts)
    loaded = load(model, device)
    prompts_ids = [loaded.tokenizer(text)["input_ids"] for text in texts]
    with Progress(console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("recording", total=len(texts))
        trace = run(loaded.model, prompts_ids, request, lambda done: bar.update(task, completed=done))
    write_trace(trace, out)
    _report(trace, out, as_json)


def _name(model: str) -> str:
    """Return the model's id in the catalogue, or else the last part of its path or id."""
    from workloads.errors import WorkloadError
    from workloads.models import load_model

    if folder := _folder(model):
        return folder
    try:
        return load_model(model).id
    except WorkloadError:
        return Path(model).name or model


def _folder(model: str) -> str | None:
    """Return the name of the model's folder, without the path of this machine, if it is one."""
    return Path(model).resolve().name if Path(model).exists() else None


def _report(trace: "Trace", out: Path, as_json: bool) -> None:
    shape = {"moe_layers": trace.moe_layers, "routed_experts": trace.routed_experts, "top_k": trace.top_k}
    size = {"tokens": trace.tokens, "sequences": int(trace.seq_lens.size)}
    if as_json:
        print_json(
            {"trace": str(out), "model": trace.model, "phase": trace.phase, **size, **shape, "digest": trace.digest}
        )
        return
    click.echo(
        f"{out}: {trace.model}, {trace.phase}, {trace.tokens:,} tokens in {trace.seq_lens.size:,} sequences, "
        f"{trace.moe_layers} MoE layers x {trace.routed_experts} experts x top-{trace.top_k}"
    )
