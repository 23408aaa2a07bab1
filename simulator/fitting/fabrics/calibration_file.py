"""A fabric's calibration as the text of its file."""

import json
import textwrap
from typing import Any

from pydantic import BaseModel


def toml(record: BaseModel, comment: str) -> str:
    """Return the record as TOML, below a line of comment."""
    lines = [f"# {comment}"]
    tables: list[tuple[str, Any]] = [("", record.model_dump(exclude_defaults=True))]
    while tables:
        name, table = tables.pop(0)
        lines += ["", f"[{name}]"] if name else []
        prefix = f"{name}." if name else ""
        inner = [(f"{prefix}{key}", value) for key, value in table.items() if isinstance(value, dict)]
        lines += [
            f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict) and value != ()
        ]
        tables = inner + tables
    return "\n".join(lines) + "\n"


def _item(item: object) -> str:
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in item.items()) + " }"
    return json.dumps(item, ensure_ascii=False)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[\n" + "".join(f"  {_item(item)},\n" for item in value) + "]"
    if isinstance(value, str) and len(value) > 90:
        lines = [line.replace("\\", "\\\\") + " \\\n" for line in textwrap.wrap(value, 110)]
        return '"""\\\n' + "".join(lines)[:-3] + '"""'
    return f"{value:.6g}" if isinstance(value, float) and value else json.dumps(value, ensure_ascii=False)
