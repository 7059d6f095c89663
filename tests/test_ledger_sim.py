"""Whatever fails, in whatever order: nothing acked is lost, nothing is counted twice.

ADCORE_SIM_SEED runs one seed, ADCORE_SIM_SEEDS as many as it says.
"""

import os

import pytest

from tests.sim.world import World

SEEDS = int(os.environ.get("ADCORE_SIM_SEEDS", "2000"))
PARTS = 20  # so that a failure is seen early, and the log says how far it got
ONE = os.environ.get("ADCORE_SIM_SEED")
STEPS = 300


def run(seed: int) -> World:
    world = World(seed)
    try:
        world.run(STEPS)
    except Exception as error:
        trace = "\n".join(world.trace)
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{trace}") from error
    return world


@pytest.mark.parametrize("part", range(PARTS))
def test_every_seed_ends_with_exact_counts(part):
    seeds = [int(ONE)] if ONE else range(part, SEEDS, PARTS)
    for seed in seeds:
        run(seed)
