"""A day that pacing must survive: line items, traffic, and what goes wrong with it.

Traffic comes in pools (sites). An item may be shown on its share of a pool's requests, but only on
those that items before it in the pool (smaller tier, then higher bid) have left.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.pacing.goals import (
    ASAP,
    CLICK,
    CUSTOM,
    EVEN,
    FRONTLOADED,
    HOURS,
    IMPRESSION,
    PPM,
    Goals,
    Supply,
)

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

START_S: Final = 1_796_169_600  # a midnight UTC
SEEN_SHARE: Final = 0.85  # of decisions that become billed impressions
BURSTS_S: Final = (12_600, 43_200, 70_200)  # a minute of three times the traffic each
RICH: Final = 1.3  # supply over goal from which everything must be delivered


@dataclass(frozen=True)
class World:
    """Everything that does not depend on how it is paced. [n] items, [t] seconds."""

    seed: int
    servers: int
    seconds: int
    traffic: Numbers  # [t] requests over their mean
    outages_s: tuple[tuple[int, int], ...]
    failovers_s: tuple[int, ...]
    flush_s: int | None
    pool: Whole
    tier: Whole
    before: Whole  # the order of items by pool, tier and bid
    eligible: Numbers  # of its pool's requests
    requests: Numbers  # of its pool, a second and server, at mean traffic
    budget: Whole  # units: impressions or clicks
    supply: Numbers  # units a day, after what items before it take for their goals
    event: Whole
    chance: Numbers  # of a click, true
    booked: Numbers  # and as booked
    pacing: Whole
    guess: Numbers  # forecast over truth
    strength: Numbers
    forecast: Numbers  # [HOURS] the shape that is forecast

    @property
    def rich(self) -> NDArray[np.bool_]:
        return self.supply >= RICH * self.budget

    def arriving(self, second: int, taken: Numbers) -> Numbers:
        """[n] impressions a server could decide now, when each item takes its share `taken`."""
        return self.requests * self.traffic[second] * self.eligible * self.left(taken)

    def left(self, taken: Numbers) -> Numbers:
        """[n] the share of its requests that items before it leave."""
        logs = np.log1p(-np.minimum(self.eligible * taken, 0.999999))[self.before]
        sums = np.cumsum(logs) - logs
        pools = self.pool[self.before]
        first = np.r_[True, pools[1:] != pools[:-1]]
        sums -= sums[first][np.cumsum(first) - 1]
        found = np.empty_like(sums)
        found[self.before] = np.exp(sums)
        return found


def traffic_of(seconds: int, phase_h: float = 14.0) -> Numbers:
    hour = np.arange(seconds) / 3600
    return 1 + 0.5 * np.sin((hour - phase_h) / 24 * 2 * np.pi)  # 3:1, trough to peak


def make(seed: int, items: int = 200, seconds: int = 86_400, servers: int = 30,
         pools: int = 6, scale: float = 1.0, troubles: bool = True) -> World:  # fmt: skip
    """`scale`: of all traffic; small worlds for tests."""
    draw = np.random.default_rng(seed)
    traffic = traffic_of(seconds)
    for burst in BURSTS_S:
        if burst < seconds:
            traffic[burst : burst + 60] *= 3
    pool = draw.integers(0, pools, items)
    requests = 1000.0 * scale * (10 ** draw.uniform(-1.0, 0.3, pools))[pool]
    eligible = 10 ** draw.uniform(-3.0, -0.5, items)
    tier = draw.choice([4, 6, 8, 12], items, p=[0.1, 0.3, 0.4, 0.2])
    bid = draw.random(items)
    before = np.lexsort((-bid, tier, pool))
    event = np.where(draw.random(items) < 0.2, CLICK, IMPRESSION)
    chance = np.where(event == CLICK, 10 ** draw.uniform(-2.7, -1.3, items), 1.0)
    booked = np.where(event == CLICK, np.minimum(chance * 2.0 ** draw.choice([-1, 1], items), 1), 1)
    # From 0.3 % to 140 % of its supply; a fifth of them just about to be had, or not.
    ratio = 10 ** draw.uniform(-2.5, 0.15, items)
    ratio = np.where(draw.random(items) < 0.2, draw.uniform(0.5, 1.0, items), ratio)
    tiny = draw.random(items) < 0.3
    tiny_budget = (10 ** draw.uniform(1.7, 3, items)).astype(np.int64)
    supply, budget = np.zeros(items), np.zeros(items, np.int64)
    left = np.ones(pools)
    for item in before:
        full = requests[item] * servers * eligible[item] * traffic.sum() * SEEN_SHARE
        supply[item] = full * left[pool[item]] * chance[item]
        wanted = tiny_budget[item] if tiny[item] else int(supply[item] * ratio[item])
        budget[item] = min(max(50, wanted), 10**7)
        share = min(1.0, budget[item] / max(supply[item], 1e-9))
        left[pool[item]] *= 1 - eligible[item] * share
    known = draw.random(items) >= 0.05
    guess = np.where(known, np.exp(draw.normal(0, 0.2, items)), np.exp(draw.normal(0, 1.5, items)))
    hours = traffic_of(86_400, 14.5).reshape(24, 3600).mean(axis=1)
    return World(
        seed=seed, servers=servers, seconds=seconds, traffic=traffic,
        outages_s=((36_000, 30), (64_800, 300)) if troubles else (),
        failovers_s=(20_000, 50_000, 75_000) if troubles else (),
        flush_s=57_000 if troubles else None,
        pool=pool, tier=tier, before=before, eligible=eligible, requests=requests,
        budget=budget, supply=supply, event=event, chance=chance, booked=booked,
        pacing=draw.choice([EVEN, FRONTLOADED, ASAP, CUSTOM], items, p=[0.8, 0.08, 0.08, 0.04]),
        guess=guess, strength=np.where(known, 25.0, 1.0),
        forecast=np.resize(hours, HOURS),
    )  # fmt: skip


def goals_of(world: World) -> Goals:
    """What control would make of its catalog: one account an item, over the whole of the day."""
    n = len(world.budget)
    line = np.arange(n)
    start, end = np.full(n, float(START_S)), np.full(n, float(START_S + world.seconds))
    weights = 1 + 0.8 * np.sin(np.arange(HOURS) / 24 * 2 * np.pi)
    return Goals(
        ids=line + 1, priority=world.tier, guaranteed=world.tier < 12, start_s=start, end_s=end,
        active=np.ones(n, np.bool_), event=world.event,
        booked_ppm=np.rint(world.booked * PPM).astype(np.int64),
        keys=tuple(f"ever/l{number + 1}" for number in line),
        limit=world.budget.astype(np.float64), begin_s=start, close_s=end, pacing=world.pacing,
        curve=np.where(world.pacing == CUSTOM, 0, -1), use_line=line, use_account=line,
        use_event=world.event, use_price=np.ones(n), curves=weights[None, :], until_s=np.inf,
    )  # fmt: skip


def supply_of(world: World) -> Supply:
    """The forecast: of another phase, each item's level wrong by its guess."""
    seconds = np.resize(np.repeat(world.forecast, 3600), world.seconds).sum()
    level = world.supply / world.chance / seconds
    return Supply(
        shapes=world.forecast[None, :], shape=np.zeros(len(world.budget), np.int64),
        scale=level * world.guess, strength=world.strength,
        ceiling=world.requests * world.servers * 1.5,
    )  # fmt: skip
