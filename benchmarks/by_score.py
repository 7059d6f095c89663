"""Selecting by score: a plan gives every line item a bid multiplier, and all are ranked anew.

The rows' order is then no longer the answer's, so a select reads more of them: how many more
depends on how far the multipliers go, which here is as far as bid modifiers do.
"""

from collections.abc import Iterator
from random import Random

import numpy as np
from msgspec import Struct

import adcore
from adcore.booking import ecpm_micros
from adcore.request import Request
from benchmarks import workload
from benchmarks.peers import Lines
from benchmarks.timing import Subject

MULTIPLIERS_PPM = (500_000, 1_500_000)
_PPM = 1_000_000


class Scored(Struct, frozen=True):
    """A plan in force, and by line the score that it comes to."""

    live: adcore.Live
    scores: Lines


def scored(index: adcore.Index, source: adcore.Catalog, seed: int) -> Scored:
    rng = Random(seed)
    multipliers = [rng.randint(*MULTIPLIERS_PPM) for _ in source.line_items]
    plan = index.plan([it.id for it in source.line_items], multipliers_ppm=multipliers)
    scores = [
        ecpm_micros(it.rate) * multiplier // _PPM
        for it, multiplier in zip(source.line_items, multipliers, strict=True)
    ]
    return Scored(index.live(workload.NOW_S, plan), np.array(scores, np.int64))


def select(index: adcore.Index, scored: Scored, asked: list[Request]) -> Subject:
    calls = [(request, scored.live, draw) for draw, request in enumerate(asked)]
    return Subject("select by score", index.select, calls)


def check(index: adcore.Index, subject: Subject, scores: Lines, count: int) -> None:
    """Raise unless the first `count` requests are won by the best of all that they match.

    Line items of `workload` are numbered from 1 on; among equal scores, anybody may win.
    """
    for number, call in enumerate(subject.calls[:count]):
        request, live, _ = call
        matched = np.array(index.matching(request, live)[0], np.int64)
        best = np.sort(scores[matched])[::-1][: request.placements[0].count]
        won = scores[np.array(list(_won(subject, call)), np.int64)]
        if not np.array_equal(won, best):
            raise ValueError(f"request {number}: scores {won.tolist()} win, not {best.tolist()}")


def _won(subject: Subject, call: tuple[object, ...]) -> Iterator[int]:
    [wins] = subject.ask(*call)
    return (win.line_item_id - 1 for win in wins)
