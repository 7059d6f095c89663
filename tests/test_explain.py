"""An explanation says of every line item what became of it, and for the reason that is true.

Which reason is true is told by the oracle's functions and by a walk through the groups as the
auction goes, where the engine concludes from the winners alone.
"""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import adcore
from adcore import tables
from adcore.catalog import Catalog, Expression
from adcore.normalising import normalise
from adcore.reasons import LOSS_CODES, Explanation, Reason
from adcore.request import Placement, Request
from tests import worlds
from tests.oracle import AS_BOOKED, Oracle, Plan, Won, holds, in_daypart
from tests.test_layout import HEADER, SECTION
from tests.worlds import catalog_of, item

NOW_S = worlds.MOMENTS[0]
CASES_A_SEED = 400


def closed(catalog: Catalog, line: int, now_s: int, plan: Plan = AS_BOOKED) -> Reason | None:
    booked = catalog.line_items[line]
    campaign = next(it for it in catalog.campaigns if it.id == booked.campaign_id)
    if "paused" in (booked.status, campaign.status):
        return Reason.PAUSED
    if not booked.flight.start <= datetime.fromtimestamp(now_s, UTC) < booked.flight.end:
        return Reason.FLIGHT
    if not plan.runs(booked):
        return Reason.STOPPED
    if in_daypart(booked, now_s):
        return None
    # What can never be met has no row, and so no hour: its targeting is the reason at any time.
    return Reason.DAYPART if normalise(booked.targeting).conjunctions else Reason.TARGETING


def refused(
    oracle: Oracle, line: int, request: Request, placement: Placement, draw: int
) -> Reason | None:
    if not holds(oracle.lines[line].targeting, request, placement):
        return Reason.TARGETING
    if not oracle.plan.takes_part(oracle.lines[line], draw):
        return Reason.THROTTLED
    if oracle.lines[line].id in request.capped_line_items + placement.capped_line_items:
        return Reason.CAPPED
    if not oracle._ads(line, request, placement):
        return Reason.CREATIVE
    ecpm = oracle.plan.ecpm(oracle.lines[line])
    return Reason.FLOOR if ecpm < placement.floor_micros else None


def outcomes(
    oracle: Oracle, eligible: list[int], count: int, wins: list[Won], before: list[Won]
) -> dict[int, tuple[Reason, int | None]]:
    """Walk through the groups with the winners known: why each eligible line won or lost."""
    found: dict[int, tuple[Reason, int | None]] = {}
    taken = list(before)
    left = list(wins)
    for group in oracle._groups(eligible):
        running = set(group)
        while True:
            if len(wins) - len(left) == count:
                last = Reason.DRAW if len(running) < len(group) else Reason.OUTRANKED
                reason = last if wins[-1].line in group else Reason.OUTRANKED
                found |= dict.fromkeys(running, (reason, wins[-1].line_item_id))
                break
            for line in sorted(running):
                clash = [win for win in taken if oracle.labels[line] & oracle.labels[win.line]]
                if clash:
                    found[line] = (Reason.LABEL, clash[0].line_item_id)
                    running.discard(line)
            if not running:
                break
            won = left.pop(0)
            assert won.line in running
            found[won.line] = (Reason.WON, None)
            running.discard(won.line)
            taken.append(won)
    return found


def check(
    catalog: Catalog, request: Request, now_s: int, draw: int, plan: Plan = AS_BOOKED
) -> None:
    index, oracle = adcore.compile(catalog), Oracle(catalog, plan)
    live = index.live(now_s, worlds.planned(index, plan, catalog.line_items))
    lines = range(len(catalog.line_items))
    shut = {line: closed(catalog, line, now_s, plan) for line in lines}
    answers = oracle.select(request, {line for line in lines if shut[line] is None}, draw)
    before: list[Won] = []
    explanations = index.explain(request, live, draw)
    for placement, wins, explanation in zip(request.placements, answers, explanations, strict=True):
        expected: dict[int, tuple[Reason, int | None]] = {}
        for line in lines:
            reason = shut[line] or refused(oracle, line, request, placement, draw)
            if reason is not None:
                expected[line] = (reason, None)
        eligible = [line for line in lines if line not in expected]
        expected |= outcomes(oracle, eligible, placement.count, wins, before)
        before += wins
        assert {it.line: (it.reason, it.by) for it in explanation} == expected
        check_dimensions(catalog, request, placement, explanation)
    # Nothing of it is left behind in the scratch.
    again = index.select(request, live, draw)
    assert [[win.line for win in placed] for placed in again] == [
        [win.line for win in placed] for placed in answers
    ]


