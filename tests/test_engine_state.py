"""Whatever happens to a catalog and its plan, and in whatever order, engine and oracle agree.

Line items come, change, pause and go; a plan stops, throttles and re-orders them; the clock moves;
the catalog is compiled anew, or the compiled one is attached to again.
"""

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

import adcore
from tests import worlds
from tests.oracle import Oracle, Plan, holds, live_lines
from tests.test_engine import answers

RANDOMS = st.randoms(use_true_random=False)
PPM = 1_000_000


class Engine(RuleBasedStateMachine):
    @initialize(rng=RANDOMS)
    def start(self, rng: Random) -> None:
        self.world = worlds.world(rng, 6)
        self.catalog = self.world.catalog
        self.next_number = len(self.catalog.line_items)
        self.now_s = self.world.moments[0]
        self.plan = Plan()
        self.compile()

    def compile(self) -> None:
        """The published catalog is what the index is held against, until the next one."""
        self.published = self.catalog
        self.index = adcore.compile(self.published)
        self.made = worlds.planned(self.index, self.plan, self.published.line_items)
        self.live = self.index.live(self.now_s, self.made)

    def replan(self, **changes: Any) -> None:
        self.plan = self.plan._replace(**changes)
        self.made = worlds.planned(self.index, self.plan, self.published.line_items)
        self.live = self.index.live(self.now_s, self.made)

    def any_id(self, rng: Random) -> int:
        ids = [line.id for line in self.published.line_items]
        return rng.choice(ids) if ids else 1

    # -- the catalog

    @rule(rng=RANDOMS)
    def add(self, rng: Random) -> None:
        added = worlds.line_item(rng, self.next_number)
        self.next_number += 1
        self.catalog = replace(self.catalog, line_items=(*self.catalog.line_items, added))

    @rule(rng=RANDOMS)
    def modify(self, rng: Random) -> None:
        lines = list(self.catalog.line_items)
        if lines:
            place = rng.randrange(len(lines))
            other = worlds.line_item(rng, 0)
            fields = rng.sample(("rate", "targeting", "priority", "labels", "weight", "ads"), 2)
            lines[place] = replace(lines[place], **{it: getattr(other, it) for it in fields})
            self.catalog = replace(self.catalog, line_items=tuple(lines))

    @rule(rng=RANDOMS)
    def pause_or_activate(self, rng: Random) -> None:
        lines = list(self.catalog.line_items)
        if lines:
            place = rng.randrange(len(lines))
            status = "paused" if lines[place].status == "active" else "active"
            lines[place] = replace(lines[place], status=status)
            self.catalog = replace(self.catalog, line_items=tuple(lines))

    @rule(rng=RANDOMS)
    def delete(self, rng: Random) -> None:
        lines = list(self.catalog.line_items)
        if lines:
            del lines[rng.randrange(len(lines))]
            self.catalog = replace(self.catalog, line_items=tuple(lines))

    @rule()
    def publish(self) -> None:
        known = {line.id for line in self.catalog.line_items}
        self.plan = self.plan._replace(stopped=self.plan.stopped & known)
        self.compile()

    @rule(checked=st.booleans())
    def attach(self, checked: bool) -> None:
        self.index = adcore.Index.attach(self.index.buffer, checked=checked)
        self.replan()

    # -- the plan and the clock

    @rule(rng=RANDOMS)
    def stop(self, rng: Random) -> None:
        number = self.any_id(rng)
        if self.published.line_items:
            self.live.stop(number)
            self.plan = self.plan._replace(stopped=self.plan.stopped | {number})

    @rule(rng=RANDOMS)
    def resume(self, rng: Random) -> None:
        number = self.any_id(rng)
        if self.published.line_items:
            self.live.resume(number)
            self.plan = self.plan._replace(stopped=self.plan.stopped - {number})

    @rule(rng=RANDOMS, rate=st.sampled_from((0, 300_000, PPM)))
    def throttle(self, rng: Random, rate: int) -> None:
        self.replan(rates={**self.plan.rates, self.any_id(rng): rate})

    @rule(rng=RANDOMS, multiplier=st.sampled_from((0, 500_000, PPM, 2 * PPM)))
    def bid(self, rng: Random, multiplier: int) -> None:
        self.replan(multipliers={**self.plan.multipliers, self.any_id(rng): multiplier})

    @rule(rng=RANDOMS, probability=st.sampled_from((0, 1000, 2000)))
    def expect(self, rng: Random, probability: int) -> None:
        self.replan(probabilities={**self.plan.probabilities, self.any_id(rng): probability})

    @rule(rng=RANDOMS)
    def tick(self, rng: Random) -> None:
        """Stops belong to the plan, so they are still there in the next Live."""
        self.now_s = rng.choice(self.world.moments) + rng.choice((0, 1, 900))
        self.live = self.index.live(self.now_s, self.made)

    # -- what must hold

    @invariant()
    def the_engine_agrees_with_the_oracle(self) -> None:
        lines = self.published.line_items
        live = {it for it in live_lines(self.published, self.now_s) if self.plan.runs(lines[it])}
        oracle = Oracle(self.published, self.plan)
        for draw, request in enumerate(self.world.requests):
            assert answers(self.index, request, self.live, draw) == oracle.select(
                request, live, draw
            )
            matching = self.index.matching(request, self.live)
            assert matching == self.index.scan(request, self.live)
            for placement, found in zip(request.placements, matching, strict=True):
                targeted = {it for it in live if holds(lines[it].targeting, request, placement)}
                assert set(found) == targeted


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
