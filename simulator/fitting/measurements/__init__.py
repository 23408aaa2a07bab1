"""Readers of what communication benchmarks print, one module per tool, and of a plain table."""
