"""Attribution: why a run takes as long as it does."""

from simulator.attribution.explain import explain

__all__ = ["explain"]
