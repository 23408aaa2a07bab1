"""Requests served by a scenario's instances: pools, run, statistics."""
