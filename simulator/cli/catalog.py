"""`epsim catalog`."""

from typing import TYPE_CHECKING, Any

import click

from simulator.cli.options import print_json, table_output, write_csv

if TYPE_CHECKING:
    from pydantic import BaseModel

KINDS = ("chips", "fabrics", "clusters", "models")


@click.command(
    epilog="""
\b
Examples:
  epsim catalog
  epsim catalog chips
  epsim catalog models deepseek-v3
  epsim catalog models path/to/config.json
"""
)
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.argument("name", required=False)
@table_output
def catalog(kind: str | None, name: str | None, as_json: bool, csv_path: str | None) -> None:
    """List chips, fabrics, clusters or models, or explain one (NAME) with the source of every figure."""
    from reports.tables import console, facts_table

    if kind is None:
        rows: list[dict[str, Any]] = [{"kind": each, "entries": len(_entries(each))} for each in KINDS]
    elif name is None:
        rows = [_row(kind, entry) for entry in _entries(kind)]
    else:
        entry = _find(kind, name)
        rows = _explain(entry) + (_computed(entry) if kind == "models" else [])
    if csv_path:
        write_csv(rows, csv_path)
    if as_json:
        print_json(_find(kind, name).model_dump(mode="json") if kind and name else rows)
        return
    console().print(facts_table([_readable(row) for row in rows], name or kind or "Catalogue"))


def _entries(kind: str) -> "tuple[BaseModel, ...]":
    from topologies import catalogue
    from workloads.models import models

    listed = {
        "chips": catalogue.accelerators,
        "fabrics": catalogue.fabrics,
        "clusters": catalogue.clusters,
        "models": models,
    }
    return tuple(listed[kind]())


def _find(kind: str, name: str) -> "BaseModel":
    from topologies import catalogue
    from workloads.models import load_model

    if kind == "chips":
        return catalogue.accelerator(name)
    if kind == "fabrics":
        return catalogue.fabric(name)
    return catalogue.cluster(name) if kind == "clusters" else load_model(name)


def _row(kind: str, entry: Any) -> dict[str, Any]:
    if kind == "chips":
        return {
            "id": entry.id,
            "bf16_flop_per_s": entry.peak.bf16_flop_per_s,
            "fp8_flop_per_s": entry.peak.fp8_flop_per_s,
            "int8_flop_per_s": entry.peak.int8_flop_per_s,
            "fp4_flop_per_s": entry.peak.fp4_flop_per_s,
            "hbm_bytes": entry.memory.capacity_bytes,
            "hbm_bytes_per_s": entry.memory.bandwidth_bytes_per_s,
            "ranks": entry.ranks_per_chip,
            "remark": _announced(entry),
        }
    if kind == "fabrics":
        return {
            "id": entry.id,
            "name": entry.name,
            "kind": entry.kind,
            "shape": entry.shape,
            "port_bytes_per_s": entry.port_bytes_per_s,
            "near_latency_s": entry.near_latency_s,
        }
    if kind == "clusters":
        return {
            "id": entry.id,
            "chip": entry.chip,
            "chips": entry.chips,
            "node": entry.chips_per_node,
            "scale_up": f"{entry.scale_up.fabric} x{entry.scale_up.domain_chips}",
            "scale_out": entry.scale_out.fabric if entry.scale_out else "",
            "remark": _announced(entry),
        }
    from workloads.models import parameters

    counts = parameters(entry)
    experts = entry.experts
    return {
        "id": entry.id,
        "total_params": float(counts.total),
        "active_params": float(counts.active),
        "layers": entry.layers,
        "experts": experts.routed_experts if experts else 0,
        "top_k": experts.top_k if experts else 0,
        "attn": entry.attention.kind,
        "remark": "estimate" if entry.estimate else ("partial" if entry.lacks else ""),
    }


def _announced(entry: Any) -> str:
    return "announced" if entry.status == "announced" else ""


def _explain(entry: "BaseModel", prefix: str = "") -> list[dict[str, Any]]:
    """One row per value, tables inside the record flattened; sources and notes stand beside what they explain."""
    from pydantic import BaseModel

    rows: list[dict[str, Any]] = []
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if isinstance(value, BaseModel):
            rows += _explain(value, f"{prefix}{key}.")
        elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
            for index, each in enumerate(value):
                rows += _explain(each, f"{prefix}{key}.{index}.")
        elif value not in (None, "", ()):
            rows.append(
                {"key": f"{prefix}{key}", "value": ", ".join(map(str, value)) if isinstance(value, tuple) else value}
            )
    return rows


def _computed(model: Any) -> list[dict[str, Any]]:
    """Return what follows from a model's dimensions."""
    from workloads.models import parameters
    from workloads.operators import kv_bytes_per_token

    counts = parameters(model)
    return [
        {"key": "computed.total_params", "value": float(counts.total)},
        {"key": "computed.active_params", "value": float(counts.active)},
        {"key": "computed.mtp_params", "value": float(counts.mtp)},
        {"key": "computed.bf16_kv_bytes_per_token", "value": round(kv_bytes_per_token(model, 2.0))},
    ]


def _readable(row: dict[str, Any]) -> dict[str, str]:
    """Format each value by the unit in its key; a row of `key` and `value` by the key that it names."""
    if set(row) == {"key", "value"}:
        return {"key": row["key"], "value": _text(row["key"], row["value"])}
    return {_heading(key): _cell(key, value) for key, value in row.items()}


# In a list, numbers stand under a heading that holds their unit: suffix of the key, divisor, unit.
_LISTED = {
    "_flop_per_s": (1e12, "TFLOP/s"),
    "_bytes_per_s": (1e9, "GB/s"),
    "_bytes": (2**30, "GiB"),
    "_s": (1e-6, "us"),
    "_params": (1e9, "B"),
}


def _heading(key: str) -> str:
    for suffix, (_, unit) in _LISTED.items():
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix)}\n{unit}"
    return key.replace("_", "-")


def _cell(key: str, value: Any) -> str:
    """Format a list's value for its heading."""
    for suffix, (divisor, _) in _LISTED.items():
        if key.endswith(suffix) and value is not None:
            scaled = value / divisor
            return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}"
    return _text(key, value)


def _text(key: str, value: Any) -> str:
    from simulator import units

    if value is None:
        return "-"
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        return str(value)
    formats = {
        "_flop_per_s": units.flop_per_s,
        "_bytes_per_s": units.bytes_per_s,
        "_bytes": units.binary_bytes,
        "_s": units.seconds,
        "_w": units.watts,
        "_usd": units.usd,
    }
    for unit, write in formats.items():
        if key.endswith(unit):
            return write(value)
    return f"{value / 1e9:,.1f} B" if key.endswith("_params") else f"{value:,}"
