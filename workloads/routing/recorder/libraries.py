"""The libraries that only recording needs, imported when it starts."""

from importlib import import_module
from typing import Any

from workloads.errors import WorkloadError

EXTRA = "epsim[record]"


def torch() -> Any:
    """Return the module torch, untyped as this project sees it.

    Raises
    ------
    WorkloadError
        If it is not installed, naming the extra that brings it.
    """
    return _library("torch")


def transformers() -> Any:
    """Return the module transformers; errors as `torch`."""
    return _library("transformers")


def tokenizers() -> Any:
    """Return the module tokenizers; errors as `torch`."""
    return _library("tokenizers")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise WorkloadError(
            f"{name}: not installed, and recording needs it; install the extra: pip install '{EXTRA}'"
        ) from error
