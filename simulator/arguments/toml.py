"""A scenario's tables as TOML text."""

import json
from collections.abc import Mapping
from typing import Any


def scenario_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a scenario file; where the machine is not known, a comment says what to add."""
    blocks = []
    for name, table in {"model": {}, "cluster": {}, **tables}.items():
        lines = [f"{key} = {_value(value)}" for key, value in table.items()]
        if name == "cluster" and "name" not in table:
            lines = ['# name = "..."  # the machine, see `epsim catalog clusters`', *lines]
        if lines:
            blocks.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # text, numbers, flags and lists are written as in TOML
