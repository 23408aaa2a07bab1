"""Reading scenarios: TOML, `extends`, overrides, and problems said so that they can be mended."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simulator.calibration.chosen import content_digest
from simulator.errors import UserError, did_you_mean
from simulator.reliability.section import Reliability
from simulator.scenario import Scenario

MAX_FILE_BYTES = 1_000_000
MAX_EXTENDS = 8
MAX_LINE = 5_000


def shipped_scenarios() -> dict[str, Path]:
    """Return the shipped scenarios by name."""
    folder = Path(str(files("workloads.scenarios")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_scenario(name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """Return the validated scenario of a file or shipped name, with `key.path=value` overrides applied.

    Raises
    ------
    UserError
        One line per problem: file, key, value, remedy.
    """
    path = _find(name_or_path)
    table = _read_extended(path, ())
    for override in overrides:
        apply_override(table, override)
    return validate(table, str(path.name) if not overrides else f"{path.name} with --set")


def validate(table: Mapping[str, Any], where: str) -> Scenario:
    """Return the scenario in `table`, or raise `UserError` with every problem in it."""
    try:
        return Scenario.model_validate(table)
    except ValidationError as error:
        raise UserError(*problem_lines(error, Scenario, where)) from None


def digest(scenario: Scenario) -> str:
    """Return a short SHA-256 of the scenario's values, independent of file layout."""
    text = json.dumps(values(scenario), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def values(scenario: Scenario) -> dict[str, Any]:
    """Return the scenario's values, each calibration file by its content in place of its path.

    Raises
    ------
    UserError
        If a calibration file can't be read.
    """
    table = scenario.model_dump(mode="json")
    paths = table.pop("calibration")
    if scenario.reliability == Reliability():  # says nothing about a step
        del table["reliability"]
    if table["serving"] is None:
        del table["serving"]  # scenarios that serve no requests keep the digest that they had before there were any
    return table | ({"calibration": [content_digest(path) for path in paths]} if paths else {})


def apply_override(table: dict[str, Any], override: str) -> None:
    """Set one `key.path=value` in `table`; the value is read as TOML, and as text where it is none.

    Raises
    ------
    UserError
        If the override has no `=`, an empty key, or steps into something that is not a table.
    """
    key, equals, text = override.partition("=")
    steps = [step.strip() for step in key.split(".")]
    if not equals or not all(steps):
        raise UserError(f"--set {override}: not of the form key.path=value; for example --set cluster.chips=256")
    place = table
    for step in steps[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise UserError(f"--set {override}: '{step}' is a value, not a table; see `epsim schema`")
    place[steps[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    shipped = shipped_scenarios()
    try:
        if path.exists():
            return path
    except (OSError, ValueError):  # a name too long for the file system, or with a null character
        pass
    stem = name_or_path.removesuffix(".toml")
    if stem in shipped:
        return shipped[stem]
    hint = did_you_mean(stem, shipped)
    shown = shortened(name_or_path, 80)
    raise UserError(f"{shown}: no such file or shipped scenario{hint}; `epsim scenarios` lists what is shipped")


def _read_extended(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path in chain or len(chain) >= MAX_EXTENDS:
        raise UserError(f"{path}: extends: {' -> '.join(p.name for p in (*chain, path))} never ends; remove the loop")
    table = _beside(path, read_toml(path))
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise UserError(f"{path}: extends: {base!r} is not text; name a scenario file or a shipped scenario")
    sibling = path.parent / base
    try:
        found = sibling if sibling.is_file() else _find(base)
    except UserError as error:
        raise UserError(f"{path}: extends: {error}") from None
    return _merged(_read_extended(found, (*chain, path)), table)


def _beside(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Return the table with the paths of other files taken from the folder of the file that names them."""
    serving = table.get("serving")
    if isinstance(serving, dict) and isinstance(serving.get("prefill"), str):
        sibling = path.parent / serving["prefill"]
        if sibling.is_file():
            table = table | {"serving": serving | {"prefill": str(sibling)}}
    named = table.get("calibration")
    if not isinstance(named, list):
        return table
    return table | {"calibration": [str(path.parent / name) if isinstance(name, str) else name for name in named]}


def _merged(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's tables.

    Raises
    ------
    UserError
        If it is a directory, unreadable, larger than 1 MB, not UTF-8 or not TOML.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: a directory; give a scenario file (TOML)")
        if not path.is_file():
            raise UserError(f"{path}: not a regular file; give a scenario file (TOML)")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserError(
                f"{path}: {size} bytes; scenario files end at {MAX_FILE_BYTES} bytes, is this the right file?"
            )
        text = path.read_text(encoding="utf-8-sig")
        longest = max(map(len, text.splitlines()), default=0)
        if longest > MAX_LINE:  # a key of a hundred thousand steps would keep the parser busy for minutes
            raise UserError(f"{path}: a line of {longest} characters; a scenario's lines end at {MAX_LINE}")
        return tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; give a scenario file (TOML)") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0][:160] if str(error) else "nested too deeply"
        raise UserError(f"{path}: not valid TOML: {reason}") from None


def problem_lines(error: ValidationError, root: type[BaseModel], where: str) -> Iterator[str]:
    """Yield one line per problem that pydantic found: file, key, value, remedy, near-miss."""
    wrong: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for item in error.errors(include_url=False):
        steps = [str(step) for step in item["loc"]]
        if item["type"] == "extra_forbidden":
            known = _fields_at(root, steps[:-1])
            hint = did_you_mean(steps[-1], known)
            yield f"{where}: {'.'.join(steps)}: unknown key{hint}; known here: {', '.join(known)}"
        elif item["type"] == "missing":
            yield f"{where}: {'.'.join(steps)}: missing; {_description(root, steps)}"
        else:  # a value that may be of several types is reported once per type, under the key and the type's name
            key = ".".join(_known_steps(root, steps))
            message = "should be a list" if item["type"] == "tuple_type" else item["msg"].removeprefix("Input ")
            wrong.setdefault(key, []).append(message)
            values[key] = shortened(repr(item["input"]))
    for key, messages in wrong.items():
        yield f"{where}: {key} = {values[key]}: {' or '.join(messages)}; {_description(root, key.split('.'))}"


def shortened(text: str, limit: int = 60) -> str:
    """Return text cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _known_steps(root: type[BaseModel], steps: Sequence[str]) -> list[str]:
    known: list[str] = []
    for step in steps:
        if step not in _fields_at(root, known):
            break
        known.append(step)
    return known or list(steps)


def _model_at(root: type[BaseModel], steps: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for step in steps:
        if model is None or step not in model.model_fields:
            return None
        annotation = model.model_fields[step].annotation
        options = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
        tables = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        model = tables[0] if tables else None
    return model


def _fields_at(root: type[BaseModel], steps: Sequence[str]) -> list[str]:
    model = _model_at(root, steps)
    return sorted(model.model_fields) if model else []


def _description(root: type[BaseModel], steps: Sequence[str]) -> str:
    model = _model_at(root, steps[:-1])
    field = model.model_fields.get(steps[-1]) if model else None
    return (field.description if field else None) or "see `epsim schema`"
