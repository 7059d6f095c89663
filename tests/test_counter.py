"""The counter against its oracle, and its rules at their edges."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events.frames import Frame, Frames, pack
from server.events.records import RECORD_BEACON, RECORD_DECISION, Beacon, Kind
from server.ledger.counter import HELD_S, Counter
from server.ledger.measures import of_frames
from server.ledger.wal import Opened, Received, Shipped, Ticked
from server.store import buckets
from server.store.buckets import EVER, HOUR, hour, quarter, window
from tests.shards import HOUR_S, NOON_S, beacon, decision
from tests.sim.oracle import counted

HEAD = b"40.50.10."
encode = msgspec.msgpack.encode


def frames(*records):
    """Beacons, decisions, or (kind, bytes)."""
    pieces = []
    for number, record in enumerate(records, 1):
        if isinstance(record, tuple):
            kind, content = record
        else:
            kind = RECORD_BEACON if isinstance(record, Beacon) else RECORD_DECISION
            content = encode(record)
        pieces.append(pack(Frame(1, number, kind, content)))
    return b"".join(pieces)


class Log:
    """A counter and what it was given, so that the oracle can count it too."""

    def __init__(self):
        self.counter = Counter()
        self.taken = []
        self.totals = {}

    def take(self, *records, at_s=NOON_S + 2):
        body = Shipped(at_s * 1000, "p-1", len(records), frames(*records))
        self.counter.take(body)
        self.taken.append((at_s * 1000, body.frames))
        return self

    def drain(self):
        buckets.add(self.totals, self.counter.drain())
        return self.totals

    def counts(self):
        """Line item 40's, by measure, of all hours; equal to the oracle's."""
        assert self.drain() == counted(self.taken)
        sums = {}
        for bucket, fields in self.totals.items():
            for field, amount in fields.items() if bucket.kind == HOUR else ():
                name = field.removeprefix(HEAD).decode()
                sums[name] = sums.get(name, 0) + amount
        return sums


# -- against the oracle


def some_beacon(random, ids, now_s):
    id, issued_s, line = random.choice(ids)
    return Beacon(
        random.choice((1, 1, 2, 2, 3, 4, 4)),
        random.choices((0, 1, 5, 15, 16), (60, 1, 1, 1, 1))[0],
        now_s + random.choice((0, 0, -3, 1, 301)),
        issued_s,
        id,
        line,
        line * 10,
        random.randint(0, 1),
        bytes(8),
        random.choice((0, 0, now_s // 10, now_s // 10 - 1, issued_s // 10, now_s // 10 + 31)),
        random.choice((0, 1, 2_500_000)),
        random.choice((40, 40, 7, 8)),
        random.randrange(4) << 1,
        random.choice(("10.1.2.0", "")),
        random.choice(("a", "b")),
        random.choice((0, 3)),
        random.choice((b"", b"x")),
        random.choice((0, 100, 86_400)),
        random.choice((0, 50, 3_600)),
    )


@given(st.integers(0, 2**48))
def test_it_agrees_with_its_oracle_through_any_number_of_restarts(seed):
    random = Random(seed)
    now_s = NOON_S + random.choice((0, HOUR_S - 3, -1))
    ids = [
        (random.randbytes(16), now_s + random.choice((0, -5, -119, -121, 3, 100)), 1 + number % 3)
        for number in range(random.randint(1, 6))
    ]
    log, hours = Log(), {}
    for _ in range(random.randint(1, 40)):
        now_s += random.choice((0, 0, 1, 1, 59, 120, 299, 300, 301, 3_600, 90_000, -5))
        records = [some_beacon(random, ids, now_s) for _ in range(random.randint(0, 6))]
        if random.random() < 0.1:
            records.append(decision((10, 40, 50), (10, 0, 0), weight=3, at_s=now_s - 9))
        if random.random() < 0.1:
            records.append((random.choice((1, 2, 9)), random.choice((b"", b"\xc1", b"\x90"))))
        if random.random() < 0.2:
            ids.append((random.randbytes(16), now_s, 1))
        log.take(*records, at_s=now_s)
        if random.random() < 0.2:
            log.drain()
            counter = log.counter
            counter.begin_saving()
            state, changed = counter.state()
            hours = {hour: dump for hour, dump in hours.items() if hour in counter.known_hours()}
            hours |= changed
            counter.end_saving(True)
            log.counter = Counter.restore(state, hours)
    assert log.drain() == counted(log.taken)
    framed = sum(
        amount
        for bucket, fields in log.totals.items()
        for field, amount in fields.items()
        if bucket.kind == HOUR and field.split(b".", 3)[3].decode() in of_frames
    )
    assert framed + log.counter.waiting == sum(len([*Frames(taken)]) for _, taken in log.taken)


# -- edges


@pytest.mark.parametrize(
    ("kind", "window_s", "measure"),
    [(Kind.IMPRESSION, 120, "impressions"), (Kind.CLICK, 86_400, "clicks"),
     (Kind.EVENT, 86_400, "events")],
)  # fmt: skip
@pytest.mark.parametrize("over_s", [0, 1])
def test_a_beacon_is_valid_up_to_its_windows_last_second(kind, window_s, measure, over_s):
    log, served = Log(), beacon(received_s=NOON_S)
    if kind != Kind.IMPRESSION:
        log.take(served)
    at_s = NOON_S + window_s + over_s
    log.take(msgspec.structs.replace(served, kind=kind, received_s=at_s), at_s=at_s)
    expired = f"invalid.{kind.name.lower()}.expired"
    assert log.counts().get(measure, 0) == 1 - over_s
    assert log.counts().get(expired, 0) == over_s


@pytest.mark.parametrize(("early_s", "counts"), [(60, True), (61, False)])
def test_clocks_may_differ_by_a_minute(early_s, counts):
    log = Log().take(beacon(received_s=NOON_S - early_s))
    assert log.counts() == (
        {"impressions": 1, "revenue_nanos": 8_000_000} if counts
        else {"invalid.impression.future": 1}
    )  # fmt: skip


@pytest.mark.parametrize("waited_s", [HELD_S - 1, HELD_S])
@pytest.mark.parametrize("kind", [Kind.CLICK, Kind.EVENT, Kind.CONVERSION])
def test_what_comes_before_its_impression_waits_for_it(kind, waited_s):
    log, served = Log(), beacon(received_s=NOON_S + 1)
    log.take(msgspec.structs.replace(served, kind=kind, view_lookback_s=9), at_s=NOON_S)
    assert (log.counter.waiting, log.counts()) == (1, {})
    log.take(served, at_s=NOON_S + waited_s)
    name = kind.name.lower()
    reason = "unattributed" if kind == Kind.CONVERSION else "no_impression"
    came_in_time = waited_s < HELD_S
    assert log.counter.waiting == 0
    assert log.counts()["impressions"] == 1
    assert log.counts().get(f"{name}s", 0) == came_in_time
    assert log.counts().get(f"invalid.{name}.{reason}", 0) == (not came_in_time)


def test_a_tick_lets_go_of_what_waits():
    log = Log().take(beacon(Kind.CLICK))
    for body in (Ticked(10**15), Opened("log", 10**15, {}, [])):
        log.counter.take(body)
    assert log.counter.waiting == 0
    (fields,) = log.counter.drain().values()
    assert fields == {HEAD + b"invalid.click.no_impression": 1}


def test_each_rate_pays_for_its_own_kind():
    paid = {}
    for rate in range(4):
        served = beacon(flags=rate << 1, price_micros=7)
        after = [
            msgspec.structs.replace(served, kind=kind, click_lookback_s=99, value_micros=5)
            for kind in (Kind.CLICK, Kind.CONVERSION)
        ]
        paid[rate] = Log().take(served, *after).counts().get("revenue_nanos", 0)
    assert paid == {0: 7, 1: 7000, 2: 7000, 3: 0}


@pytest.mark.parametrize(
    "fields",
    [
        *({"id": bytes(size)} for size in (0, 15, 17)),
        *({"kind": kind} for kind in (0, 5, -1)),
        # An integer of msgpack has 64 bits, and as many of sign or none.
        *(
            {name: number}
            for name in ("kind", "outcome", "received_s", "issued_s", "flags", "price_micros")
            for number in (-(2**63), 2**63 - 1, 2**63, 2**64 - 1)
        ),
        *({"lease": number} for number in (-1, -(2**63), 2**63, 2**64 - 1)),
        *({"value_micros": number} for number in (-1, 2**63, 2**64 - 1)),
        *({"click_lookback_s": number} for number in (-1, 2**63, 2**64 - 1)),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_unreadable_and_stops_nothing(fields):
    served = beacon()
    log = Log().take(served, msgspec.structs.replace(served, **fields), beacon())
    assert log.drain()[hour(NOON_S // HOUR_S)][b"0.0.0.unreadable"] == 1
    assert log.totals[hour(NOON_S // HOUR_S)][HEAD + b"impressions"] == 2


@pytest.mark.parametrize("weight", [-1, 2**31, 2**64 - 1])
def test_a_weight_beyond_all_bounds_is_unreadable(weight):
    log = Log().take(decision((10, 40, 50), weight=weight))
    assert log.drain() == {hour(NOON_S // HOUR_S): {b"0.0.0.unreadable": 1}}


def test_a_clock_that_steps_back_moves_nothing():
    log, served = Log(), beacon()
    log.take(served, at_s=NOON_S + 2)
    log.take(served, beacon(Kind.CLICK, id=served.id), at_s=NOON_S - 50_000)
    assert log.counts()["invalid.impression.duplicate"] == log.counts()["clicks"] == 1


def test_a_drain_gives_only_what_was_taken_since():
    log = Log().take(beacon())
    assert log.counter.touched == 4
    spent = {b"40.impressions": 1, b"40.revenue_nanos": 8_000_000}
    assert log.counter.drain() == {
        hour(NOON_S // HOUR_S): {HEAD + b"impressions": 1, HEAD + b"revenue_nanos": 8_000_000},
        window(NOON_S // 10): spent,
        quarter(NOON_S // 900): spent,
        EVER: spent,
    }
    assert (log.counter.touched, log.counter.drain()) == (0, {})


def test_an_id_is_one_of_its_hour_alone():
    """The same id from two hours is two tokens: routing and memory both go by when it was made."""
    served = beacon()
    other = msgspec.structs.replace(served, issued_s=NOON_S - 1, received_s=NOON_S)
    assert served.issued_s // HOUR_S != other.issued_s // HOUR_S
    log = Log()
    log.counter.take(Received(NOON_S * 1000 + 2000, "", frames(served, other)))
    assert [bucket.kind for bucket in log.counter.drain()].count(HOUR) == 2


# -- what is spent


LEASE = NOON_S // 10


@pytest.mark.parametrize(
    ("lease", "at_s", "is_billed"),
    [
        (LEASE, NOON_S + 159, True),
        (LEASE, NOON_S + 160, False),
        (LEASE + 30, NOON_S + 9, True),  # the log's clock may be behind: by what a click may wait
        (LEASE + 31, NOON_S + 9, False),
        (2**63 - 1, NOON_S, False),
        (0, NOON_S + 86_400, True),
    ],
)
def test_a_lease_bills_until_the_log_has_closed_it(lease, at_s, is_billed):
    log = Log().take(beacon(lease=lease), at_s=at_s)
    assert log.counts().get("impressions", 0) == is_billed
    assert log.counts().get("invalid.impression.lease_closed", 0) == (not is_billed)
    assert (EVER in log.totals) == is_billed


def test_what_a_closed_lease_showed_bills_no_click_and_a_repeat_is_one():
    log, early, late = Log(), beacon(lease=LEASE), beacon(lease=LEASE)
    log.take(early).take(early, late, beacon(Kind.CLICK, id=late.id), at_s=NOON_S + 200)
    log.take(at_s=NOON_S + 200 + HELD_S)
    assert log.counts() == {
        "impressions": 1,
        "revenue_nanos": 8_000_000,
        "invalid.impression.duplicate": 1,
        "invalid.impression.lease_closed": 1,
        "invalid.click.no_impression": 1,
    }


def test_an_impression_is_spent_in_its_leases_window_and_all_else_when_it_came():
    cpc = 1 << 1
    log, shown = Log(), beacon(lease=LEASE - 1, at_s=NOON_S - 3, flags=cpc, price_micros=5)
    log.take(shown, beacon(flags=cpc), at_s=NOON_S + 12)
    log.take(beacon(Kind.CLICK, id=shown.id, at_s=NOON_S - 3, lease=LEASE - 1, flags=cpc,
                    price_micros=5), at_s=NOON_S + 900)  # fmt: skip
    shown_of, clicked = {b"40.impressions": 1}, {b"40.clicks": 1, b"40.revenue_nanos": 5_000}
    spent = {bucket: sums for bucket, sums in log.drain().items() if bucket.kind != HOUR}
    assert spent == counted_spent(log) == {
        window(LEASE - 1): shown_of,
        window(LEASE + 1): shown_of,
        window(LEASE + 90): clicked,
        quarter(NOON_S // 900 - 1): shown_of,
        quarter(NOON_S // 900): shown_of,
        quarter(NOON_S // 900 + 1): clicked,
        EVER: {b"40.impressions": 2} | clicked,
    }  # fmt: skip


def counted_spent(log):
    return {bucket: sums for bucket, sums in counted(log.taken).items() if bucket.kind != HOUR}


def test_buckets_grow_old_by_the_log_and_by_no_clock_that_was_wrong_once():
    log = Log().take(beacon())
    assert log.counter.known_until_s == log.counter.now_s == NOON_S + 2
    log.take(beacon(at_s=NOON_S), at_s=NOON_S + 100 * 86_400)
    assert log.counter.now_s == NOON_S + 100 * 86_400
    assert log.counter.known_until_s == NOON_S + HOUR_S
    counter = Counter.restore(log.counter.state()[0], {})
    assert counter.known_until_s == NOON_S + HOUR_S
