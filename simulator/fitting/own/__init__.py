"""Calibrations of a user's own fabric or chip: only what the measurements determine replaces a shipped constant."""
