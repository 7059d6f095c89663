"""Who comes first where line items compete for the same supply: in a guaranteed tier the scarcest.

A rate alone gives nobody the first choice. Where one line item can use only what another could use
too, the other takes its share of it by the auction, and the first falls short although there was
enough for both. So the one that needs more of what is left for it is ranked before the other (the
high-water mark order of research/delivery.md).

    need n = what a line item must take of its supply, of 1    step k = round(2 log2 n)
    score  = eCPM x multiplier, the same for all of a step, and sqrt(2) times that of the step below
"""

from typing import Final

import numpy as np

from server.pacing.goals import PPM, Flags, Goals, Numbers, Whole

STEPS_A_DOUBLING: Final = 2.0
NEED_MIN: Final = 1 / 1024  # who needs less is in no hurry beside anybody
# A step is left only by more than half of one and a quarter more: needs tremble, ranks should not.
HELD_STEPS: Final = 0.75


def steps(needs: Numbers, before: Numbers) -> Numbers:
    """[n] steps of need, -20 to 0; `before`: those that were in force, NaN where none was."""
    exact = STEPS_A_DOUBLING * np.log2(np.clip(needs, NEED_MIN, 1.0))
    keep = np.abs(exact - before) < HELD_STEPS  # false for NaN
    found: Numbers = np.where(keep, before, np.round(exact))
    return found


def multipliers_ppm(goals: Goals, ecpms: Numbers, step: Numbers, now_s: float) -> Whole | None:
    """[n] of 1 to PPM: the scarcest of a tier has PPM; None where nobody competes.

    None matters: an index without multipliers need not look for a better score further down.
    """
    ranked = competing(goals, now_s) & (ecpms > 0)
    if not ranked.any():
        return None
    found = np.full(goals.lines, PPM, np.int64)
    # The eCPM is divided out: what is left of a score is the step alone.
    wanted = np.exp2(step / STEPS_A_DOUBLING) / np.maximum(ecpms, 1.0)
    for tier in np.unique(goals.priority[ranked]):
        of_tier = ranked & (goals.priority == tier)
        share = wanted[of_tier] / wanted[of_tier].max()
        found[of_tier] = np.maximum(np.round(PPM * share), 1).astype(np.int64)
    return found


def competing(goals: Goals, now_s: float) -> Flags:
    """[n] which are in flight in a guaranteed tier, and not alone there."""
    running = goals.guaranteed & goals.active & (goals.start_s <= now_s) & (now_s < goals.end_s)
    tiers, count = np.unique(goals.priority[running], return_counts=True)
    found: Flags = running & np.isin(goals.priority, tiers[count > 1])
    return found
