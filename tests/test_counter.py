"""The counter counts what the oracle does, whenever it is stopped, saved and started again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON, RECORD_DECISION, Kind
from server.ledger import counter as counting
from server.ledger import memory
from server.ledger.counter import Counter
from server.ledger.wal import Received, Ticked
from tests.frames import framed
from tests.shards import HOUR_S, NOON_S, beacon, decision
from tests.sim import oracle
from tests.sim.world import small_limits

DAY_S = 86_400
DELAYS_S = (0, 0, 0, 1, 2, 59, 119, 121, 300, 301, 3_599, 3_700, 43_200, DAY_S, DAY_S + 7_300)


@st.composite
def beacons(draw):
    """Few ids and browsers, so that they meet; received close to one another or far."""
    identity = draw(st.integers(0, 4))
    issued_s = NOON_S + draw(st.sampled_from([0, 30, HOUR_S - 1]))
    return beacon(
        draw(st.sampled_from([Kind.IMPRESSION, *Kind])),
        at_s=issued_s,
        id=identity.to_bytes(16, "big"),
        outcome=draw(st.sampled_from([0] * 9 + [4, 15])),
        received_s=issued_s + draw(st.sampled_from([*DELAYS_S, -61, 2_000])),
        creative_id=draw(st.sampled_from([50, 51])),
        price_micros=draw(st.sampled_from([0, 7])),
        event=draw(st.sampled_from([0, 40, 41])),
        flags=draw(st.integers(0, 7)),
        network=draw(st.sampled_from(["192.0.2.0", ""])),
        user_agent=draw(st.sampled_from(["one", "two", "three"])),
        value_micros=draw(st.sampled_from([0, 5])),
        order=draw(st.sampled_from([b"", b"a"])),
        click_lookback_s=draw(st.sampled_from([0, 60, DAY_S])),
        view_lookback_s=draw(st.sampled_from([0, 60, DAY_S])),
    )


decisions = st.builds(
    lambda line, weight, late_s: decision(
        (10, line, 50), (10, 0, 0), weight=weight, at_s=NOON_S - late_s
    ),
    st.integers(0, 2),
    st.integers(1, 100),
    st.sampled_from([0, 0, DAY_S + 3 * HOUR_S, -1_000]),
)
garbage = st.sampled_from([(RECORD_BEACON, b"\xc1"), (RECORD_DECISION, b"\x90"), (9, b"")])


def frame_of(number: int, each: object) -> bytes:
    if isinstance(each, tuple):
        return pack(Frame(1, number, *each))
    kind = RECORD_DECISION if hasattr(each, "weight") else RECORD_BEACON
    return pack(Frame(1, number, kind, msgspec.msgpack.encode(each)))


@st.composite
def logs(draw):
    """Records of the log: (written_ms, frames), the time mostly growing."""
    now_s, records = NOON_S, []
    for _ in range(draw(st.integers(1, 12))):
        now_s += draw(st.sampled_from((*DELAYS_S, -5)))
        held = draw(st.lists(beacons() | beacons() | beacons() | decisions | garbage, max_size=6))
        content = b"".join(frame_of(number, each) for number, each in enumerate(held, 1))
        records.append((now_s * 1000, content))
    return records


@pytest.fixture(scope="module", autouse=True)
def limits():
    with pytest.MonkeyPatch.context() as patch:
        small_limits(patch)
        yield


def add(sums: dict[int, dict[bytes, int]], deltas: dict[int, dict[bytes, int]]) -> None:
    for hour, fields in deltas.items():
        known = sums.setdefault(hour, {})
        for field, delta in fields.items():
            known[field] = known.get(field, 0) + delta


@given(logs())
def test_it_counts_what_the_oracle_counts(log):
    counter = Counter()
    for written_ms, content in log:
        counter.take(Received(written_ms, "", content))
    assert counter.drain() == oracle.counted(log)
    assert counter.drain() == {}


@given(logs(), st.data())
def test_it_goes_on_from_a_state_as_if_never_stopped(log, data):
    """The hours' ids are saved in part, as checkpoints do; some are begun and not kept."""
    counter, sums, saved = Counter(), {}, {}
    for written_ms, content in log:
        counter.take(Received(written_ms, "", content))
        what = data.draw(st.sampled_from(["go on", "save", "fail to save", "restore"]))
        if what == "go on":
            continue
        add(sums, counter.drain())
        counter.begin_saving()
        state, hours = counter.state()
        if what != "fail to save":
            known = {hour: ids for hour, ids in saved.items() if hour in counter.known_hours()}
            saved = known | hours
            assert saved.keys() == counter.known_hours()
        counter.end_saving(what != "fail to save")
        if what == "restore":
            counter = Counter.restore(state, saved)
            assert counter.state()[0] == state
    add(sums, counter.drain())
    assert sums == oracle.counted(log)


