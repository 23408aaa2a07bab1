"""Placements in the formats of serving stacks."""

from workloads.placement_files.readers import read_placement

__all__ = ["read_placement"]
