"""A decision over leases: who has none is passed over by the same draw, and nobody is overspent."""

import time

import pytest
from msgspec.structs import replace

from adcore import Placement, Request
from server.delivery import bundle, planning
from server.delivery.capping import Capper
from server.delivery.filling import ROUNDS_MAX, Filler
from server.delivery.leasing import WINDOW_NS, LeaseTable
from server.delivery.snapshot import LEASES, Holder
from server.delivery.visits import Visit
from server.metrics import Metrics
from tests.delivery import NOW_S, no_users, write_bundle
from tests.leases import LEASED, with_goal

HOUSE = 42
DRAW = 7


def nobody() -> Visit:
    """A visit of somebody without a key: no cap is asked about."""
    return Visit(None, NOW_S, True)


class Worker:
    """A holder with a table that an agent would fill; its clock is CLOCK_MONOTONIC."""

    def __init__(self, folder, catalog):
        self.folder = folder
        self.table = LeaseTable(folder / LEASES, create=True)
        self.window = time.monotonic_ns() // WINDOW_NS
        self.slots = {}
        self.holder = Holder(folder)
        self.filler = Filler(Capper(no_users(Metrics(folder, "worker-1"))))
        self.serve(catalog)

    def serve(self, catalog, generation=1):
        name = f"snapshot-{generation}.bin"
        write_bundle(self.folder / name, catalog, generation)
        bundle.make_current(self.folder, name)
        for line in bundle.Leasable(self.folder / name):
            if line not in self.slots:
                self.slots[line] = self.table.insert(line)
        self.table.announce()
        assert self.holder.poll(NOW_S)

    def grant(self, line, units, window=None):
        self.table.put(self.slots[line], self.window if window is None else window, units)

    def left(self, line):
        return self.table.left(self.slots[line])[1]

    def poll(self, now_s=NOW_S):
        assert not self.holder.poll(now_s)

    def wins(self, *, placements=1, draw=DRAW, billed=True):
        snapshot = self.holder.snapshot
        request = Request(
            placements=[Placement(name=f"p{n}", site=10, ad_types=[1]) for n in range(placements)]
        )
        wins = self.filler.fill(request, snapshot, snapshot.live(NOW_S), draw, billed, nobody())
        return [[(win.line_item_id, win.lease) for win in won] for won in wins]


@pytest.fixture
def worker(tmp_path):
    return Worker(tmp_path, with_goal(1000, house=True))


def test_a_winner_has_a_unit_and_who_needs_none_has_none(worker):
    worker.grant(LEASED, 2)
    assert [worker.wins() for _ in range(4)] == [
        [[(LEASED, worker.window)]],
        [[(LEASED, worker.window)]],
        [[(HOUSE, 0)]],
        [[(HOUSE, 0)]],
    ]
    assert worker.filler.refused == 1  # then it is stopped
    assert worker.table.look() == [(worker.slots[LEASED], 2, 1)]


def test_new_units_are_seen_by_the_thread_that_looks(worker):
    assert worker.wins() == [[(HOUSE, 0)]]
    worker.grant(LEASED, 1)
    assert worker.wins() == [[(HOUSE, 0)]]
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


def test_an_ended_lease_serves_nobody(worker):
    worker.grant(LEASED, 5, worker.window - 2)
    assert worker.wins() == [[(HOUSE, 0)]]
    assert worker.left(LEASED) == 5
    worker.poll()
    # Nobody asks for more: it is not even looked at.
    assert (worker.wins(), worker.filler.refused) == ([[(HOUSE, 0)]], 1)


def test_who_sleeps_is_tried_once_and_who_is_awake_not_at_all(worker):
    assert worker.wins() == [[(HOUSE, 0)]]  # woken by this
    slot = worker.slots[LEASED]
    assert worker.table.look() == [(slot, 0, 1)]
    assert worker.table.is_awake(slot)
    worker.poll()
    assert (worker.wins(), worker.filler.refused) == ([[(HOUSE, 0)]], 1)
    worker.table.wake(slot, False)
    worker.poll()
    assert (worker.wins(), worker.filler.refused) == ([[(HOUSE, 0)]], 2)


def test_a_preview_takes_nothing(worker):
    worker.grant(LEASED, 1)
    assert worker.wins(billed=False) == [[(LEASED, 0)]]
    assert worker.left(LEASED) == 1


def test_who_wins_twice_takes_two_or_none(worker):
    worker.grant(LEASED, 3)
    assert worker.wins(placements=2) == [[(LEASED, worker.window)]] * 2
    assert worker.wins(placements=2) == [[(HOUSE, 0)]] * 2
    # The one that is left goes back into the table, and to the next who wants one.
    assert worker.left(LEASED) == 1
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


def test_what_a_round_took_is_given_back_when_another_winner_is_refused(tmp_path):
    catalog = with_goal(1000, house=True)
    sponsor, _, house = catalog.line_items
    first = replace(sponsor, id=39, rate=replace(sponsor.rate, price_micros=9_000_000))
    worker = Worker(tmp_path, replace(catalog, line_items=(first, sponsor, house)))
    worker.grant(39, 5)
    request = Request(placements=[Placement(name="p", site=10, ad_types=[1], count=2)])
    snapshot = worker.holder.snapshot
    (won,) = worker.filler.fill(request, snapshot, snapshot.live(NOW_S), DRAW, True, nobody())
    leases = {win.line_item_id: win.lease for win in won}
    # The first has its unit of the last round only; the second had none.
    assert leases[39] == worker.window
    assert LEASED not in leases
    assert worker.left(39) == 4


