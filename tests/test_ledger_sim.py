"""Whatever fails, in whatever order: nothing acked is lost, nothing is counted twice.

ADCORE_SIM_SEED runs one seed, ADCORE_SIM_SEEDS as many as it says, from ADCORE_SIM_FIRST on.
"""

import os

import pytest

from tests.sim.world import run, small_limits

FIRST = int(os.environ.get("ADCORE_SIM_FIRST", "0"))
SEEDS = int(os.environ.get("ADCORE_SIM_SEEDS", "2000"))
PARTS = 20  # so that a failure is seen early, and the log says how far it got
ONE = os.environ.get("ADCORE_SIM_SEED")


@pytest.mark.parametrize("part", range(PARTS))
def test_every_seed_ends_with_exact_counts(part, monkeypatch):
    small_limits(monkeypatch)
    seeds = [int(ONE)] if ONE else range(FIRST + part, FIRST + SEEDS, PARTS)
    for seed in seeds:
        run(seed)
