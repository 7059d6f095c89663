"""A plan stops, throttles and re-orders line items, exactly as if they had been booked so."""

from array import array
from random import Random

import numpy as np
import pytest

import adcore
from adcore.catalog import Account, Cpc, Expression, LineItem, Priority
from adcore.plan import MULTIPLIER_PPM_MAX, PPM
from adcore.request import Placement, Request
from tests import oracle, worlds
from tests.oracle import Oracle, live_lines
from tests.test_engine import answers
from tests.worlds import MOMENTS, catalog_of, item

NOW_S = MOMENTS[0]
FIRST_PRICE = Account("account", "EUR")
SECOND_PRICE = Account("account", "EUR", auction="second_price")
SLOT = Request([Placement("slot")])


def won(
    index: adcore.Index, live: adcore.Live, request: Request = SLOT, draw: int = 1
) -> list[int]:
    return [win.line_item_id for win in index.select(request, live, draw)[0]]


# -- the order of scores ---------------------------------------------------------------------------


def test_a_multiplier_changes_the_order_and_not_what_is_paid() -> None:
    index = adcore.compile(catalog_of(item(1, 3000), item(2, 2000)))
    live = index.live(NOW_S, index.plan([2], multipliers_ppm=[1_600_000]))
    [[win]] = index.select(SLOT, live, 1)
    assert (win.line_item_id, win.ecpm_micros, win.clear_price_micros) == (2, 2000, 2000)


def test_a_probability_takes_the_place_of_the_booked_one() -> None:
    click = item(2, rate=Cpc(1_000_000, ctr_ppm=1000))
    index = adcore.compile(catalog_of(item(1, 1_500_000), click))
    assert won(index, index.live(NOW_S)) == [1]
    live = index.live(NOW_S, index.plan([1, 2], probabilities_ppm=[5, 2000]))
    [[win]] = index.select(SLOT, live, 1)
    assert (win.line_item_id, win.ecpm_micros, win.clear_price_micros) == (2, 2_000_000, 1_000_000)


def test_the_second_price_is_what_still_outbids_by_score() -> None:
    index = adcore.compile(catalog_of(item(1, 3000), item(2, 2000), account=SECOND_PRICE))
    live = index.live(NOW_S, index.plan([2], multipliers_ppm=[1_600_000]))
    [[win]] = index.select(SLOT, live, 1)
    # 1876 x 1.6 = 3001.6, one more than the runner-up's 3000; 1875 would only be its equal.
    assert win.clear_price_micros == 1876