def check_dimensions(
    catalog: Catalog, request: Request, placement: Placement, explanation: Explanation
) -> None:
    """The dimension named is one of the line's, and of an `all` of leaves it is one that fails."""
    for verdict in explanation:
        targeting = catalog.line_items[verdict.line].targeting
        if verdict.reason is not Reason.TARGETING:
            assert verdict.dimension is None
        elif verdict.dimension is not None:
            leaves = [leaf for leaf in leaves_of(targeting) if named(leaf) == verdict.dimension]
            assert leaves
            parts = targeting and targeting.all
            if parts and all(part.dimension or part.key for part in parts):
                assert not all(holds(leaf, request, placement) for leaf in leaves)


def leaves_of(expression: Expression | None) -> list[Expression]:
    if expression is None:
        return []
    if expression.dimension or expression.key:
        return [expression]
    parts = [*(expression.all or ()), *(expression.any or ())]
    parts += [expression.not_] if expression.not_ else []
    return [leaf for part in parts for leaf in leaves_of(part)]


def named(leaf: Expression) -> str | None:
    return f"key:{leaf.key}" if leaf.key else leaf.dimension


@pytest.mark.parametrize("seed", range(4))
def test_every_line_of_a_seeded_world_is_explained(seed: int) -> None:
    rng = Random(seed)
    cases = 0
    while cases < CASES_A_SEED:
        world = worlds.world(rng)
        for request in world.requests:
            plan = rng.choice((AS_BOOKED, worlds.plan(rng, world.catalog.line_items)))
            check(world.catalog, request, rng.choice(world.moments), rng.getrandbits(64), plan)
            cases += 1


