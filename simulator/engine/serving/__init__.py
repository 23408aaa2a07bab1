"""Requests served over time: instances of ranks in lock step, routers, KV blocks, on a simpy clock."""
