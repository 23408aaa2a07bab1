"""Placements in the formats of serving stacks."""