def take(counter: Counter, *each: object, at_s: int = NOON_S + 2) -> None:
    counter.take(Received(at_s * 1000, "", framed(*each)))


def counts(counter: Counter) -> dict[str, int]:
    return {
        field.decode().split(".", 3)[3]: count
        for fields in counter.drain().values()
        for field, count in fields.items()
        if b"revenue" not in field
    }


@pytest.mark.parametrize(
    ("kind", "window_s"), [(Kind.IMPRESSION, 120), (Kind.CLICK, DAY_S), (Kind.EVENT, DAY_S)]
)
def test_a_window_ends_where_it_says(kind, window_s):
    for age_s, reason in ((window_s, None), (window_s + 1, "expired")):
        counter, shown = Counter(), beacon()
        if kind != Kind.IMPRESSION:
            take(counter, shown)
        each = beacon(kind, id=shown.id, received_s=NOON_S + age_s)
        take(counter, each, at_s=NOON_S + age_s)
        assert (f"invalid.{kind.name.lower()}.{reason}" in counts(counter)) == bool(reason)


def test_a_click_waits_for_its_impression_for_five_minutes():
    shown = beacon()
    for waited_s, clicks in ((counting.HELD_S - 1, 1), (counting.HELD_S, 0)):
        counter = Counter()
        take(counter, beacon(Kind.CLICK, id=shown.id))
        assert counter.waiting == 1
        assert counts(counter) == {}
        take(counter, shown, at_s=NOON_S + 2 + waited_s)
        assert counter.waiting == 0
        assert counts(counter).get("clicks", 0) == clicks


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(counting, "HELD_MAX", 2)
    counter = Counter()
    take(counter, *(beacon(Kind.CLICK) for _ in range(3)))
    assert counter.waiting == 2
    assert counts(counter) == {"invalid.click.no_impression": 1}
    counter.take(Ticked((NOON_S + 2 + counting.HELD_S) * 1000))
    assert counter.waiting == 0
    assert counts(counter) == {"invalid.click.no_impression": 2}


def test_the_oldest_hour_goes_when_there_are_too_many_ids(monkeypatch):
    monkeypatch.setattr(memory, "IDS_MAX", 3)
    counter = Counter()
    hours = [[beacon(at_s=NOON_S + hour * HOUR_S) for _ in range(2)] for hour in range(2)]
    for hour, shown in enumerate(hours):
        take(counter, *shown, at_s=NOON_S + hour * HOUR_S + 2)
    counter.take(Ticked((NOON_S + HOUR_S + 60) * 1000))
    assert counter.known_hours() == {NOON_S // HOUR_S + 1}
    counts(counter)
    take(counter, hours[0][0], hours[1][0])
    assert counts(counter) == {"invalid.impression.late": 1, "invalid.impression.duplicate": 1}
    counter.begin_saving()
    again = Counter.restore(*counter.state())
    take(again, hours[0][0])
    assert counts(again) == {"invalid.impression.late": 1}


def test_a_crowd_in_a_minute_and_no_longer(monkeypatch):
    monkeypatch.setattr(memory, "CLICKS_A_MINUTE_MAX", 2)
    counter = Counter()
    shown = [beacon(user_agent=str(number)) for number in range(4)]
    take(counter, *shown)
    clicks = [
        beacon(Kind.CLICK, id=each.id, user_agent=each.user_agent, received_s=NOON_S + second)
        for each, second in zip(shown, (0, 30, 59, 60), strict=True)
    ]
    counts(counter)
    take(counter, *clicks, at_s=NOON_S + 60)
    assert counts(counter) == {"clicks": 3, "invalid.click.rate": 1}


def test_time_alone_refuses_what_waited():
    counter = Counter()
    take(counter, beacon(Kind.CONVERSION), beacon(Kind.EVENT))
    counter.take(Ticked((NOON_S + 1000) * 1000))
    assert counts(counter) == {
        "invalid.conversion.unattributed": 1,
        "invalid.event.no_impression": 1,
    }
