"""The log of a run as frames: a row per request, and load over time."""

import numpy as np
import pandas as pd

from simulator.engine.serving.log import Log
from simulator.engine.serving.records import Floats
from simulator.serve.serve import Served
from simulator.serve.statistics import COLUMN, latencies, timeline_of

BINS = 400


def request_frame(log: Log) -> pd.DataFrame:
    """Return one row per request: when it came, what it saw, where it was served."""
    work = log.work
    return pd.DataFrame(
        {
            "arrival_s": work.arrival_s,
            "prompt_tokens": work.prompt_tokens,
            "output_tokens": work.output_tokens,
            "cached_tokens": log.cached_prefix,
            "admitted_s": log.admitted_s,
            "first_token_s": log.first_s,
            "finish_s": log.finish_s,
            **latencies(log),
            "preemptions": log.preemptions,
            "instance": log.instance,
        }
    )


def load_frame(served: Served) -> pd.DataFrame:
    """Return the mean load of each pool over time: sequences per rank, share of KV blocks, requests that wait."""
    frames = []
    edges = np.linspace(0.0, max(served.log.end_s, 1e-9), BINS + 1)
    for index, pool in enumerate(served.deployed.pools):
        rows, spec = timeline_of(served.log, index), pool.spec
        frames.append(
            pd.DataFrame(
                {
                    "pool": pool.name,
                    "time_s": (edges[:-1] + edges[1:]) / 2,
                    "decoding_per_rank": _mean(rows, "decoding", edges) / (spec.ranks * spec.instances),
                    "prompts_per_rank": _mean(rows, "prefilling", edges) / (spec.ranks * spec.instances),
                    "kv_share": _mean(rows, "kv_blocks", edges) / (spec.rank_blocks * spec.ranks * spec.instances),
                    "waiting": _mean(rows, "waiting", edges),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _mean(rows: Floats, name: str, edges: Floats) -> Floats:
    """Return the sum over instances between edges, averaged over time, ``[bins]``; a run holds its value throughout."""
    value = rows[:, COLUMN[name]]
    begin_s = rows[:, 0] - rows[:, COLUMN["step_s"]] * rows[:, COLUMN["iterations"]]
    time_s = np.concatenate([begin_s, rows[:, 0]])
    order = np.argsort(time_s, kind="stable")
    level = np.cumsum(np.concatenate([value, -value])[order])
    time_s = time_s[order]
    area = np.concatenate([[0.0], np.cumsum(level[:-1] * np.diff(time_s))]) if len(time_s) else np.zeros(0)
    if not len(time_s):
        return np.zeros(len(edges) - 1)
    found: Floats = np.diff(np.interp(edges, time_s, area)) / np.diff(edges)
    return found
