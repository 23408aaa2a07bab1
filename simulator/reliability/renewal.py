"""Closed forms of checkpoint and restart: failures come at a constant rate, also during restarts.

Source: J. W. Young, CACM 17(9), 1974 (first order); J. T. Daly, FGCS 22(3), 2006, equation 20 (exact). Detection,
during which a dead job can't fail again, is added here in the same way.
"""

import math

from scipy.special import lambertw

from simulator.reliability.job import Job


def young_interval_s(stall_s: float, failures_per_s: float) -> float:
    """Return the first-order best work between checkpoints, sqrt(2 C M) [s]; infinite without failures."""
    return math.sqrt(2.0 * stall_s / failures_per_s) if failures_per_s > 0 else math.inf


def best_interval_s(stall_s: float, failures_per_s: float) -> float:
    """Return the work between checkpoints at which `goodput` is highest [s]; infinite without failures.

    With M = 1 / rate it solves 1 - tau/M = exp(-(tau + C)/M): tau = M (1 + W(-exp(-1 - C/M))), W Lambert's function.
    Detection and restart don't enter.
    """
    if failures_per_s <= 0:
        return math.inf
    if stall_s <= 0:
        return 0.0
    share = stall_s * failures_per_s
    if share < 1e-10:  # W loses all digits next to its branch point; the first order is exact there
        return young_interval_s(stall_s, failures_per_s)
    return float(1.0 + lambertw(-math.exp(-1.0 - share)).real) / failures_per_s


def goodput(job: Job) -> float:
    """Return useful time over total time of a long run, for spares that are always there.

    Exact where checkpoints are durable at once. Where they are not, each failure within `durable_s` of a checkpoint
    costs one interval more, on average `durable_s` of work. Stragglers multiply.
    """
    rate, saved = job.failures_per_s, job.checkpoints
    useful = saved.interval_s
    spent = useful + saved.stall_s
    if rate > 0:
        try:
            retried = math.expm1(rate * spent) * math.exp(rate * job.restart_s) * (1.0 / rate + job.detection_s)
        except OverflowError:
            return 0.0
        spent = retried + rate * saved.durable_s * useful
    spent += job.planned_per_s * job.restart_s * useful
    slow = 1.0 + job.slow_chance * (1.0 / job.slow_speed - 1.0)
    return job.jitter_speed * useful / (spent * slow)
