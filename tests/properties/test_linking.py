"""Sequences put together from passes, against the requests that a small server really had."""

from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.routing.importers.linking import Piece, link


class Request(NamedTuple):
    prompt: int
    output: int


def serve(requests: list[Request], chunk: int, together: int) -> list[Piece]:
    """Passes of a server that prefills in chunks, one request after another, and decodes those that are running.

    Token p of request r has the id 1000 r + p, so that who is who can be told afterwards.
    """
    waiting, running, pieces = list(enumerate(requests)), list[list[int]](), []

    def piece(runs: list[tuple[int, int, int]], is_decode: bool) -> None:
        ids = np.concatenate([1000 * r + np.arange(start, stop) for r, start, stop in runs])
        pieces.append(
            Piece(
                ids.reshape(-1, 1, 1),
                ids % 1000,
                np.array([stop - start for _, start, stop in runs]),
                is_decode,
                not is_decode,
            )
        )

    while waiting or running:
        if waiting and len(running) < together:
            number, request = waiting.pop(0)
            for start in range(0, request.prompt, chunk):
                piece([(number, start, min(start + chunk, request.prompt))], False)
            if request.output:
                running.append([number, request.prompt, request.prompt + request.output])
            continue
        piece([(number, place, place + 1) for number, place, _ in running], True)
        running = [[number, place + 1, end] for number, place, end in running if place + 1 < end]
    return pieces


lives = st.lists(st.builds(Request, st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=8)


@given(lives, st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_every_token_is_in_one_sequence_that_counts_up_from_0(lives: list[Request], chunk: int, together: int) -> None:
    ids, lens = link(serve(lives, chunk, together))
    assert sorted(ids.ravel().tolist()) == [
        1000 * r + p for r, request in enumerate(lives) for p in range(sum(request))
    ]
    assert (ids.ravel() % 1000).tolist() == [place for length in lens for place in range(length)]


@given(lives, st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_requests_of_different_length_are_told_apart(lives: list[Request], chunk: int, together: int) -> None:
    apart = [Request(20 * r + request.prompt, request.output) for r, request in enumerate(lives)]
    ids, lens = link(serve(apart, chunk, together))
    owners = np.split(ids.ravel() // 1000, np.cumsum(lens)[:-1])
    assert all(len(set(owner.tolist())) == 1 for owner in owners)
    assert sorted(lens.tolist()) == sorted(sum(request) for request in apart)