@given(worlds.worlds(), st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_every_line_of_any_world_is_explained(world: worlds.World, draw: int, rng: Random) -> None:
    plan = worlds.plan(rng, world.catalog.line_items)
    for request in world.requests:
        check(world.catalog, request, world.moments[0], draw, plan)


def test_all_lines_are_counted_and_each_can_be_asked_for() -> None:
    only_de = Expression(dimension="country", include=("DE",))
    old = Expression(key="age", at_least=60)
    index = adcore.compile(
        catalog_of(
            item(1, 1000), item(2, 900), item(3, 9000, targeting=only_de),
            item(4, targeting=old), item(5, 800, status="paused"), item(6, 10),
            item(7, targeting=Expression(any=())),
        )
    )  # fmt: skip
    request = Request([Placement("top", floor_micros=100)], key_values={"age": 30})
    [explanation] = index.explain(request, index.live(NOW_S), 1)
    assert len(explanation) == 7
    counts = explanation.counts()
    assert list(counts) == list(Reason)
    assert sum(counts.values()) == 7
    verdicts = [explanation.of(number) for number in range(1, 8)]
    assert [verdict and (verdict.reason, verdict.dimension) for verdict in verdicts] == [
        (Reason.WON, None),
        (Reason.OUTRANKED, None),
        (Reason.TARGETING, "country"),
        (Reason.TARGETING, "key:age"),
        (Reason.PAUSED, None),
        (Reason.FLOOR, None),
        (Reason.TARGETING, None),
    ]
    won, outranked = (verdict for verdict in verdicts[:2] if verdict)
    assert (won.line_item_id, won.loss_code) == (1, None)
    assert (outranked.line_item_id, outranked.by) == (2, 1)
    assert outranked.loss_code == LOSS_CODES[Reason.OUTRANKED] == 102
    assert explanation.of(99) is None


def test_of_several_conjunctions_the_nearest_one_is_named() -> None:
    far = Expression(all=(
        Expression(dimension="os", include=("a",)), Expression(dimension="city", include=("b",)),
    ))  # fmt: skip
    near = Expression(all=(
        Expression(dimension="device", include=("phone",)),
        Expression(dimension="language", include=("de",)),
    ))  # fmt: skip
    index = adcore.compile(catalog_of(item(1, targeting=Expression(any=(far, near)))))
    request = Request([Placement("top")], language="de")
    [explanation] = index.explain(request, index.live(NOW_S), 1)
    assert explanation[0].dimension == "device"


def test_an_index_that_missed_a_line_is_survived() -> None:
    """Its bitmap says no and the row as booked says yes: nobody won, and nothing is read amiss."""
    only_a = Expression(dimension="os", include=("a",))
    content = bytearray(adcore.compile(catalog_of(item(1, targeting=only_a))).buffer)
    start, size = SECTION.unpack_from(content, HEADER.size + tables.POSTINGS * SECTION.size)
    assert size
    content[start + 4 : start + 8] = bytes(4)  # its list has no rows any more
    index = adcore.Index.attach(bytes(content))
    request = Request([Placement("top")], os="a")
    assert index.select(request, index.live(NOW_S), 1) == [[]]
    [explanation] = index.explain(request, index.live(NOW_S), 1)
    assert (explanation[0].reason, explanation[0].by) == (Reason.DRAW, None)


def test_an_explanation_of_nothing_is_empty() -> None:
    index = adcore.compile(catalog_of())
    [explanation] = index.explain(Request([Placement("top")]), index.live(NOW_S), 1)
    assert len(explanation) == 0
    assert list(explanation) == []
    assert index.explain(Request([]), index.live(NOW_S), 1) == []
    with pytest.raises(IndexError):
        index.verdict(0, 0, 0)


@pytest.mark.parametrize(
    ("rank", "reason", "detail", "error"),
    [
        (1, Reason.WON, 2**32 - 1, IndexError),
        (0, Reason.LABEL, 1, IndexError),
        (0, Reason.TARGETING, 17, IndexError),  # the names of keys are no dimension
        (0, Reason.TARGETING, 19, IndexError),
        (0, Reason.TARGETING, 2**32 - 2, IndexError),
        (0, 99, 0, ValueError),
        (-1, Reason.WON, 0, OverflowError),
    ],
)
def test_a_verdict_of_something_else_is_refused(
    rank: int, reason: int, detail: int, error: type[Exception]
) -> None:
    index = adcore.compile(catalog_of(item(1, targeting=Expression(key="k", at_least=1))))
    assert index.verdict(0, Reason.TARGETING, 18).dimension == "key:k"
    assert index.verdict(0, Reason.DRAW, 0).by == 1
    with pytest.raises(error):
        index.verdict(rank, reason, detail)


def test_a_select_counts_what_became_of_the_rows_it_looked_at() -> None:
    """Of a placement that stays unfilled it looks at all of them, so both counts are the same."""
    rng = Random(31)
    filled = 0
    while filled < 200:
        lines = [
            replace(worlds.line_item(rng, n), targeting=rng.choice((None, worlds.leaf(rng))))
            for n in range(rng.choice((5, 70, 600)))
        ]
        world = worlds.world(rng)
        catalog = replace(world.catalog, line_items=tuple(lines))
        index = adcore.compile(catalog)
        rows = {n for n, line in enumerate(lines) if normalise(line.targeting).conjunctions}
        live = index.live(rng.choice(worlds.MOMENTS))
        for request in (worlds.request(rng) for _ in range(10)):
            request.placements = [Placement("slot", count=20, ad_types=[1])]
            [wins] = index.select(request, live, 1)
            seen = index.seen
            [explanation] = index.explain(request, live, 1)
            if len(wins) == 20:
                continue
            filled += 1
            counts = Explanation.counts(explanation)
            lost = sum(counts[it] for it in (Reason.PAUSED, Reason.FLIGHT, Reason.DAYPART))
            hidden = [it.reason for it in explanation if it.line not in rows]
            assert seen["won"] == counts[Reason.WON] == len(wins)
            assert seen["not_live"] == lost - sum(it is not Reason.TARGETING for it in hidden)
            assert seen["targeting"] == counts[Reason.TARGETING] - hidden.count(Reason.TARGETING)
            assert seen["floor"] == 0
            # A line of which both are true is counted as one here and as the other there.
            kept_out = counts[Reason.LABEL] + counts[Reason.CREATIVE]
            assert seen["label"] + seen["creative"] == kept_out
            assert seen["outranked"] == 0
            assert sum(seen.values()) == len(rows)


def test_rows_after_the_last_winner_are_not_looked_at() -> None:
    index = adcore.compile(catalog_of(*(item(n + 1, 9000 - n) for n in range(2000))))
    index.select(Request([Placement("slot")]), index.live(NOW_S), 1)
    assert index.seen["won"] == 1
    assert sum(index.seen.values()) == 512  # the first block
    index.select(Request([Placement("slot", floor_micros=8500)]), index.live(NOW_S), 1)
    assert index.seen["outranked"] == 511
    index.select(Request([Placement("slot", floor_micros=9001)]), index.live(NOW_S), 1)
    # What remains of the priority is skipped, but for the block that it ends in.
    assert index.seen["floor"] == sum(index.seen.values()) == 512 + 2000 % 512