def test_rounds_are_bounded_and_then_a_place_stays_empty(tmp_path):
    catalog = with_goal(1000)
    sponsor, *_ = catalog.line_items
    many = tuple(
        replace(sponsor, id=100 + n, rate=replace(sponsor.rate, price_micros=10**6 + n))
        for n in range(2 * ROUNDS_MAX)
    )
    worker = Worker(tmp_path, replace(catalog, line_items=many))
    assert worker.wins() == [[]]
    assert worker.filler.refused == ROUNDS_MAX


def test_a_new_catalog_serves_on_the_leases_that_are_there(worker):
    worker.grant(LEASED, 5)
    worker.serve(with_goal(2000), generation=2)
    assert worker.wins() == [[(LEASED, worker.window)]]
    worker.serve(with_goal(None, house=True), generation=3)
    assert worker.wins() == [[(LEASED, 0)]]  # it may serve without, now


def test_a_line_item_that_the_agent_does_not_know_yet_waits(tmp_path):
    worker = Worker(tmp_path, with_goal(None, house=True))
    write_bundle(tmp_path / "snapshot-2.bin", with_goal(9, house=True), 2)
    bundle.make_current(tmp_path, "snapshot-2.bin")
    assert worker.holder.poll(NOW_S)
    assert worker.wins() == [[(HOUSE, 0)]]
    worker.slots[LEASED] = worker.table.insert(LEASED)
    worker.grant(LEASED, 1)
    worker.table.announce()
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


def numbers(*values):
    return b"".join(value.to_bytes(8, "little", signed=True) for value in values)


def test_a_plan_throttles_and_leases_stay_what_they_are(worker):
    worker.grant(LEASED, 1000)
    worker.poll()
    planning.write(worker.folder, 1, NOW_S, numbers(LEASED), numbers(500_000), numbers(-1))
    worker.poll()
    firsts = [worker.wins(draw=number << 40)[0][0][0] for number in range(400)]
    assert 140 < firsts.count(LEASED) < 260
    planning.write(worker.folder, 2, NOW_S, numbers(LEASED), numbers(0), numbers(-1))
    worker.poll()
    assert worker.wins() == [[(HOUSE, 0)]]
    # Too old: as booked, and leases alone decide.
    worker.poll(NOW_S + planning.PLAN_AGE_MAX_S)
    assert worker.wins() == [[(HOUSE, 0)]]
    worker.poll(NOW_S + planning.PLAN_AGE_MAX_S + 1)
    assert worker.wins() == [[(LEASED, worker.window)]]
    assert worker.holder.plan is None


def test_a_new_plan_resumes_nobody_without_a_lease(worker):
    worker.wins()
    planning.write(worker.folder, 1, NOW_S, numbers(LEASED), numbers(1_000_000), numbers(-1))
    refused = worker.filler.refused
    worker.poll()
    assert worker.wins() == [[(HOUSE, 0)]]
    assert worker.filler.refused == refused


def test_a_plan_that_is_no_good_is_refused(worker, caplog):
    planning.write(worker.folder, 1, NOW_S, numbers(LEASED), numbers(-5), numbers(-1))
    worker.poll()
    assert worker.holder.plan is None
    (worker.folder / "plan-2.bin").write_bytes(b"x" * 100)
    (worker.folder / "plan").unlink()
    (worker.folder / "plan").symlink_to("plan-2.bin")
    worker.poll()
    assert worker.holder.plan is None
    assert [record.message for record in caplog.records].count("plan refused") == 2
    worker.grant(LEASED, 1)
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


def test_a_plan_s_probability_may_stay_as_booked(worker):
    planning.write(
        worker.folder, 3, NOW_S, numbers(41, LEASED), numbers(10**6, 10**6), numbers(500, -1)
    )
    worker.poll()
    plan = worker.holder.plan
    assert list(plan.probabilities_ppm) == [500, -1]
    worker.grant(LEASED, 1)
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


@pytest.mark.parametrize("probability", [-1, 500])
def test_a_plan_s_multipliers_rank(tmp_path, probability):
    catalog = with_goal(1000)
    sponsor, *_ = catalog.line_items
    dearer = replace(sponsor, id=39, rate=replace(sponsor.rate, price_micros=9_000_000))
    worker = Worker(tmp_path, replace(catalog, line_items=(dearer, sponsor)))
    for line in (39, LEASED):
        worker.grant(line, 5)
    worker.poll()
    assert worker.wins() == [[(39, worker.window)]]
    ids, rates = numbers(39, LEASED), numbers(10**6, 10**6)
    multipliers = numbers(100_000, 10**6)
    chances = numbers(probability, -1)
    planning.write(worker.folder, 1, NOW_S, ids, rates, chances, multipliers)
    worker.poll()
    assert worker.wins() == [[(LEASED, worker.window)]]


def test_thousands_are_stopped_and_resumed(tmp_path):
    catalog = with_goal(1000)
    sponsor, *_ = catalog.line_items
    many = tuple(replace(sponsor, id=1000 + n) for n in range(1500))
    worker = Worker(tmp_path, replace(catalog, line_items=many))
    snapshot = worker.holder.snapshot
    live = snapshot.live(NOW_S)
    now = time.monotonic_ns()
    assert snapshot.leased.apply(live, now) == 0  # all asleep: open, to be tried
    for line in range(1000, 2500):
        worker.table.wake(worker.slots[line], True)
    assert snapshot.leased.apply(live, now) == 1500
    for line in range(1000, 2500, 3):
        worker.grant(line, 1)
    assert snapshot.leased.apply(live, now) == 500
    assert snapshot.leased.apply(live, now) == 0
    assert snapshot.leased.apply(live, now + 2 * WINDOW_NS) == 500