@pytest.mark.parametrize("rows", [511, 512, 513, 2048, 2049, 6143, 6144, 6145, 9000])
@pytest.mark.parametrize("second_price", [False, True], ids=["first", "second"])
def test_the_best_score_wins_from_wherever_it_was_booked(rows: int, second_price: bool) -> None:
    """Far behind by eCPM, at the edges of blocks, in the first and in a later priority."""
    rng = Random(rows)
    line_items = [
        item(n, 10_000 + rows - n, priority=4 if n <= rows // 3 else 8) for n in range(1, rows + 1)
    ]
    catalog = catalog_of(*line_items, account=SECOND_PRICE if second_price else FIRST_PRICE)
    index = adcore.compile(catalog)
    live_now = live_lines(catalog, NOW_S)
    request = Request([Placement("slot", count=3), Placement("other", count=2)])
    edges = {1, rows // 3, rows // 3 + 1, 511, 512, 513, 2048, 2049, 6144, 6145, rows - 1, rows}
    for best in sorted(edge for edge in edges if edge <= rows):
        second = rng.randint(1, rows)
        multipliers = {number: rng.choice((900_000, 1_000_000)) for number in range(1, rows + 1)}
        multipliers |= {second: 4_000_000, best: 5_000_000}
        plan = oracle.Plan(multipliers=multipliers)
        live = index.live(NOW_S, worlds.planned(index, plan, ()))
        # The oracle is slow: it gets those that can win, which are the first by score of each tier.
        order = sorted(live_now, key=lambda n: -plan.score(line_items[n]))
        few = {
            n for tier in (4, 8) for n in [n for n in order if line_items[n].priority == tier][:9]
        }
        assert answers(index, request, live, 5) == Oracle(catalog, plan).select(request, few, 5)


def test_equal_scores_are_drawn_by_weight_whatever_they_were_booked_at() -> None:
    line_items = [item(n, 1000 * n, weight=n) for n in (1, 2, 4, 5, 8)]
    index = adcore.compile(catalog_of(*line_items))
    plan = oracle.Plan(multipliers={n: 8_000_000 // n for n in (1, 2, 4, 5, 8)})
    live = index.live(NOW_S, worlds.planned(index, plan, ()))
    expected = Oracle(catalog_of(*line_items), plan)
    winners = set()
    for draw in range(60):
        assert answers(index, SLOT, live, draw) == expected.select(SLOT, set(range(5)), draw)
        winners.add(won(index, live, draw=draw)[0])
    assert winners == {1, 2, 4, 5, 8}


@pytest.mark.parametrize("far", [513, 2049, 2561])
def test_equal_scores_wait_for_each_other_across_blocks(far: int) -> None:
    """The first and the last have the same score; between them are hundreds that have less."""
    line_items = [item(n, 1_000_000 - n) for n in range(1, far)] + [item(far, 500_000)]
    catalog = catalog_of(*line_items)
    # 999,999 x 0.500001 comes to the same 500,000.
    plan = oracle.Plan(multipliers=dict.fromkeys(range(2, far), 100_000) | {1: 500_001, far: PPM})
    assert plan.score(line_items[0]) == plan.score(line_items[-1]) == 500_000
    index = adcore.compile(catalog)
    live = index.live(NOW_S, worlds.planned(index, plan, ()))
    winners = set()
    for draw in range(20):
        expected = Oracle(catalog, plan).select(SLOT, {0, 1, far - 1}, draw)
        assert answers(index, SLOT, live, draw) == expected
        winners.add(expected[0][0].line_item_id)
    assert winners == {1, far}


@pytest.mark.parametrize("tier_rows", [1, 5, 100, 511, 512, 513, 700])
def test_tiers_end_anywhere_in_a_block(tier_rows: int) -> None:
    """With bounds of their own: the best score of all is in the last row of the last tier."""
    rng = Random(tier_rows)
    priorities = tuple(
        Priority(n, "tier", selection="lottery" if n == 6 else "auction") for n in range(4, 10)
    )
    lines = [
        item(
            number,
            rng.choice((1000, 2000, 5000)),
            priority=4 + number // tier_rows,
            labels=("x",) if number % 9 == 0 else (),
            targeting=Expression(key="k", include=(str(number % 5),)),
        )
        for number in range(6 * tier_rows)
    ]
    catalog = catalog_of(*lines, priorities=priorities, account=SECOND_PRICE)
    index = adcore.compile(catalog)
    multipliers = {line.id: rng.choice((1, PPM, PPM, 2 * PPM)) for line in lines}
    multipliers[lines[-1].id] = MULTIPLIER_PPM_MAX
    plan = oracle.Plan({line.id: 500_000 for line in lines[::3]}, multipliers)
    live, expected = index.live(NOW_S, worlds.planned(index, plan, ())), Oracle(catalog, plan)
    live_now = live_lines(catalog, NOW_S)
    for _ in range(20):
        floor_micros = rng.choice((0, 0, 1500, 4999))
        placements = [Placement("a", count=rng.choice((1, 3, 20)), floor_micros=floor_micros)] * 2
        request = Request(placements, key_values={"k": rng.choice(("0", "4", ["1", "4"]))})
        draw = rng.getrandbits(64)
        assert answers(index, request, live, draw) == expected.select(request, live_now, draw)


def test_the_best_of_a_later_tier_keeps_nobody_waiting() -> None:
    """It scores more than all of the first one, which ends inside a block."""
    lines = [item(n + 1, 50_000 - n, priority=4 if n < 3000 else 8) for n in range(6000)]
    index = adcore.compile(catalog_of(*lines))
    plan = index.plan([1, 6000], multipliers_ppm=[2 * PPM, MULTIPLIER_PPM_MAX])
    assert won(index, index.live(NOW_S, plan)) == [1]
    assert sum(index.seen.values()) == 512


def test_below_a_floor_that_nobody_reaches_no_more_rows_are_read() -> None:
    lines = [item(n + 1, 50_000 - n) for n in range(10_000)]
    index = adcore.compile(catalog_of(*lines, item(99_999, 9, priority=12)))
    live = index.live(NOW_S, index.plan([1], multipliers_ppm=[5]))
    assert won(index, live, Request([Placement("slot", floor_micros=50_001)])) == []
    assert sum(index.seen.values()) == index.seen["floor"] == 512 + 10_001 % 512
    request = Request([Placement("slot", floor_micros=49_700, count=20)])
    assert won(index, live, request) == [*range(2, 22)]


def test_whoever_reaches_the_floor_to_the_micro_is_not_skipped() -> None:
    """Those in front are worth nothing any more; those behind them exactly the floor."""
    lines = [item(n, rate=Cpc(1_000_000, ctr_ppm=1)) for n in range(1, 1501)]
    index = adcore.compile(catalog_of(*lines))
    live = index.live(NOW_S, index.plan(range(1, 1400), probabilities_ppm=[0] * 1399))
    request = Request([Placement("slot", floor_micros=1000, count=20)])
    winners = won(index, live, request)
    assert (len(winners), index.seen["floor"]) == (20, 1399)
    assert min(winners) >= 1400


# -- taking part -----------------------------------------------------------------------------------


def test_a_rate_is_the_share_of_requests_and_the_same_in_every_placement() -> None:
    index = adcore.compile(catalog_of(item(1), item(2)))
    live = index.live(NOW_S, index.plan([1, 2], rates_ppm=[250_000, 0]))
    request = Request([Placement("slot"), Placement("other")])
    rng, served = Random(3), 0
    for _ in range(4000):
        one, other = index.select(request, live, rng.getrandbits(64))
        assert [win.line_item_id for win in one] == [win.line_item_id for win in other]
        served += len(one)
    assert 900 < served < 1100


def test_what_is_throttled_is_counted() -> None:
    index = adcore.compile(catalog_of(*(item(n) for n in range(1, 201))))
    live = index.live(NOW_S, index.plan(range(1, 201), rates_ppm=[500_000] * 200))
    won(index, live, Request([Placement("slot", count=20)]))
    seen = index.seen
    assert seen["won"] == 20
    assert 60 < seen["throttled"] < 140
    assert sum(seen.values()) == 200


# -- stops -----------------------------------------------------------------------------------------


def test_a_stop_is_seen_by_the_next_request_and_outlives_the_live() -> None:
    index = adcore.compile(catalog_of(item(1, 3000), item(2, 2000)))
    live = index.live(NOW_S)
    live.stop(1)
    live.stop(1)
    assert won(index, live) == [2]
    later = index.live(NOW_S + 900, live.plan)
    assert won(index, later) == [2]
    later.resume(1)
    assert won(index, later) == [1]
    assert won(index, index.live(NOW_S)) == [1], "another plan has stops of its own"


def test_a_stop_is_seen_in_every_live_of_its_plan_and_in_no_live_that_is_gone() -> None:
    """The checked builds would see a write to what has been freed: first, last or in between."""
    index = adcore.compile(catalog_of(*(item(n, 5000 - n) for n in range(1, 2001))))
    plan = index.plan()
    for gone in range(3):
        lives = [index.live(NOW_S + n, plan) for n in range(3)]
        del lives[gone]
        lives[0].stop(1)
        lives[1].stop(2000)
        for live in (*lives, index.live(NOW_S, plan)):
            assert won(index, live) == [2]
            assert len(index.matching(SLOT, live)[0]) == 1998
        lives[1].resume(1)
        lives[0].resume(2000)
        assert [len(index.matching(SLOT, live)[0]) for live in lives] == [2000, 2000]


def test_a_resumed_line_serves_only_when_it_is_its_time() -> None:
    paused = item(1, 3000, status="paused")
    index = adcore.compile(catalog_of(paused, item(2, 2000), item(3, 1000)))
    live = index.live(NOW_S, index.plan([2], rates_ppm=[0]))
    for number in (1, 2):
        live.stop(number)
        live.resume(number)
    assert won(index, live) == [3]


def test_a_line_of_several_rows_stops_with_all_of_them() -> None:
    either = worlds.Expression(
        any=tuple(worlds.Expression(key=key, include=("x",)) for key in ("a", "b", "c"))
    )
    index = adcore.compile(
        catalog_of(item(1, 3000), item(2, 2000, targeting=either), item(3, 1000))
    )
    live = index.live(NOW_S)
    request = Request([Placement("slot", count=3)], key_values={"c": "x"})
    live.stop(2)
    assert won(index, live, request) == [1, 3]
    live.resume(2)
    assert won(index, live, request) == [1, 2, 3]


# -- what is refused -------------------------------------------------------------------------------


def test_a_plan_out_of_bounds_is_a_value_error() -> None:
    index = adcore.compile(catalog_of(item(1)))
    for given, message in (
        ({"rates_ppm": [-1]}, r"rates_ppm\[0\]: -1"),
        ({"rates_ppm": [1_000_001]}, "is not from 0 to 1000000"),
        ({"multipliers_ppm": [MULTIPLIER_PPM_MAX + 1]}, "multipliers_ppm"),
        ({"probabilities_ppm": [1_000_001]}, "probabilities_ppm"),
        ({"rates_ppm": [1, 2]}, "2 numbers for 1 line items"),
    ):
        with pytest.raises(ValueError, match=message):
            index.plan([1], **given)
    assert index.plan([1, 7, 9], rates_ppm=[1, 1, 1]).unknown == 2


def test_numbers_may_lie_in_any_buffer() -> None:
    index = adcore.compile(catalog_of(item(1, 3000), item(2, 2000), item(-3, 1000)))
    request = Request([Placement("slot", count=3)])
    ids, multipliers = [1, 2, -3, 1], [5, PPM, 7 * PPM, 100_000]
    blobs = [
        memoryview(b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)).cast("q")
        for numbers in (ids, multipliers)
    ]
    for one, other in (
        (ids, multipliers),
        (array("q", ids), array("q", multipliers)),
        (array("q", ids), array("I", multipliers)),
        (np.array(ids), np.array(multipliers)),
        (np.array(ids * 2)[:4], np.repeat(np.array(multipliers), 2)[::2]),
        blobs,
    ):
        live = index.live(NOW_S, index.plan(one, multipliers_ppm=other))
        assert won(index, live, request) == [-3, 2, 1]
    for wrong in ([0.5], ["1"], [None], [2**63]):
        with pytest.raises((TypeError, OverflowError)):
            index.plan([1], rates_ppm=wrong)


def test_a_number_for_nobody_we_know_is_checked_as_well() -> None:
    index = adcore.compile(catalog_of(item(1)))
    with pytest.raises(ValueError, match=r"multipliers_ppm\[2\]: 8000001 is not from 0 to 8000000"):
        index.plan([1, 8, 9], multipliers_ppm=[5, 5, MULTIPLIER_PPM_MAX + 1])


def test_a_plan_is_for_its_own_index() -> None:
    index, other = (adcore.compile(catalog_of(item(1))) for _ in range(2))
    with pytest.raises(ValueError, match="plan: of another Index"):
        index.live(NOW_S, other.plan())
    with pytest.raises(KeyError):
        index.live(NOW_S).stop(2)
    with pytest.raises(TypeError):
        adcore.Plan()


def test_an_empty_catalog_has_a_plan_too() -> None:
    index = adcore.compile(catalog_of())
    live = index.live(NOW_S, index.plan([1], rates_ppm=[0], multipliers_ppm=[5]))
    assert index.select(SLOT, live, 1) == [[]]


def test_the_highest_price_times_the_highest_multiplier_does_not_overflow() -> None:
    lines: list[LineItem] = [item(1, 10**18), item(2, 10**18 - 1), item(3, 5)]
    catalog = catalog_of(*lines, account=SECOND_PRICE)
    plan = oracle.Plan(multipliers={2: MULTIPLIER_PPM_MAX, 3: 1})
    index = adcore.compile(catalog)
    live = index.live(NOW_S, worlds.planned(index, plan, ()))
    request = Request([Placement("slot", count=3)])
    expected = Oracle(catalog, plan).select(request, {0, 1, 2}, 1)
    assert answers(index, request, live, 1) == expected
    assert [win.line_item_id for win in expected[0]] == [2, 1, 3]


def test_a_plan_that_says_nothing_of_scores_has_them_all_the_same() -> None:
    """It once had scores and no room for those who wait: the first select wrote to nowhere."""
    index = adcore.compile(catalog_of(item(1, 3000), item(2, 2000)))
    for nothing in ([], np.array([], np.int64)):
        live = index.live(NOW_S, index.plan(nothing, multipliers_ppm=nothing))
        assert won(index, live, Request([Placement("slot", count=2)])) == [1, 2]
