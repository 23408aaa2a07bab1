"""Requests through a deployment: arrivals, routing, handover from prefill to decode, failures."""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

from simulator.engine.serving.batch import RANK, REQUEST, Batch
from simulator.engine.serving.instance import Instance
from simulator.engine.serving.log import Log, new_log
from simulator.engine.serving.prefix_cache import PrefixCache
from simulator.engine.serving.records import Failure, Floats, PoolSpec, Role, System, Work

# Cache-aware routing follows the cache while the instance has at most this much more work than the mean.
BALANCE = 1.5
Observe = Callable[["Serving"], None]


class Serving:
    """A deployment at work.

    Parameters
    ----------
    observe
        Called after every event, for tests.
    stop_waiting
        Requests that may wait for prefill before the run is given up as unstable.
    """

    def __init__(
        self, system: System, work: Work, stop_waiting: int | None = None, observe: Observe | None = None
    ) -> None:
        self.system, self.work, self.log = system, work, new_log(work)
        self.env = simpy.Environment()
        self.observe, self.stop_waiting = observe, stop_waiting
        self.left = len(work)
        self.homeless: deque[int] = deque()
        self.sending: dict[int, tuple[Batch, Floats]] = {}
        self._turn = 0
        first = system.first
        blocks = first.prefix_tokens // work.prefix_block_tokens
        shared = PrefixCache(blocks * first.instances) if system.shared_prefixes else None
        self.prefill = self._pool(first, "prefill" if system.decode else "colocated", shared, blocks)
        self.decode = self._pool(system.decode, "decode", PrefixCache(0), 0) if system.decode else []
        self._port_free_s = np.zeros((first.instances, first.ranks))
        self._done = self.env.event()

    def _pool(self, spec: PoolSpec, role: Role, shared: PrefixCache | None, blocks: int) -> list[Instance]:
        return [
            Instance(
                self.env,
                spec,
                role,
                index,
                self.log,
                shared if shared is not None else PrefixCache(blocks),
                self._hand_over,
                self._restarted,
                self._finished,
            )
            for index in range(spec.instances)
        ]

    def run(self) -> Log:
        """Serve all requests, or stop where too many wait; return what happened."""
        self.env.process(self._arrivals())
        for failure in self.system.failures:
            self._after(failure.at_s, self._fail, failure)
        while self.left and not self._done.processed:
            self.env.step()
            if self.observe:
                self.observe(self)
        self.log.end_s = float(self.env.now)
        return self.log

    def _after(self, delay_s: float, what: Callable[..., None], *arguments: Any) -> None:
        def happen(_: simpy.Event) -> None:
            what(*arguments)

        self.env.timeout(delay_s).callbacks.append(happen)

    def _arrivals(self) -> Generator[simpy.Event, Any, None]:
        now = 0.0
        for request, arrival in enumerate(self.work.arrival_s.tolist()):
            if arrival > now:
                yield self.env.timeout(arrival - now)
                now = arrival
            self.route(request)
            if self.stop_waiting is not None and request % 64 == 0 and self._waiting() > self.stop_waiting:
                self.log.stopped = True
                self._done.succeed()
                return

    def _waiting(self) -> int:
        pools = sum(len(instance.queue) for instance in (*self.prefill, *self.decode))
        return pools + len(self.homeless)

    def route(self, request: int) -> None:
        """Give a request to an instance that computes its prompt."""
        up = [instance for instance in self.prefill if not instance.down]
        if not up:
            self.homeless.append(request)
            return
        chosen = self._chosen(up, request)
        chosen.outstanding_tokens += float(self.work.prompt_tokens[request])
        chosen.submit(request)

    def _chosen(self, up: list[Instance], request: int) -> Instance:
        if self.system.router == "round-robin":
            self._turn += 1
            return up[(self._turn - 1) % len(up)]
        least = min(up, key=lambda instance: instance.outstanding_tokens)
        if self.system.router == "cache-aware":
            hashes = self.work.hashes(request)
            if len(hashes):
                mean = sum(instance.outstanding_tokens for instance in up) / len(up)
                best = max(up, key=lambda instance: instance.queue.prefixes.hit(hashes))
                if best.outstanding_tokens <= BALANCE * mean + float(self.work.prompt_tokens[request]):
                    return best
        return least

    def _hand_over(self, source: Instance, column: Floats) -> None:
        """Send a prompt's KV cache: one after the other on the port of the rank that has it."""
        handover, request, rank = self.system.handover, int(column[REQUEST]), int(column[RANK])
        source.outstanding_tokens -= float(self.work.prompt_tokens[request])
        begin = max(self.env.now, self._port_free_s[source.index, rank])
        tokens = float(self.work.prompt_tokens[request])
        busy = begin + tokens * (handover.s_per_token if handover else 0.0)
        self._port_free_s[source.index, rank] = busy
        self.sending[request] = (source.batch, column)
        arrives = busy + (handover.latency_s if handover else 0.0)
        self._after(arrives - self.env.now, self._arrived, source, request)

    def _arrived(self, source: Instance, request: int) -> None:
        batch, column = self.sending.pop(request)
        if source.batch is not batch:  # the instance failed meanwhile, and the cache with it
            self.route(request)
            return
        source.release(column)
        up = [instance for instance in self.decode if not instance.down]
        if not up:
            self.homeless.append(request)
            return
        chosen = min(up, key=lambda instance: instance.outstanding_tokens)
        chosen.outstanding_tokens += float(self.work.prompt_tokens[request])
        chosen.submit(request)

    def _finished(self, instance: Instance, request: int) -> None:
        instance.outstanding_tokens -= float(self.work.prompt_tokens[request])
        self.left -= 1
        if not self.left:
            self._done.succeed()

    def _restarted(self, instance: Instance, request: int) -> None:
        instance.outstanding_tokens -= float(self.work.prompt_tokens[request])
        self.route(request)

    def _fail(self, failure: Failure) -> None:
        pool = self.decode if failure.role == "decode" else self.prefill
        instance = pool[failure.instance]
        instance.fail(failure.policy, failure.down_s)
        if instance.down:
            self._after(failure.down_s, self._rehouse)

    def _rehouse(self) -> None:
        waiting, self.homeless = self.homeless, deque()
        for request in waiting:
            self.route(request)


def simulate_serving(
    system: System, work: Work, stop_waiting: int | None = None, observe: Observe | None = None
) -> Log:
    """Serve requests by a deployment; see `Serving`.

    Parameters
    ----------
    work
        Each request must fit a rank's KV blocks, prompt and answer.
    """
    return Serving(system, work, stop_waiting, observe).run()
