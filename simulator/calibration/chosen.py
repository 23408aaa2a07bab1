"""The calibrations of one run: those that ship, and above them the files of the user's own measurements.

A file holds the constants of one fabric or one chip; parts, operator classes and number formats that it does not name
stay as shipped. `epsim calibrate` writes such files.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from simulator.calibration.chips import ChipCalibration, OperatorConstants, chip_calibration
from simulator.calibration.fabrics import (
    PARTS,
    CollectiveConstants,
    CopyConstants,
    ExpertParallelConstants,
    FabricCalibration,
    Record,
    fabric_calibration,
)
from simulator.errors import UserError
from workloads.operators.records import OperatorClass

MAX_FILE_BYTES = 5_000_000
REMEDY = "write it with `epsim calibrate`"
FORMATS = ("bf16", "fp8", "int8", "fp4")


class MeasuredFile(Record):
    """A file of measurements: its name without folder, the tool that printed it, and its digest."""

    name: str
    tool: str
    sha256: str
    rows: int = Field(ge=1)


class Residual(Record):
    """One measured operation beside what the fitted constants say [s]."""

    row: str
    what: str
    measured_s: float = Field(gt=0)
    predicted_s: float = Field(gt=0)


class OwnCalibration(Record):
    """Constants of one fabric or one chip, from the user's own measurements."""

    fabric: str = ""
    chip: str = ""
    cluster: str = ""
    collective: CollectiveConstants | None = None
    copies: CopyConstants | None = None
    normal: ExpertParallelConstants | None = None
    low_latency: ExpertParallelConstants | None = None
    operators: Mapping[OperatorClass, Mapping[str, OperatorConstants]] = Field(default_factory=dict)
    files: tuple[MeasuredFile, ...] = ()
    residuals: tuple[Residual, ...] = ()

    @model_validator(mode="after")
    def _one_subject(self) -> "OwnCalibration":
        parts = any(getattr(self, part) is not None for part in PARTS)
        if bool(self.fabric) == bool(self.chip):
            raise ValueError("names a fabric or a chip, one of them")
        formats = {dtype for table in self.operators.values() for dtype in table}
        if unread := sorted(formats - set(FORMATS)):
            raise ValueError(f"operators in {', '.join(unread)} are never read; use {', '.join(FORMATS)}")
        if (self.fabric and (not parts or self.operators)) or (self.chip and (parts or not self.operators)):
            raise ValueError(
                "a fabric has tables collective, copies, normal or low_latency, a chip has tables operators.CLASS"
            )
        return self

    @property
    def holds(self) -> tuple[tuple[str, ...], ...]:
        """What the file replaces: fabric and part, or chip, operator class and format."""
        if self.fabric:
            return tuple((self.fabric, part) for part in PARTS if getattr(self, part) is not None)
        return tuple((self.chip, kind, dtype) for kind, formats in self.operators.items() for dtype in formats)


@dataclass(frozen=True)
class Calibrations:
    """Constants by fabric and by chip: the user's where `own` has them, by file, else those that ship."""

    own: Mapping[str, OwnCalibration] = field(default_factory=dict)

    def fabric(self, name: str) -> FabricCalibration:
        """Return the calibration of a fabric id.

        Raises
        ------
        UserError
            If none ships.
        """
        shipped = fabric_calibration(name)
        found: dict[str, Any] = {
            part: getattr(own, part)
            for own in self.own.values()
            if own.fabric == name
            for part in PARTS
            if getattr(own, part) is not None
        }
        return shipped.model_copy(update=found) if found else shipped

    def chip(self, name: str) -> ChipCalibration:
        """Return the calibration of a chip id.

        Raises
        ------
        UserError
            If none ships.
        """
        shipped = chip_calibration(name)
        merged = {kind: dict(formats) for kind, formats in shipped.constants.items()}
        for own in self.own.values():
            if own.chip == name:
                for kind, formats in own.operators.items():
                    merged[kind] |= formats
        return shipped.model_copy(update={"constants": merged}) if self.own else shipped

    def unused(self, names: Sequence[str]) -> list[str]:
        """Return one line per file whose fabric or chip is not among `names`."""
        return [
            f"calibration {Path(path).name}: is of {own.fabric or own.chip}, which this machine lacks; not used"
            for path, own in self.own.items()
            if (own.fabric or own.chip) not in names
        ]


SHIPPED = Calibrations()


def read_calibrations(paths: Sequence[str]) -> Calibrations:
    """Return the shipped calibrations with those of the user's files above them.

    Raises
    ------
    UserError
        If a file can't be used, or two of them hold the same constants; one line per problem.
    """
    if not paths:
        return SHIPPED
    own: dict[str, OwnCalibration] = {}
    held: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            own[path] = _parsed(path, _content(path))
        except UserError as error:
            problems += error.problems
            continue
        for what in own[path].holds:
            if what in held:
                problems.append(f"{path}: {' '.join(what)}: {held[what]} has it too; give one of the two files")
            held.setdefault(what, path)
    if problems:
        raise UserError(*problems)
    return Calibrations(own)


def content_digest(path: str) -> str:
    """Return the SHA-256 of a calibration file.

    Raises
    ------
    UserError
        If it can't be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: str) -> bytes:
    file = Path(path)
    try:
        if file.is_dir():
            raise UserError(f"{path}: a directory; give a calibration file (TOML)")
        if not file.is_file():
            raise UserError(f"{path}: no such calibration file; {REMEDY}")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: over {MAX_FILE_BYTES} bytes; is this a calibration file?")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}; check the path and its permissions") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"calibration file {path[:60]!r}: not a path; {REMEDY}") from None


@cache
def _parsed(path: str, content: bytes) -> OwnCalibration:
    try:
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML: {str(error).splitlines()[0][:160]}; {REMEDY}") from None
    try:
        found = OwnCalibration.model_validate(table)
    except ValidationError as error:
        raise UserError(*(_line(path, item) for item in error.errors(include_url=False))) from None
    if found.fabric:
        fabric_calibration(found.fabric)
    else:
        chip_calibration(found.chip)
    return found


def _line(path: str, item: Any) -> str:
    key = ".".join(map(str, item["loc"]))
    unknown = item["type"] == "extra_forbidden"
    message = "unknown key" if unknown else str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    value = "" if unknown or not key else f" = {str(item['input'])[:60]}"
    return f"{path}: {key}{value}{': ' if key else ''}{message}; {REMEDY}"
