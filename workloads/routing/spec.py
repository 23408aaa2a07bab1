"""Fitted statistics of expert routing: the few numbers that describe how a model spreads its tokens."""

import json
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from workloads.errors import WorkloadError
from workloads.models.specs import Record

BROAD = "broad"
DEFAULT = Path(__file__).parent / "statistics" / "deepseek-v2-lite-esft.toml"


class RoutingStatistics(Record):
    """How the router's preferences vary, on the scale of log weights (see `workloads.routing.popularity`).

    A sequence of a task weighs an expert by ``exp(depth x (common + task + sequence))``, three independent normal
    terms with the standard deviations below; what comes out below 0 is multiplied by `cold`.
    """

    model: str
    source: str = Field(description="owner/name:path@commit of the recorded trace")
    licence: str
    layers: int = Field(ge=1, description="MoE layers of the recorded model")
    experts: int = Field(ge=1, description="routed experts of the recorded model")
    top_k: int = Field(ge=1)
    tokens: int = Field(ge=1, description="tokens that the figures were fitted on")
    sequences: int = Field(ge=1)
    common_sigma: float = Field(ge=0, le=10, description="preference that every task shares")
    task_sigma: dict[str, float] = Field(min_length=1, description="preference of one task, by name")
    sequence_sigma: float = Field(ge=0, le=10, description="preference of one sequence within its task")
    depth_profile: tuple[float, ...] = Field(min_length=1, description="scale at even steps from first to last layer")
    cold: float = Field(
        default=1.0, ge=0.1, le=10, description="factor on log weights below 0: how cold cold experts are"
    )
    persistence: tuple[float, ...] = Field(
        default=(0.0,), min_length=1, description="share of picks that repeat the previous token's, over depth"
    )
    link: tuple[float, ...] = Field(
        default=(0.0,), min_length=1, description="share of picks that follow from the layer before, over depth"
    )
    models: tuple[str, ...] = Field(default=(), description="catalogue models that take these figures by default")
    assumed: dict[str, str] = Field(default={}, description="figures that the recording can't tell, and what they are")
    recorded: dict[str, dict[str, float]] = Field(default={}, description="measures of the recording, by task")
    files: dict[str, str] = Field(default={}, description="SHA-256 of each input file")

    @field_validator("task_sigma", "depth_profile")
    @classmethod
    def _in_range(cls, value: dict[str, float] | tuple[float, ...]) -> dict[str, float] | tuple[float, ...]:
        numbers = value.values() if isinstance(value, dict) else value
        if any(not 0 <= number <= 10 for number in numbers):
            raise ValueError("each must lie between 0 and 10")
        return value

    @field_validator("persistence", "link")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= number <= 1 for number in value):
            raise ValueError("each must lie between 0 and 1")
        return value


def broad(statistics: RoutingStatistics) -> RoutingStatistics:
    """Return the statistics of a corpus of many topics, such as pre-training data.

    With a few tasks each one's preference persists in every batch; with very many it averages out as the sequences'
    own does, so its mean variance moves there and only the common preference persists.
    """
    variance = sum(sigma**2 for sigma in statistics.task_sigma.values()) / len(statistics.task_sigma)
    sequence_sigma = (statistics.sequence_sigma**2 + variance) ** 0.5
    return statistics.model_copy(update={"task_sigma": {BROAD: 0.0}, "sequence_sigma": sequence_sigma})


def load_statistics(path: Path = DEFAULT) -> RoutingStatistics:
    """Read routing statistics from TOML.

    Parameters
    ----------
    path
        The file; the shipped fit of DeepSeek-V2-Lite if not given.

    Raises
    ------
    WorkloadError
        If the file can't be read or does not hold routing statistics; one line per problem.
    """
    try:
        return RoutingStatistics.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WorkloadError(f"{path}: {error.strerror}; give a routing statistics file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        lines = (f"{path}: {'.'.join(map(str, e['loc']))}: {e['input']!r:.80}: {e['msg']}" for e in error.errors())
        raise WorkloadError(*lines) from error


def to_toml(statistics: RoutingStatistics) -> str:
    """Return the statistics as TOML, each value with a comment that says what it means."""
    lines = ["# Fitted by `epsim trace fit`; do not edit by hand."]
    tables: list[str] = []
    for name, field in RoutingStatistics.model_fields.items():
        value = getattr(statistics, name)
        note = f"  # {field.description}" if field.description else ""
        if name == "recorded":
            for task, figures in value.items():
                tables += [
                    "",
                    f"[recorded.{json.dumps(task)}]",
                    *(f"{key} = {figure}" for key, figure in figures.items()),
                ]
        elif isinstance(value, dict):
            tables += ["", f"[{name}]{note}", *(f"{json.dumps(key)} = {json.dumps(value[key])}" for key in value)]
        else:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}{note}")
    return "\n".join([*lines, *tables]) + "\n"
