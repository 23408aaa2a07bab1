"""Waiting of requests before a server that takes a batch at a time, in closed form."""

import math


def wait_quantile_s(step_s: float, served: float, load: float, quantile: float) -> float:
    """Return the wait that a share of Poisson arrivals stays below [s].

    Two waits follow each other: for the iteration under way, uniform over its length and there with probability `load`;
    and in the queue, M/D/1 with a service time of `step_s / served`, whose tail is taken to be exponential: mean
    s load / (2 (1 - load)) by Pollaczek and Khinchine, some wait with probability `load`. The two quantiles are added.

    Parameters
    ----------
    step_s
        One iteration [s].
    served
        Requests that an iteration takes.
    load
        Arrivals over what the server can take, 0 <= load < 1.
    quantile
        Share of requests, 0 < quantile < 1.

    Source: Kleinrock, Queueing Systems I, eqs. 5.63 and 5.70.
    """
    if load <= 0:
        return 0.0
    under_way = step_s * max(0.0, (quantile - (1.0 - load)) / load)
    mean_if_any = step_s / served / (2.0 * (1.0 - load))
    queued = mean_if_any * max(0.0, math.log(load / (1.0 - quantile)))
    return under_way + queued
