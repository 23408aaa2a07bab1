"""Requests of a serving workload: recorded traces, synthetic arrivals, and what is wrong with them."""
