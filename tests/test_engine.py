"""The engine answers as the oracle does, on worlds made by seed and by Hypothesis."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adcore
from adcore.catalog import Catalog
from adcore.request import Request
from tests import worlds
from tests.oracle import AS_BOOKED, Oracle, Plan, Won, live_lines

CASES_A_SEED = 2_100
SEEDS = range(10)  # 21,000 cases in all; each seed is one test, so that a failure names its own


def answers(index: adcore.Index, request: Request, live: adcore.Live, draw: int) -> list[list[Won]]:
    return [
        [Won(*(getattr(win, name) for name in Won._fields)) for win in wins]
        for wins in index.select(request, live, draw)
    ]


def compare(
    catalog: Catalog,
    requests: list[Request],
    moments: list[int],
    draws: list[int],
    plan: Plan = AS_BOOKED,
) -> int:
    """Return the number of (request, moment, draw) cases compared."""
    index, oracle = adcore.compile(catalog), Oracle(catalog, plan)
    made = worlds.planned(index, plan, catalog.line_items)
    cases = 0
    for now_s in moments:
        live, expected_live = index.live(now_s, made), live_lines(catalog, now_s)
        for request in requests:
            for draw in draws:
                expected = oracle.select(request, expected_live, draw)
                assert answers(index, request, live, draw) == expected
                cases += 1
    return cases


@pytest.mark.parametrize("seed", SEEDS)
def test_seeded_worlds_agree_with_the_oracle(seed: int) -> None:
    rng = Random(seed)
    cases = 0
    while cases < CASES_A_SEED:
        world = worlds.world(rng)
        draws = [rng.getrandbits(64) for _ in range(2)]
        plan = rng.choice((AS_BOOKED, worlds.plan(rng, world.catalog.line_items)))
        cases += compare(world.catalog, world.requests, world.moments, draws, plan)


@given(
    worlds.worlds(),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=2),
    st.randoms(use_true_random=False),
)
def test_any_world_agrees_with_the_oracle(
    world: worlds.World, draws: list[int], rng: Random
) -> None:
    plan = worlds.plan(rng, world.catalog.line_items)
    for given_plan in (AS_BOOKED, plan):
        compare(world.catalog, world.requests, world.moments, draws, given_plan)
